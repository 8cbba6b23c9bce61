"""Checksums behind the body, where the server hands trailers over: the spec's sentences."""

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, Asked, Running, running, sha1
from tusd_py.protocol.checksum import ALGORITHMS
from tusd_py.protocol.upload import Tail

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
ANNOUNCED = {"Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
GOOD = sha1(HELLO)["Upload-Checksum"]


def checksum(algorithm: str, data: bytes) -> str:
    digest = ALGORITHMS[algorithm][0]()
    digest.update(data)
    return f"{algorithm} {base64.b64encode(digest.digest()).decode()}"


class Sent:
    """A chunked request whose trailers are handed over, as by `tusd-py serve`."""

    def __init__(self, server: Running, method: str, path: str, headers: dict[str, str]) -> None:
        self._trailers: list[tuple[bytes, bytes]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = {"tusd_py.trailers": self._trailers}
            await server.tus({**scope, "extensions": extensions}, receive, send)

        self.asked = Asked(app, method, path, TUS | OFFSET_TYPE | headers)

    async def whole(self, data: bytes, *trailers: tuple[str, str]) -> int:
        """Sends the body in two pieces, then the trailers: the status of the answer."""
        self.asked.feed(data[:5])
        self.asked.feed(data[5:])
        self._trailers += [(name.encode(), value.encode()) for name, value in trailers]
        self.asked.feed(b"", more=False)
        return await self.asked.answered()


async def patched(
    server: Running, path: str, *trailers: tuple[str, str], offset: int = 0, header: str = ""
) -> int:
    given = ANNOUNCED | {"Upload-Offset": str(offset)}
    given |= {"Upload-Checksum": header} if header else {}
    return await Sent(server, "PATCH", path, given).whole(HELLO[offset:], *trailers)


async def test_extensions__is_announced_where_it_works_and_only_there(server: Running) -> None:
    """If the Server can handle trailers, this behavior MUST be announced by adding checksum-trailer
    to the Tus-Extension header.
    """
    asked = Sent(server, "OPTIONS", BASE, {}).asked
    assert await asked.answered() == 204
    assert asked.headers["tus-extension"].split(",")[-1] == "checksum-trailer"
    plain = await server.client.options(BASE)
    assert "checksum-trailer" not in plain.headers["Tus-Extension"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_checksum__may_be_included_as_a_trailer(server: Running, algorithm: str) -> None:
    """If the hash cannot be calculated at the beginning of the upload, it MAY be included as a
    trailer.
    """
    path = await server.create(11)
    value = checksum(algorithm, HELLO)
    assert await patched(server, path, ("upload-checksum", value)) == 204
    assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize(
    ("trailers", "status", "said"),
    [
        ([("upload-checksum", sha1(b"other")["Upload-Checksum"])], 460, "ERR_CHECKSUM_MISMATCH"),
        ([("upload-checksum", "md4 YQ==")], 400, "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM"),
        ([("upload-checksum", "sha1")], 400, "ERR_INVALID_CHECKSUM"),
        ([("upload-checksum", "sha1 YQ==")], 400, "ERR_INVALID_CHECKSUM"),
        ([], 400, "ERR_INVALID_CHECKSUM: Upload-Checksum was announced"),
        ([("expires", "never")], 400, "ERR_INVALID_CHECKSUM: Upload-Checksum was announced"),
        ([("upload-checksum", GOOD), ("upload-checksum", GOOD)], 400, "ERR_INVALID_HEADER"),
    ],
)
async def test_checksum__what_does_not_match_its_trailer_is_discarded(
    server: Running, trailers: list[tuple[str, str]], status: int, said: str
) -> None:
    """In the first two cases the uploaded chunk MUST be discarded, and the upload and its offset
    MUST NOT be updated.
    """
    path = await server.create(11)
    before = await server.record(path)
    sent = Sent(server, "PATCH", path, ANNOUNCED | {"Upload-Offset": "0"})
    assert await sent.whole(HELLO, *trailers) == status
    assert sent.asked.body.decode().startswith(said)
    assert server.size(path) == await server.offset(path) == 0
    after = await server.record(path)
    assert (after.upload_offset, after.tail) == (before.upload_offset, Tail.OPEN)
    assert await patched(server, path, ("upload-checksum", GOOD)) == 204


async def test_checksum__nothing_counts_before_it_was_verified(server: Running) -> None:
    """A client that vanishes before its trailer has sent nothing; neither has one that was killed
    with the server: what lies in the file is sealed.
    """
    path = await server.create(11)
    sent = Sent(server, "PATCH", path, ANNOUNCED | {"Upload-Offset": "0"})
    sent.asked.feed(HELLO)
    while server.size(path) < 11:
        await asyncio.sleep(0.01)
    assert (await server.record(path)).tail is Tail.SEALED
    sent.asked.vanish()
    await sent.asked.answered()
    assert server.size(path) == await server.offset(path) == 0


@pytest.mark.parametrize("value", [GOOD, sha1(b"other")["Upload-Checksum"]])
async def test_checksum__a_trailer_that_was_not_announced_does_not_count(
    server: Running, value: str
) -> None:
    """Whoever relays the request may drop it: only `Trailer` says that one belongs to it."""
    path = await server.create(11)
    given = {"Transfer-Encoding": "chunked", "Upload-Offset": "0"}
    sent = Sent(server, "PATCH", path, given)
    assert await sent.whole(HELLO, ("upload-checksum", value)) == 204


@pytest.mark.parametrize(("in_header", "status"), [(HELLO, 204), (b"other", 460)])
async def test_checksum__a_header_beside_the_trailer_counts_too(
    server: Running, in_header: bytes, status: int
) -> None:
    """Two statements about the same bytes must both be true."""
    path = await server.create(11)
    header = checksum("md5", in_header)
    assert await patched(server, path, ("upload-checksum", GOOD), header=header) == status


async def test_checksum__a_body_of_known_length_has_no_trailers(server: Running) -> None:
    """Nothing would ever come behind it, so it is refused before it is read."""
    path = await server.create(11)
    given = {"Trailer": "Upload-Checksum", "Content-Length": "11", "Upload-Offset": "0"}
    sent = Sent(server, "PATCH", path, given)
    assert await sent.whole(HELLO, ("upload-checksum", GOOD)) == 400
    assert "in a body that is not chunked" in sent.asked.body.decode()
    assert server.size(path) == 0


async def test_checksum__at_an_offset_it_is_that_of_the_payload(server: Running) -> None:
    """The Upload-Checksum request header contains information about the checksum of the current
    body payload.
    """
    path = await server.create(11)
    await server.patch(path, 0, HELLO[:5])
    value = sha1(HELLO[5:])["Upload-Checksum"]
    assert await patched(server, path, ("upload-checksum", value), offset=5) == 204
    assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize(
    ("value", "status"),
    [(GOOD, 201), (sha1(b"other")["Upload-Checksum"], 460), ("sha1", 400), ("md4 YQ==", 400)],
)
async def test_creation_with_upload__takes_trailers_too(
    server: Running, value: str, status: int
) -> None:
    """Of an upload whose content is refused nothing is left: its client learns of no URL."""
    given = ANNOUNCED | {"Upload-Length": "11"}
    sent = Sent(server, "POST", BASE, given)
    assert await sent.whole(HELLO, ("upload-checksum", value)) == status
    if status == 201:
        assert await server.bytes_of(sent.asked.headers["location"]) == HELLO
        return
    assert server.files() == []
    assert [str(upload.phase) for upload in await server.records()] == ["terminated"]


async def test_a_body_too_long_for_its_upload_is_not_verified(tmp_path: Path) -> None:
    """Its trailer was never reached; nothing of it counts."""
    async with running(tmp_path) as server:
        path = await server.create(8)
        assert await patched(server, path, ("upload-checksum", GOOD)) == 413
        assert server.size(path) == 0


async def test_only_announced_trailers_cost_every_digest(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain upload, and one with its checksum in a header, are not slowed down."""
    started: list[str] = []

    def counted(name: str) -> object:
        started.append(name)
        return hashlib.new(name, usedforsecurity=False)

    for name in ("sha1", "md5", "sha256", "sha512"):
        size = ALGORITHMS[name][1]
        monkeypatch.setitem(ALGORITHMS, name, (lambda name=name: counted(name), size))
    await server.whole(HELLO)
    assert started == []
    await server.whole(HELLO, Upload_Checksum=GOOD)
    assert started == ["sha1"]
    path = await server.create(11)
    assert await patched(server, path, ("upload-checksum", GOOD)) == 204
    assert started == ["sha1", "sha1", "md5", "sha256", "sha512"]
