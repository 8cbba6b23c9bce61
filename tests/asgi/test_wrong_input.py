"""What a person would type: the right status, a sentence that says what to do, nothing stored."""

import asyncio
import string
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asgi import raw
from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, Running, running
from tests.serving import Served
from tusd_py.app import Settings

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
V = TUS["Tus-Resumable"]
SIZE = "Upload-Length"
ARABIC = "\u0661\u0662".encode().decode("latin-1")

POSTS: list[tuple[str, dict[str, str], int, str]] = [
    ("no version", {SIZE: "5"}, 412, "send the header 'Tus-Resumable: 1.0.0'"),
    ("old version", {"Tus-Resumable": "0.2.2", SIZE: "5"}, 412, "send the header"),
    ("no length", TUS, 400, "Upload-Length is missing; send it, or 'Upload-Defer-Length: 1'"),
    ("negative", TUS | {SIZE: "-1"}, 400, "must be a whole number of bytes"),
    ("signed", TUS | {SIZE: "+5"}, 400, "digits only"),
    ("underscore", TUS | {SIZE: "1_0"}, 400, "digits only"),
    ("twenty digits", TUS | {SIZE: "1" * 20}, 400, "at most 19"),
    ("over 2^63", TUS | {SIZE: "9" * 19}, 400, "must be at most 9223372036854775807"),
    ("Arabic digits", TUS | {SIZE: ARABIC}, 400, "digits only"),
    ("a unit", TUS | {SIZE: "5MB"}, 400, "digits only"),
    ("empty", TUS | {SIZE: ""}, 400, "digits only"),
    ("too large", TUS | {SIZE: "1000001"}, 413, "more than the 1000000 that this server takes"),
    ("deferred 0", TUS | {"Upload-Defer-Length": "0"}, 400, "must be 1 or absent"),
    ("both", TUS | {SIZE: "5", "Upload-Defer-Length": "1"}, 400, "send one of them"),
    ("bad Base64", TUS | {SIZE: "5", "Upload-Metadata": "name world"}, 400, "'name'"),
    ("no padding", TUS | {SIZE: "5", "Upload-Metadata": "name YWI"}, 400, "with padding"),
    ("a key twice", TUS | {SIZE: "5", "Upload-Metadata": "a YQ==,a YQ=="}, 400, "unique"),
    ("no key", TUS | {SIZE: "5", "Upload-Metadata": ",a YQ=="}, 400, "needs a key"),
    ("long metadata", TUS | {SIZE: "5", "Upload-Metadata": "a " + "YWFh" * 5000}, 400, "16384"),
    ("nonsense concat", TUS | {SIZE: "5", "Upload-Concat": "whole"}, 400, "'partial' or 'final;"),
    ("final of nothing", TUS | {"Upload-Concat": "final;"}, 400, "list URLs"),
    ("final of a path", TUS | {"Upload-Concat": "final;/etc/passwd"}, 400, "under /files/"),
    ("final upwards", TUS | {"Upload-Concat": "final;/files/.."}, 400, "under /files/"),
    ("override", TUS | {SIZE: "5", "X-HTTP-Method-Override": "BREW"}, 405, "use one of"),
]
PATCHES: list[tuple[str, dict[str, str], int, str]] = [
    ("no version", {"Tus-Resumable": ""}, 412, "send the header 'Tus-Resumable: 1.0.0'"),
    ("wrong offset", {"Upload-Offset": "5"}, 409, "ask with HEAD"),
    ("negative", {"Upload-Offset": "-1"}, 400, "whole number of bytes"),
    ("signed", {"Upload-Offset": "+0"}, 400, "digits only"),
    ("words", {"Upload-Offset": "zero"}, 400, "digits only"),
    ("wrong type", {"Content-Type": "application/json"}, 415, "send 'Content-Type: applicat"),
    ("too long", {"Upload-Length": "3"}, 400, "cannot change"),
    ("unknown checksum", {"Upload-Checksum": "crc99 AAAA"}, 400, "is not one of sha1,md5"),
    ("digest size", {"Upload-Checksum": "sha1 AAAA"}, 400, "has 3 bytes; a sha1 has 20"),
    ("digest in hex", {"Upload-Checksum": "sha1:aaf4c61d"}, 400, "the digest in Base64"),
    ("bad digest", {"Upload-Checksum": "sha1 ????"}, 400, "the digest in Base64"),
    ("trailer", {"Trailer": "upload-checksum"}, 400, "send it as a header"),
    ("override", {"X-HTTP-Method-Override": "nonsense"}, 405, "use one of"),
]


def check(status: int, text: str, expected: int, words: str) -> None:
    """The status, the words, a stable code before them, and nothing of the inside."""
    assert status == expected, text
    code, colon, sentence = text.partition(": ")
    assert code.startswith("ERR_"), text
    assert code.isupper(), text
    assert colon, text
    assert words in sentence
    assert "Traceback" not in text
    assert ".py" not in text


@pytest.mark.parametrize(("name", "headers", "status", "words"), POSTS, ids=[p[0] for p in POSTS])
async def test_a_wrong_post_makes_nothing(
    server: Running, name: str, headers: dict[str, str], status: int, words: str
) -> None:
    """A typo must not leave an upload behind, nor a riddle."""
    raw_headers = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    answer = await server.client.post(BASE, headers=raw_headers)
    check(answer.status_code, answer.text, status, words)
    assert "Location" not in answer.headers, "tuspy takes it without a look at the status"
    assert await server.records() == []
    assert server.files() == []


@pytest.mark.parametrize(
    ("name", "headers", "status", "words"), PATCHES, ids=[p[0] for p in PATCHES]
)
async def test_a_wrong_patch_changes_nothing(
    server: Running, name: str, headers: dict[str, str], status: int, words: str
) -> None:
    """What is refused was not stored, so that the right request still works."""
    path = await server.create(11)
    before = await server.record(path)
    sent = TUS | OFFSET_TYPE | {"Upload-Offset": "0"} | headers
    answer = await server.client.patch(path, headers=sent, content=HELLO)
    check(answer.status_code, answer.text, status, words)
    assert await server.record(path) == before
    assert [file.stat().st_size for file in server.files()] in ([], [0])
    assert (await server.patch(path, 0, HELLO)).status_code == 204


@pytest.mark.parametrize(
    ("method", "headers", "header"),
    [
        ("POST", [(SIZE, "5"), (SIZE, "5")], SIZE),
        ("POST", [(SIZE, "5"), ("Upload-Metadata", "a"), ("Upload-Metadata", "b")], "Upload-M"),
        ("PATCH", [("Upload-Offset", "0"), ("Upload-Offset", "0")], "Upload-Offset"),
        ("PATCH", [("Upload-Offset", "0"), ("Content-Type", "text/plain")], "Content-Type"),
    ],
)
async def test_a_header_that_stands_twice_is_refused(
    server: Running, method: str, headers: list[tuple[str, str]], header: str
) -> None:
    """Two servers in a row that pick different ones of the two would disagree about the upload."""
    path = await server.create(11)
    where = BASE if method == "POST" else path
    both = [*TUS.items(), *(OFFSET_TYPE.items() if method == "PATCH" else ()), *headers]
    answer = await server.client.request(method, where, headers=both)
    check(answer.status_code, answer.text, 400, "send it once")
    assert header in answer.text


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize(
    "target",
    [
        "/files/../../etc/passwd",
        "/files/%2e%2e/%2e%2e/etc/passwd",
        "/files/..%2f..%2fetc%2fpasswd",
        "/files/.instance",
        "/files/a%00b",
        "/files/never-was",
        "/files/a/b",
        "/files/" + "a" * 200,
        "/files/%ff%fe",
    ],
)
def test_a_path_that_leads_nowhere_is_404(served: Served, method: str, target: str) -> None:
    """An id is looked up, never joined to a folder's name as it came."""
    headers = raw.PATCH_HEAD | {"Upload-Offset": "0", "Content-Length": "0"}
    with raw.connected(served.port) as connection:
        connection.start(method, target, headers)
        answer = connection.answer(method)
    assert answer.status == 404
    if method != "HEAD":
        check(answer.status, answer.body.decode(), 404, "there is no upload")


@pytest.mark.parametrize("method", ["PUT", "TRACE", "PROPFIND", "get", "LOCK"])
@pytest.mark.parametrize("where", ["", "some-id"])
async def test_an_unknown_method_is_told_the_known_ones(
    server: Running, method: str, where: str
) -> None:
    """RFC 9110, 15.5.6: a 405 says in `Allow` what is possible."""
    asked = server.ask(method, BASE + where)
    status = await asked.answered()
    if method == "get" and where:
        check(status, asked.body.decode(), 404, "there is no upload")
        return
    check(status, asked.body.decode(), 405, "use one of")
    assert asked.headers["allow"].startswith("OPTIONS, ")


async def test_a_get_of_the_creation_url_is_405(server: Running) -> None:
    """The URL of a form is not a page."""
    answer = await server.client.get(BASE)
    check(answer.status_code, answer.text, 405, "OPTIONS, POST")


async def test_a_finished_upload_takes_nothing_more(server: Running) -> None:
    """A client that repeats its last request is told where it stands, not given a second copy."""
    path = await server.whole(HELLO)
    for offset, body, status in ((0, HELLO, 409), (11, b"!", 413), (11, b"", 204)):
        assert (await server.patch(path, offset, body)).status_code == status
    assert await server.bytes_of(path) == HELLO


async def test_an_empty_patch_to_a_finished_part_tells_its_true_expiry(server: Running) -> None:
    """Nothing is committed then, so nothing may be promised."""
    path = await server.whole(HELLO, Upload_Concat="partial")
    server.clock.now += 3600
    answer = await server.patch(path, 11, b"")
    assert answer.status_code == 204
    assert answer.headers["Upload-Expires"] == (await server.head(path)).headers["Upload-Expires"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("method", ["PATCH", "POST"])
async def test_a_body_beyond_the_length_is_413_and_none_of_it_is_kept(
    server: Running, method: str, chunked: bool
) -> None:
    """PEERS, fastapi-tusd: 50 bytes into an upload of 10 give 204."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")

    async def pieces() -> AsyncIterator[bytes]:
        yield b" wor"
        yield b"ld and more"

    sent = TUS | OFFSET_TYPE | {"Upload-Offset": "5"}
    content = pieces() if chunked else b" world and more"
    if method == "POST":
        sent |= {SIZE: "11"}
        answer = await server.client.post(BASE, headers=sent, content=content)
        assert len([one for one in await server.records() if one.phase == "receiving"]) == 1
    else:
        answer = await server.client.patch(path, headers=sent, content=content)
    check(answer.status_code, answer.text, 413, "beyond the upload's 11 bytes")
    assert await server.offset(path) == 5
    assert server.file(path).read_bytes() == b"hello"
    assert (await server.patch(path, 5, b" world")).status_code == 204
    assert await server.bytes_of(path) == HELLO


async def test_a_chunked_body_of_a_deferred_length_stops_at_the_maximum(server: Running) -> None:
    """Without a length the limit of the server is the only one."""
    path = await server.create(None)
    asked = server.patching(path, 0)
    asked.feed(bytes(999_999))
    asked.feed(b"12", more=False)
    check(
        await asked.answered(), asked.body.decode(), 413, "1000001 bytes are more than the 1000000"
    )
    assert await server.offset(path) == 0


async def test_a_problem_is_json_for_those_who_ask(server: Running) -> None:
    """RFC 9457: programs need not parse a sentence."""
    headers = TUS | {"Accept": "application/problem+json"}
    answer = await server.client.post(BASE, headers=headers)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "title": "ERR_INVALID_UPLOAD_LENGTH",
        "status": 400,
        "detail": "Upload-Length is missing; "
        "send it, or 'Upload-Defer-Length: 1' if it comes later",
        "section": "Core Protocol, Upload-Length",
    }


async def test_a_defect_is_500_without_its_inside(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stack trace is for the log; a HEAD is told to come back: clients would begin anew."""

    async def broken(_: str) -> None:
        raise RuntimeError("secret inside")

    path = await server.create(11)
    monkeypatch.setattr(server.tus.state, "load", broken)
    server.takes_disk_for(quick=False)
    answer = await server.patch(path, 0, HELLO)
    check(answer.status_code, answer.text, 500, "try again")
    assert "secret" not in answer.text
    assert (await server.head(path)).status_code == 423
    assert "secret inside" in caplog.text


async def test_a_request_id_of_the_client_is_kept_if_it_is_harmless(server: Running) -> None:
    """It goes into the log and back, so it is checked."""
    for given_id, kept in (("abc-123", True), ("a b", False), ("x" * 200, False)):
        answer = await server.client.get(BASE + "x", headers={"X-Request-ID": given_id})
        assert (answer.headers["X-Request-ID"] == given_id) is kept


NAMES = [
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-defer-length",
    "upload-concat",
    "upload-checksum",
    "content-type",
    "content-length",
    "transfer-encoding",
    "trailer",
    "expect",
    "host",
    "origin",
    "x-http-method-override",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "forwarded",
    "range",
    "x-forwarded-prefix",
    "if-range",
    "if-none-match",
    "accept",
    "x-request-id",
    "authorization",
]
SENSIBLE = [
    "1.0.0",
    "1",
    "0",
    "5",
    "application/offset+octet-stream",
    "partial",
    "final;/files/a",
    "chunked",
    "100-continue",
    "PATCH",
    "DELETE",
    "HEAD",
    "bytes=0-1",
    "bytes=5-2",
    "bytes=,",
    "upload-checksum",
    "W/",
    "*",
    "application/problem+json",
    "filename",
    "final;",
]
VALUE = st.one_of(
    st.sampled_from(SENSIBLE).map(str.encode),
    st.binary(max_size=24).map(
        # RFC 9110, 5.5, as parsers hold it: no control characters but the tab.
        lambda value: bytes(b for b in value if b == 9 or (b >= 0x20 and b != 0x7F))
    ),
    st.sampled_from([b"\xb2", b"9" * 30, b"a" * 5000, b"a" * 3 + b" ====", b"sha1 \xff"]),
)
METHOD = st.one_of(
    st.sampled_from(["POST", "PATCH", "HEAD", "GET", "DELETE", "OPTIONS"]),
    st.text(string.ascii_uppercase, min_size=1, max_size=8),
)
WHERE = st.one_of(
    st.sampled_from(["", "{whole}", "{open}", "{final}", "..", "x"]),
    st.text(max_size=12),
)


@given(
    data=st.lists(
        st.tuples(
            METHOD,
            WHERE,
            st.lists(st.tuples(st.sampled_from(NAMES), VALUE), max_size=7),
            st.binary(max_size=20),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_header_and_no_method_gives_a_5xx(
    tmp_path_factory: pytest.TempPathFactory,
    data: list[tuple[str, str, list[tuple[str, bytes]], bytes]],
) -> None:
    """A 5xx makes clients try for ever, and means that nobody thought of it."""

    async def run() -> None:
        async with running(tmp_path_factory.mktemp("any")) as server:
            ids = await prepared(server)
            for method, where, headers, body in data:
                await one(server, method, BASE + fill(where, ids), headers, body)

    anyio.run(run)


def fill(where: str, ids: dict[str, str]) -> str:
    return ids.get(where, where)


async def prepared(server: Running) -> dict[str, str]:
    part = await server.create(5, Upload_Concat="partial")
    paths = {
        "{whole}": await server.whole(HELLO),
        "{open}": await server.create(11),
        "{final}": await server.final(part),
    }
    return {name: path.rpartition("/")[2] for name, path in paths.items()}


async def one(
    server: Running, method: str, path: str, headers: list[tuple[str, bytes]], body: bytes
) -> None:
    """One request, with the version and the type so that most get past the door."""
    sent: list[int] = []
    pairs = dict(headers)
    given = [
        (b"tus-resumable", V.encode()),
        (b"content-type", OFFSET_TYPE["Content-Type"].encode()),
    ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "headers": [pair for pair in given if pair[0].decode() not in pairs]
        + [(name.encode(), value) for name, value in headers],
    }

    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, object]:
        # Behind the body nothing comes: a file response waits here for the client to leave.
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        if "status" in message:
            sent.append(message["status"])
            for _, value in message["headers"]:
                assert not set(value) & {0, 10, 13}

    await server.tus(scope, receive, send)
    assert len(sent) == 1
    assert 200 <= sent[0] < 500, (method, path, headers, body)


async def test_while_the_server_ends_nothing_new_is_taken(server: Running) -> None:
    """CLIENTS: a HEAD that is answered 503 makes tus-js-client begin anew."""
    path = await server.create(11)
    whole = await server.whole(HELLO)
    server.tus.interrupt()
    assert (await server.patch(path, 0, HELLO)).status_code == 503
    assert (await server.post(Upload_Length="1")).status_code == 503
    assert (await server.head(path)).status_code == 423
    assert await server.bytes_of(whole) == HELLO


async def test_a_path_beside_the_base_creates_nothing(tmp_path: Path) -> None:
    """Otherwise: a typo in the endpoint makes uploads that nobody finds under their URL."""
    async with running(tmp_path, settings=Settings(base_path="/up/")) as server:
        headers = TUS | {"Upload-Length": "1"}
        for path in ("/other", "/upp", "/", "/u"):
            assert (await server.client.post(path, headers=headers)).status_code == 404
        for path in ("/up", "/up/"):
            assert (await server.client.post(path, headers=headers)).status_code == 201
