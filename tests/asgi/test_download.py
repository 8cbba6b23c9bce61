"""`GET`: the bytes, in ranges, and safe to be opened from a browser."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from tests.asgi.in_process import BASE, Running
from tusd_py.protocol.content import build_content_disposition
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Upload

pytestmark = pytest.mark.anyio

HELLO = b"hello world"


@pytest.fixture(params=[True, False], ids=["quick disk", "slow disk"])
def server(server: Running, request: pytest.FixtureRequest) -> Running:
    """The server of these tests, which looks at files at once, or in threads."""
    is_quick = bool(request.param)
    server.tus.services.pace.is_quick = lambda *, durable: is_quick  # type: ignore[method-assign]
    return server


def metadata(**pairs: str | bytes) -> str:
    return build_upload_metadata(
        {key: value if isinstance(value, bytes) else value.encode() for key, value in pairs.items()}
    )


async def test_the_whole_file(server: Running) -> None:
    """CLIENTS: GET gives the bytes without `Tus-Resumable`."""
    path = await server.whole(HELLO)
    answer = await server.client.get(path)
    assert answer.status_code == 200
    assert answer.content == HELLO
    assert answer.headers["Content-Length"] == "11"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=0-4", 206, b"hello"),
        ("bytes=6-", 206, b"world"),
        ("bytes=-5", 206, b"world"),
        ("bytes=0-999", 206, HELLO),
        ("bytes=11-12", 416, None),
        ("bytes=99-", 416, None),
    ],
)
async def test_a_range(server: Running, wanted: str, status: int, content: bytes | None) -> None:
    """RFC 9110, 14: a player seeks, a download goes on where it stopped."""
    path = await server.whole(HELLO)
    answer = await server.client.get(path, headers={"Range": wanted})
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert answer.headers["Content-Range"].endswith("/11")
    else:
        assert answer.headers["Content-Range"] == "bytes */11"


async def test_several_ranges(server: Running) -> None:
    """RFC 9110, 14.6: they come as parts."""
    path = await server.whole(HELLO)
    answer = await server.client.get(path, headers={"Range": "bytes=0-1,6-7"})
    assert answer.status_code == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert b"bytes 0-1/11" in answer.content
    assert b"bytes 6-7/11" in answer.content


async def test_a_range_of_another_version_is_the_whole(server: Running) -> None:
    """RFC 9110, 13.1.5: halves of two files must not be glued together."""
    path = await server.whole(HELLO)
    etag = (await server.client.get(path)).headers["ETag"]
    for tag, status in ((etag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-4", "If-Range": tag}
        assert (await server.client.get(path, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("", 200),
    ],
)
async def test_what_the_client_has_is_not_sent_again(
    server: Running, asked: str, status: int
) -> None:
    """RFC 9110, 13.1.2 and 15.4.5: a 304 has the headers that the 200 would have, and no length
    of its own.
    """
    path = await server.whole(HELLO)
    whole = await server.client.get(path)
    headers = {"If-None-Match": asked.format(etag=whole.headers["ETag"])}
    answer = await server.client.get(path, headers=headers)
    assert answer.status_code == status
    for name in ("ETag", "Cache-Control", "Tus-Resumable"):
        assert answer.headers[name] == whole.headers[name]
    if status == 304:
        assert "Content-Length" not in answer.headers
        assert answer.content == b""


@pytest.mark.parametrize(
    ("filetype", "sent", "kind"),
    [
        ("image/png", "image/png", "inline"),
        (" IMAGE/PNG ", "image/png", "inline"),
        ("text/plain", "text/plain; charset=utf-8", "inline"),
        ("text/html", "application/octet-stream", "attachment"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("application/javascript", "application/octet-stream", "attachment"),
        ("image/png\r\nX-Evil: 1", "application/octet-stream", "attachment"),
        ("text/html;image/png", "application/octet-stream", "attachment"),
        ("", "application/octet-stream", "attachment"),
    ],
)
async def test_a_type_that_could_run_a_script_is_not_believed(
    server: Running, filetype: str, sent: str, kind: str
) -> None:
    """Whoever uploads chooses the type, and a page of ours would run with our cookies."""
    path = await server.whole(b"<script>", Upload_Metadata=metadata(filetype=filetype))
    answer = await server.client.get(path)
    assert answer.headers["Content-Type"] == sent
    assert answer.headers["Content-Disposition"] == kind
    assert "X-Evil" not in answer.headers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "filename=\"a.txt\"; filename*=UTF-8''a.txt"),
        ("ü.txt", "filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"),
        ('a".txt', "filename=\"a'.txt\"; filename*=UTF-8''a%22.txt"),
        ("../../etc/passwd", "filename=\".._.._etc_passwd\"; filename*=UTF-8''.._.._etc_passwd"),
        ("a\r\nX-Evil: 1", "filename=\"aX-Evil: 1\"; filename*=UTF-8''aX-Evil%3A%201"),
        ("a\\b;c", "filename=\"a_b;c\"; filename*=UTF-8''a_b%3Bc"),
        (b"\xff", "filename=\"_\"; filename*=UTF-8''%EF%BF%BD"),
        ("\u202egpj.exe", "filename=\"gpj.exe\"; filename*=UTF-8''gpj.exe"),
    ],
)
async def test_the_name_is_harmless(server: Running, name: str | bytes, expected: str) -> None:
    """RFC 6266, 4.3, and RFC 8187: any name goes into `filename*`, and none ends the line."""
    path = await server.whole(HELLO, Upload_Metadata=metadata(filename=name))
    answer = await server.client.get(path)
    assert answer.headers["Content-Disposition"] == f"attachment; {expected}"
    assert "X-Evil" not in answer.headers


def test_a_long_name_is_cut_and_another_key_will_do() -> None:
    """Some clients say `name`."""
    built = build_content_disposition({"name": b"x" * 5000})
    assert f'filename="{"x" * 200}"' in built


async def test_what_is_not_finished_is_not_given_out(server: Running) -> None:
    """Half a file looks like a whole one to whoever downloads it."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    answer = await server.client.get(path)
    assert answer.status_code == 400
    assert "5 of 11 bytes are here" in answer.text
    deferred = await server.create(None)
    assert "an unknown number" in (await server.client.get(deferred)).text
    assert (await server.client.get(BASE + "never")).status_code == 404


async def test_a_file_that_somebody_removed_is_404(server: Running) -> None:
    """The one who looks after the disk may clear it by hand."""
    path = await server.whole(HELLO)
    server.file(path).unlink()
    assert (await server.client.get(path)).status_code == 404


async def test_a_file_that_goes_while_it_is_asked_for_is_404(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await server.whole(HELLO)

    async def has(_: Upload, *, at_once: bool) -> bool:
        server.file(path).unlink()
        return True

    monkeypatch.setattr(server.tus.storage, "has", has)
    assert (await server.client.get(path)).status_code == 404


async def test_what_an_earlier_answer_gave_is_not_confirmed_once_it_is_gone(
    server: Running,
) -> None:
    path = await server.whole(HELLO)
    etag = (await server.client.get(path)).headers["ETag"]
    server.file(path).unlink()
    answer = await server.client.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == 404


async def test_an_empty_file(server: Running) -> None:
    """It has a URL as any other, and no range of it can be had."""
    path = await server.create(0)
    assert await server.bytes_of(path) == b""


async def test_a_failure_behind_the_head_is_not_hidden(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the head is out only the end of the connection can say that something is wrong."""
    path = await server.whole(HELLO)

    class Broken(FileResponse):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("the disk went away")

    monkeypatch.setattr("tusd_py.asgi.download.FileResponse", Broken)
    asked = server.ask("GET", path)
    assert await asked.answered() == 200
    assert asked.body == b""


@dataclass(kw_only=True)
class Sent:
    """What a server that sends files would have got, and sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    body: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    is_ended: bool = False

    async def send(self, message: Any) -> None:
        assert not self.is_ended
        kind = message["type"].removeprefix("http.response.")
        self.kinds.append(kind)
        match kind:
            case "start":
                self.status = message["status"]
                self.headers = {name.decode().lower(): v.decode() for name, v in message["headers"]}
                return
            case "zerocopysend":
                self.descriptors.append(message["file"].fileno())
                self.body += os.pread(message["file"].fileno(), message["count"], message["offset"])
            case "pathsend":
                self.body += Path(message["path"]).read_bytes()
            case "body":
                self.body += message.get("body", b"")
        self.is_ended = not message.get("more_body", False)

    async def pass_on(self, message: Any) -> None:
        """As a middleware does that looks at what passes."""
        await self.send(message)


ZERO = "http.response.zerocopysend"
PATH = "http.response.pathsend"


async def sent(
    server: Running,
    path: str,
    *extensions: str,
    behind: bool = False,
    **headers: str,
) -> Sent:
    """A `GET` of a server that has these extensions, perhaps `behind` a middleware."""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    whole: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        # Where a server says so, Starlette does not wait for the client to leave.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": path,
        "scheme": "http",
        "server": ("testserver", 80),
        "headers": [
            (name.replace("_", "-").lower().encode(), value.encode())
            for name, value in headers.items()
            if value
        ],
        "extensions": {name: {} for name in extensions},
    }
    answer = Sent()
    whole["extensions"]["tusd_py.send"] = answer.send
    send = answer.pass_on if behind else answer.send
    await server.tus(whole, receive, send)
    return answer


@pytest.mark.parametrize("extensions", [(ZERO,), (ZERO, PATH)])
@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        (None, 200, HELLO),
        ("bytes=0-4", 206, b"hello"),
        ("bytes=6-", 206, b"world"),
        ("bytes=-5", 206, b"world"),
        ("bytes=10-999", 206, b"d"),
    ],
)
async def test_the_server_sends_the_file(
    server: Running, extensions: tuple[str, ...], wanted: str | None, status: int, content: bytes
) -> None:
    """No byte of it comes through here, and the head is the same as without."""
    path = await server.whole(HELLO)
    asked = wanted or ""
    plain = await sent(server, path, Range=asked)
    answer = await sent(server, path, *extensions, Range=asked)
    assert (answer.status, answer.body) == (plain.status, plain.body) == (status, content)
    assert answer.kinds == ["start", "zerocopysend"]
    assert plain.kinds[:2] == ["start", "body"]
    for one in (answer, plain):
        one.headers.pop("x-request-id")
    assert answer.headers == plain.headers
    assert answer.headers["content-length"] == str(len(content))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(answer.descriptors[0])


@pytest.mark.parametrize(
    ("wanted", "status"),
    [("bytes=11-12", 416), ("bytes=3-2", 400), ("lines=1-2", 400), ("bytes=0-1,6-7", 206)],
)
async def test_what_is_no_single_range_is_answered_as_ever(
    server: Running, wanted: str, status: int
) -> None:
    path = await server.whole(HELLO)
    answer = await sent(server, path, ZERO, Range=wanted)
    assert answer.status == status
    assert "zerocopysend" not in answer.kinds
    assert answer.is_ended
    assert answer.headers["content-length"] == str(len(answer.body))
    if status == 206:
        assert b"bytes 0-1/11" in answer.body
        assert b"bytes 6-7/11" in answer.body


async def test_a_range_of_another_version_is_the_whole_there_too(server: Running) -> None:
    path = await server.whole(HELLO)
    etag = (await sent(server, path, ZERO)).headers["etag"]
    for tag, content in ((etag, b"hello"), ('"other"', HELLO)):
        answer = await sent(server, path, ZERO, Range="bytes=0-4", If_Range=tag)
        assert (answer.body, answer.kinds) == (content, ["start", "zerocopysend"])
    assert (await sent(server, path, ZERO, If_None_Match=etag)).status == 304


async def test_an_empty_file_needs_no_sending(server: Running) -> None:
    path = await server.create(0)
    answer = await sent(server, path, ZERO)
    assert (answer.status, answer.kinds, answer.body) == (200, ["start", "body"], b"")
    assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize("extensions", [(), (PATH,), (ZERO,)])
async def test_a_file_that_somebody_cut_is_not_the_upload(
    server: Running, extensions: tuple[str, ...]
) -> None:
    """The client would take the part for the whole: it has the length of a success."""
    path = await server.whole(HELLO)
    os.truncate(server.file(path), 10)
    answer = await sent(server, path, *extensions)
    assert answer.status == 410
    assert b"ERR_STORED_BYTES_LOST" in answer.body


@pytest.mark.parametrize("extensions", [(), (ZERO,)])
async def test_what_is_no_file_is_404(server: Running, extensions: tuple[str, ...]) -> None:
    """A pipe must hold no thread, and a folder has no bytes."""
    for path in (await server.whole(HELLO), await server.create(0)):
        file = server.file(path)
        file.unlink()
        os.mkfifo(file)
        assert (await sent(server, path, *extensions)).status == 404
        file.unlink()
        file.mkdir()
        assert (await sent(server, path, *extensions)).status == 404
        file.rmdir()


@pytest.mark.parametrize("extensions", [(), (ZERO,)])
async def test_a_file_of_another_upload_in_its_place_is_404(
    server: Running, extensions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are not for whoever has this URL."""
    path = await server.whole(HELLO)

    async def has(_: Upload, *, at_once: bool) -> bool:
        return False

    monkeypatch.setattr(server.tus.storage, "has", has)
    assert (await sent(server, path, *extensions)).status == 404


async def test_a_file_that_cannot_be_opened_is_a_failure_of_the_storage(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await server.whole(HELLO)

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tusd_py.asgi.download._open_regular", fail)
    answer = await sent(server, path, ZERO)
    assert answer.status == 500
    assert b"ERR_STORAGE" in answer.body


async def test_what_is_sent_is_what_was_there_when_the_head_was_made(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file in its place would go out under this one's tag."""
    path = await server.whole(HELLO)

    async def has(_: Upload, *, at_once: bool) -> bool:
        file.unlink()
        file.write_bytes(b"HELLO WORLD!")
        return True

    file = server.file(path)
    monkeypatch.setattr(server.tus.storage, "has", has)
    answer = await sent(server, path, ZERO)
    assert (answer.status, answer.body) == (200, HELLO)


async def test_behind_a_middleware_the_bytes_come_through_it(server: Running) -> None:
    """Starlette's middleware drops a message that it does not know, or fails on it."""
    path = await server.whole(HELLO)
    answer = await sent(server, path, ZERO, PATH, behind=True)
    assert (answer.kinds, answer.body) == (["start", "pathsend"], HELLO)
    answer = await sent(server, path, ZERO, PATH, behind=True, Range="bytes=0-4")
    assert (answer.kinds[1], answer.body) == ("body", b"hello")
