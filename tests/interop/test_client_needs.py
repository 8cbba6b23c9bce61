"""What real clients need, line by line: the exact shape of their requests, sent by hand.

The tests are in the order of the project's list of client needs, and carry its numbers. The
spelling of response headers (11) belongs to the wire and is not tested here.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.interop.conftest import watched
from tests.interop.wire import CHUNKED, Answer, Connection, connected, in_chunks
from tests.serving import Served

TUS = ("Tus-Resumable", "1.0.0")
BYTES = ("Content-Type", "application/offset+octet-stream")
EMPTY = ("Content-Length", "0")
CONTENT = bytes(range(256)) * 40
DAY = 24 * 3600
# RFC 9110, 5.6.7: IMF-fixdate, the one form that senders may use.
IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    r"[0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


@pytest.fixture
def connection(server: Served) -> Iterator[Connection]:
    with connected(server.port) as opened:
        yield opened


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with watched(tmp_path_factory.mktemp("proxied") / "uploads", "--behind-proxy") as served:
        yield served


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with watched(tmp_path_factory.mktemp("limited") / "uploads", "--max-size", "1000") as served:
        yield served


@pytest.fixture(scope="module")
def one_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pattern = ("--cors-allow-origin", r"https://app\.example\.org")
    with watched(tmp_path_factory.mktemp("one_origin") / "uploads", *pattern) as served:
        yield served


def length(count: int) -> tuple[str, str]:
    return ("Upload-Length", str(count))


def at(offset: int) -> tuple[str, str]:
    return ("Upload-Offset", str(offset))


def sha1(content: bytes) -> tuple[str, str]:
    digest = base64.b64encode(hashlib.sha1(content).digest()).decode()
    return ("Upload-Checksum", f"sha1 {digest}")


def path_of(created: Answer) -> str:
    """The path of the Location of a creation that succeeded."""
    assert created.status == 201, created
    location = created.header("Location")
    assert location is not None
    return urlsplit(location).path


def create(connection: Connection, *headers: tuple[str, str], count: int = len(CONTENT)) -> str:
    """Creates an upload in the plainest way, and returns its path."""
    return path_of(connection.ask("POST", "/files/", TUS, length(count), EMPTY, *headers))


def partial(connection: Connection, content: bytes) -> str:
    """Uploads a part for a concatenation, and returns its path."""
    part = create(connection, ("Upload-Concat", "partial"), count=len(content))
    assert connection.ask("PATCH", part, TUS, BYTES, at(0), body=content).status == 204
    return part


def complete(connection: Connection, *headers: tuple[str, str]) -> str:
    """Uploads the content, and returns its path."""
    upload = create(connection, *headers)
    assert connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT).status == 204
    return upload


# 1. Location is absolute by default.


def test_01_location_is_absolute(server: Served, connection: Connection) -> None:
    created = connection.ask("POST", "/files/", TUS, length(5), EMPTY)
    assert (created.header("Location") or "").startswith(server.url)


FORWARDED = [
    [("Forwarded", "host=up.example.org;proto=https")],
    [("X-Forwarded-Host", "up.example.org"), ("X-Forwarded-Proto", "https")],
]
NAMED = ["Forwarded", "X-Forwarded"]


@pytest.mark.parametrize("forwarded", FORWARDED, ids=NAMED)
def test_01_forwarded_headers_are_not_trusted_by_default(
    server: Served, connection: Connection, forwarded: list[tuple[str, str]]
) -> None:
    created = connection.ask("POST", "/files/", TUS, length(5), EMPTY, *forwarded)
    assert (created.header("Location") or "").startswith(server.url)


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (FORWARDED[0], "https://up.example.org/files/"),
        (FORWARDED[1], "https://up.example.org/files/"),
        ([*FORWARDED[1], ("X-Forwarded-Port", "8443")], "https://up.example.org:8443/files/"),
        ([*FORWARDED[1], ("X-Forwarded-Prefix", "/tus")], "https://up.example.org/tus/files/"),
    ],
    ids=[*NAMED, "Port", "Prefix"],
)
def test_01_location_behind_a_proxy(
    proxied: Served, forwarded: list[tuple[str, str]], expected: str
) -> None:
    with connected(proxied.port) as asking:
        created = asking.ask("POST", "/files/", TUS, length(5), EMPTY, *forwarded)
    assert (created.header("Location") or "").startswith(expected)


# 2. Statuses are exact.


def test_02_statuses_are_exact(connection: Connection) -> None:
    created = connection.ask("POST", "/files/", TUS, length(len(CONTENT)), EMPTY)
    upload = path_of(created)
    statuses = [
        created.status,
        connection.ask("HEAD", upload, TUS).status,
        connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT).status,
        connection.ask("DELETE", upload, TUS, EMPTY).status,
    ]
    assert statuses == [201, 200, 204, 204]


# 3. A request with Tus-Resumable is tus 1.0, whatever else it carries.

IETF = (("Upload-Draft-Interop-Version", "8"), ("Upload-Complete", "?0"))


def test_03_tus_resumable_decides_the_dialect(connection: Connection) -> None:
    created = connection.ask("POST", "/files/", TUS, length(len(CONTENT)), EMPTY, *IETF)
    upload = path_of(created)
    state = connection.ask("HEAD", upload, TUS, *IETF)
    appended = connection.ask("PATCH", upload, TUS, BYTES, at(0), *IETF, body=CONTENT)
    assert (state.status, appended.status) == (200, 204)
    for answer in (created, state, appended):
        assert answer.header("Tus-Resumable") == "1.0.0"
        assert answer.header("Upload-Complete") is None


# 4. Content-Length is never required.


def test_04_patch_in_chunks(connection: Connection) -> None:
    upload = create(connection)
    connection.start("PATCH", upload, TUS, BYTES, at(0), CHUNKED)
    connection.send(in_chunks(CONTENT))
    appended = connection.answer()
    assert (appended.status, appended.header("Upload-Offset")) == (204, str(len(CONTENT)))
    assert connection.ask("GET", upload).body == CONTENT


def test_04_creation_with_data_in_chunks(connection: Connection) -> None:
    connection.start("POST", "/files/", TUS, BYTES, length(len(CONTENT)), CHUNKED)
    connection.send(in_chunks(CONTENT))
    created = connection.answer()
    assert created.header("Upload-Offset") == str(len(CONTENT))
    assert connection.ask("GET", path_of(created)).body == CONTENT


def test_04_post_with_neither_length_nor_chunks(connection: Connection) -> None:
    first = connection.ask("POST", "/files/", TUS, length(5))
    second = connection.ask("POST", "/files/", TUS, length(5))
    assert path_of(first) != path_of(second)


def test_04_delete_with_neither_length_nor_chunks(connection: Connection) -> None:
    assert connection.ask("DELETE", create(connection), TUS).status == 204


# 5. Metadata: empty, keys without a value; echoed byte for byte.


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "is_confidential",
        "filename d29ybGQucGRm,is_confidential",
        "is_confidential,filename d29ybGQucGRm",
        "b eQ==,a eA==,B eg==",
        "empty ,filename d29ybGQucGRm",
        "bytes AP/+gAo=",
    ],
)
def test_05_metadata_are_echoed_byte_for_byte(connection: Connection, sent: str) -> None:
    upload = create(connection, ("Upload-Metadata", sent))
    assert (connection.ask("HEAD", upload, TUS).header("Upload-Metadata") or "") == sent


# 6. An empty POST may carry any Content-Type.


@pytest.mark.parametrize(
    "media_type",
    [
        "application/octet-stream",
        "application/offset+octet-stream",
        "application/json",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
    ],
)
def test_06_empty_post_may_carry_any_content_type(connection: Connection, media_type: str) -> None:
    create(connection, ("Content-Type", media_type))


# 7. Upload-Concat counts on POST alone; final lists hold absolute URLs or paths.


def test_07_concat_is_ignored_on_head_patch_and_delete(connection: Connection) -> None:
    concat = ("Upload-Concat", "partial")
    part = create(connection, concat)
    half = len(CONTENT) // 2
    appended = [
        connection.ask("PATCH", part, TUS, BYTES, at(0), concat, body=CONTENT[:half]),
        connection.ask("PATCH", part, TUS, BYTES, at(half), concat, body=CONTENT[half:]),
    ]
    assert [each.status for each in appended] == [204, 204]
    state = connection.ask("HEAD", part, TUS, concat)
    assert (state.status, state.header("Upload-Concat")) == (200, "partial")
    assert connection.ask("DELETE", part, TUS, concat, EMPTY).status == 204


def test_07_concat_on_the_patch_of_an_ordinary_upload(connection: Connection) -> None:
    upload = create(connection)
    concat = ("Upload-Concat", "partial")
    assert connection.ask("PATCH", upload, TUS, BYTES, at(0), concat, body=CONTENT).status == 204
    assert connection.ask("HEAD", upload, TUS, concat).header("Upload-Concat") is None


@pytest.mark.parametrize("first", ["absolute", "path"])
@pytest.mark.parametrize("second", ["absolute", "path"])
def test_07_final_lists(server: Served, connection: Connection, first: str, second: str) -> None:
    root = server.url.removesuffix("/files/")
    parts = [partial(connection, CONTENT[:1000]), partial(connection, CONTENT[1000:])]
    named = [
        f"{root}{part}" if form == "absolute" else part
        for form, part in zip((first, second), parts, strict=True)
    ]
    concat = f"final;{' '.join(named)}"
    created = connection.ask("POST", "/files/", TUS, EMPTY, ("Upload-Concat", concat))
    final = path_of(created)
    assert connection.ask("GET", final).body == CONTENT
    state = connection.ask("HEAD", final, TUS)
    assert state.header("Upload-Concat") == concat
    assert state.header("Upload-Offset") == state.header("Upload-Length") == str(len(CONTENT))


# 8. No spaces in comma lists.


@pytest.mark.parametrize("name", ["Tus-Extension", "Tus-Version", "Tus-Checksum-Algorithm"])
def test_08_no_spaces_in_lists(connection: Connection, name: str) -> None:
    found = connection.ask("OPTIONS", "/files/").header(name)
    assert found is not None
    assert re.fullmatch(r"[^\s,]+(,[^\s,]+)*", found)


# 9. /files and /files/ both answer, without a redirect.


@pytest.mark.parametrize("endpoint", ["/files", "/files/"])
def test_09_slash_and_no_slash(connection: Connection, endpoint: str) -> None:
    assert connection.ask("OPTIONS", endpoint).status in (200, 204)
    upload = path_of(connection.ask("POST", endpoint, TUS, length(0), EMPTY))
    assert re.fullmatch(r"/files/[^/]+", upload)


# 10. No Location on errors.


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (400, [TUS, EMPTY]),
        (400, [TUS, EMPTY, length(5), ("Upload-Defer-Length", "1")]),
        (400, [TUS, EMPTY, ("Upload-Defer-Length", "2")]),
        (400, [TUS, EMPTY, ("Upload-Length", "-1")]),
        (400, [TUS, EMPTY, length(5), ("Upload-Metadata", "a b c")]),
        (412, [("Tus-Resumable", "0.2.2"), EMPTY, length(5)]),
        (413, [TUS, EMPTY, length(1001)]),
        (None, [TUS, EMPTY, ("Upload-Concat", "final;/files/nothing /files/there")]),
        (None, [TUS, EMPTY, length(5), ("Upload-Concat", "both")]),
        (415, [TUS, length(5), ("Content-Type", "text/plain"), ("Content-Length", "5")]),
    ],
    ids=str,
)
def test_10_no_location_on_errors(
    limited: Served, status: int | None, headers: list[tuple[str, str]]
) -> None:
    with connected(limited.port) as asking:
        asking.start("POST", "/files/", *headers)
        if ("Content-Length", "5") in headers:
            asking.send(b"hello")
        refused = asking.answer()
    assert 400 <= refused.status < 500
    assert status in (None, refused.status)
    assert refused.header("Location") is None


# 12. tus-js-client starts anew after a HEAD that is neither 2xx nor 423; of the other statuses of
# PATCH, it tries again after 409 and 423.


def begun(connection: Connection, upload: str, *headers: tuple[str, str]) -> int:
    """Begins a PATCH and sends one half of its body: how much that is."""
    half = len(CONTENT) // 2
    size = ("Content-Length", str(len(CONTENT)))
    connection.start("PATCH", upload, TUS, BYTES, at(0), size, *headers)
    connection.send(CONTENT[:half])
    assert connection.quiet(0.3)
    return half


def test_12_head_while_another_request_holds_the_upload(
    server: Served, connection: Connection
) -> None:
    upload = create(connection)
    with connected(server.port) as holder:
        sent = begun(holder, upload)
        state = connection.ask("HEAD", upload, TUS)
        assert state.status in (200, 423)
        interrupted = holder.answer()
    assert interrupted.status == 423
    assert interrupted.header("Retry-After") is not None
    state = state if state.status == 200 else connection.ask("HEAD", upload, TUS)
    assert state.header("Upload-Offset") == str(sent), "bytes that had arrived were thrown away"
    rest = connection.ask("PATCH", upload, TUS, BYTES, at(sent), body=CONTENT[sent:])
    assert rest.status == 204
    assert connection.ask("GET", upload).body == CONTENT


def test_12_head_while_a_checksummed_request_holds_the_upload(
    server: Served, connection: Connection
) -> None:
    upload = create(connection)
    with connected(server.port) as holder:
        begun(holder, upload, sha1(CONTENT))
        state = connection.ask("HEAD", upload, TUS)
        assert state.status in (200, 423)
        assert holder.answer().status == 423
    assert connection.ask("HEAD", upload, TUS).header("Upload-Offset") == "0"


def test_12_a_second_patch_takes_over(server: Served, connection: Connection) -> None:
    # The phone changed its network: the first connection is dead, and nobody told the server.
    upload = create(connection)
    with connected(server.port) as holder:
        sent = begun(holder, upload)
        first = connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT)
        assert first.status in (409, 423)
        state = connection.ask("HEAD", upload, TUS)
        assert (state.status, state.header("Upload-Offset")) == (200, str(sent))
        assert holder.answer().status == 423
    rest = connection.ask("PATCH", upload, TUS, BYTES, at(sent), body=CONTENT[sent:])
    assert rest.status == 204
    assert connection.ask("GET", upload).body == CONTENT


def test_12_delete_while_another_request_holds_the_upload(
    server: Served, connection: Connection
) -> None:
    upload = create(connection)
    with connected(server.port) as holder:
        begun(holder, upload)
        assert connection.ask("DELETE", upload, TUS, EMPTY).status == 204
        assert holder.answer().status in (404, 410, 423)
    assert connection.ask("GET", upload).status == 404


def test_12_get_does_not_disturb_the_one_that_holds_the_upload(
    server: Served, connection: Connection
) -> None:
    upload = create(connection)
    with connected(server.port) as holder:
        sent = begun(holder, upload)
        connection.ask("GET", upload)
        holder.send(CONTENT[sent:])
        assert holder.answer().status == 204


def test_12_wrong_offset_is_409_and_disturbs_nobody(server: Served, connection: Connection) -> None:
    upload = create(connection)
    half = len(CONTENT) // 2
    assert connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT[:half]).status == 204
    with connected(server.port) as holder:
        size = ("Content-Length", str(len(CONTENT) - half))
        holder.start("PATCH", upload, TUS, BYTES, at(half), size)
        assert holder.quiet(0.3)
        late = connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT[:10])
        assert late.status == 409
        holder.send(CONTENT[half:])
        assert holder.answer().status == 204
    assert connection.ask("GET", upload).body == CONTENT


# 13. Expect: 100-continue, and POST with X-HTTP-Method-Override.

EXPECT = ("Expect", "100-continue")
OVERRIDE = ("X-HTTP-Method-Override", "PATCH")


def test_13_override_and_expect_as_java_sends_them(connection: Connection) -> None:
    upload = create(connection)
    connection.start("POST", upload, TUS, BYTES, at(0), OVERRIDE, EXPECT, CHUNKED)
    assert connection.answer().status == 100
    connection.send(in_chunks(CONTENT))
    assert connection.answer().status == 204
    assert connection.ask("GET", upload).body == CONTENT


def test_13_refused_before_the_body(server: Served, connection: Connection) -> None:
    upload = create(connection)
    connection.start("POST", upload, TUS, BYTES, at(7), OVERRIDE, EXPECT, CHUNKED)
    assert connection.answer().status == 409
    with connected(server.port) as other:  # the refused one owes a body, so it is not used again
        assert other.ask("HEAD", upload, TUS).header("Upload-Offset") == "0"


def test_13_expect_with_a_length(connection: Connection) -> None:
    upload = create(connection)
    size = ("Content-Length", str(len(CONTENT)))
    connection.start("PATCH", upload, TUS, BYTES, at(0), EXPECT, size)
    assert connection.answer().status == 100
    connection.send(CONTENT)
    assert connection.answer().status == 204


@pytest.mark.parametrize("method", ["DELETE", "HEAD"])
def test_13_override_of_other_methods(connection: Connection, method: str) -> None:
    upload = create(connection)
    override = ("X-HTTP-Method-Override", method)
    overridden = connection.ask("POST", upload, TUS, EMPTY, override)
    assert overridden.status == {"DELETE": 204, "HEAD": 200}[method]


# 14. HEAD has offset and length; PATCH has the offset, and no wrong one.


def test_14_head_has_offset_and_length(connection: Connection) -> None:
    upload = create(connection)
    for appended in (0, 100):
        if appended:
            connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT[:appended])
        state = connection.ask("HEAD", upload, TUS)
        assert state.header("Upload-Offset") == str(appended)
        assert state.header("Upload-Length") == str(len(CONTENT))
        assert state.header("Cache-Control") == "no-store"


def test_14_head_of_a_deferred_length(connection: Connection) -> None:
    deferred = ("Upload-Defer-Length", "1")
    upload = path_of(connection.ask("POST", "/files/", TUS, deferred, EMPTY))
    state = connection.ask("HEAD", upload, TUS)
    assert state.header("Upload-Offset") == "0"
    assert (state.header("Upload-Defer-Length"), state.header("Upload-Length")) == ("1", None)


def test_14_patch_tells_the_offset_and_a_refusal_no_other(connection: Connection) -> None:
    upload = create(connection)
    appended = connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT[:100])
    assert appended.header("Upload-Offset") == "100"
    refused = connection.ask("PATCH", upload, TUS, BYTES, at(7), body=CONTENT[7:100])
    assert refused.status == 409
    assert refused.header("Upload-Offset") in (None, "100")


# 15. sha1 on every PATCH, and as a trailer.


def test_15_sha1_on_every_patch(connection: Connection) -> None:
    upload = create(connection)
    for start in range(0, len(CONTENT), 4096):
        chunk = CONTENT[start : start + 4096]
        appended = connection.ask("PATCH", upload, TUS, BYTES, at(start), sha1(chunk), body=chunk)
        assert appended.status == 204
    assert connection.ask("GET", upload).body == CONTENT


def appended_with_trailer(connection: Connection, upload: str, digested: bytes) -> Answer:
    """A chunked PATCH whose checksum comes as an announced trailer."""
    trailer = ("Trailer", "Upload-Checksum")
    connection.start("PATCH", upload, TUS, BYTES, at(0), CHUNKED, trailer)
    connection.send(in_chunks(CONTENT, 1000, sha1(digested)))
    return connection.answer()


def test_15_sha1_in_a_trailer(connection: Connection) -> None:
    assert "checksum-trailer" in connection.ask("OPTIONS", "/files/").members("Tus-Extension")
    upload = create(connection)
    assert appended_with_trailer(connection, upload, CONTENT).status == 204
    assert connection.ask("GET", upload).body == CONTENT


def test_15_damage_that_a_trailer_tells_is_not_stored(
    server: Served, connection: Connection
) -> None:
    upload = create(connection)
    assert appended_with_trailer(connection, upload, CONTENT[1:]).status == 460
    with connected(server.port) as other:
        assert other.ask("HEAD", upload, TUS).header("Upload-Offset") == "0"


# 16. Upload-Expires is an RFC 9110 date, a day ahead at least.


def test_16_expiry_is_a_date_and_a_day_ahead(connection: Connection) -> None:
    created = connection.ask("POST", "/files/", TUS, length(len(CONTENT)), EMPTY)
    upload = path_of(created)
    appended = connection.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT[:10])
    for answer in (created, appended):
        expires = answer.header("Upload-Expires")
        assert expires is not None
        assert IMF_FIXDATE.fullmatch(expires), expires
        assert parsedate_to_datetime(expires).timestamp() >= time.time() + DAY - 5


# 17. CORS.

ORIGIN = ("Origin", "https://app.example.org")
METHODS = {"post", "head", "patch", "options", "get", "delete"}
ALLOWED = {
    "authorization",
    "origin",
    "x-requested-with",
    "x-request-id",
    "x-http-method-override",
    "content-type",
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-defer-length",
    "upload-concat",
    "upload-checksum",
    "upload-complete",
    "upload-incomplete",
    "upload-draft-interop-version",
    "content-digest",
    "repr-digest",
}
EXPOSED = {
    "location",
    "upload-offset",
    "upload-length",
    "upload-defer-length",
    "upload-metadata",
    "upload-concat",
    "upload-expires",
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "tus-checksum-algorithm",
    "retry-after",
    "x-request-id",
    "content-digest",
    "repr-digest",
}


@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD", "DELETE"])
def test_17_preflight(connection: Connection, method: str) -> None:
    asked = ("Access-Control-Request-Method", method)
    headers = ("Access-Control-Request-Headers", "tus-resumable,upload-offset,content-type")
    path = "/files/" if method == "POST" else create(connection)
    answer = connection.ask("OPTIONS", path, ORIGIN, asked, headers)
    assert answer.status in (200, 204)
    assert answer.header("Access-Control-Allow-Origin") in ("*", ORIGIN[1])
    assert answer.members("Access-Control-Allow-Methods") >= METHODS
    assert answer.members("Access-Control-Allow-Headers") >= ALLOWED


def assert_readable(answer: Answer) -> None:
    """A script on another origin can read this answer, and its headers by name."""
    assert answer.header("Access-Control-Allow-Origin") in ("*", ORIGIN[1])
    assert answer.members("Access-Control-Expose-Headers") >= EXPOSED


def test_17_success_is_readable(connection: Connection) -> None:
    created = connection.ask("POST", "/files/", TUS, ORIGIN, length(len(CONTENT)), EMPTY)
    upload = path_of(created)
    assert_readable(created)
    assert_readable(connection.ask("PATCH", upload, TUS, ORIGIN, BYTES, at(0), body=CONTENT))
    assert_readable(connection.ask("HEAD", upload, TUS, ORIGIN))
    assert_readable(connection.ask("GET", upload, ORIGIN))
    assert_readable(connection.ask("DELETE", upload, TUS, ORIGIN, EMPTY))


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/files/", [TUS, EMPTY]),
        ("POST", "/files/", [("Tus-Resumable", "0.1"), EMPTY]),
        ("HEAD", f"/files/{'0' * 32}", [TUS]),
        ("GET", f"/files/{'0' * 32}", []),
        ("DELETE", f"/files/{'0' * 32}", [TUS, EMPTY]),
        ("PUT", "/files/", [TUS, EMPTY]),
    ],
    ids=["400", "412", "HEAD 404", "GET 404", "DELETE 404", "405"],
)
def test_17_errors_are_readable(
    connection: Connection, method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    refused = connection.ask(method, path, ORIGIN, *headers)
    assert 400 <= refused.status < 500
    assert_readable(refused)


def test_17_with_credentials_the_origin_is_echoed(tmp_path: Path) -> None:
    flags = ("--cors-allow-credentials", "--cors-allow-origin", ORIGIN[1].replace(".", r"\."))
    with watched(tmp_path / "uploads", *flags) as server, connected(server.port) as asking:
        created = asking.ask("POST", "/files/", TUS, ORIGIN, length(5), EMPTY)
    assert created.header("Access-Control-Allow-Origin") == ORIGIN[1]
    assert created.header("Access-Control-Allow-Credentials") == "true"
    assert "origin" in created.members("Vary")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.org", True),
        ("https://app.example.org.evil.example", False),
        ("https://evil.example/https://app.example.org", False),
        ("http://app.example.org", False),
        ("https://appxexample.org", False),
    ],
)
def test_17_an_origin_pattern_is_anchored(one_origin: Served, origin: str, allowed: bool) -> None:
    with connected(one_origin.port) as asking:
        created = asking.ask("POST", "/files/", TUS, ("Origin", origin), length(5), EMPTY)
    assert created.header("Access-Control-Allow-Origin") == (origin if allowed else None)


# 18. What tus-js-client's own end-to-end tests expect.


def test_18_get_head_delete_get(connection: Connection) -> None:
    pairs = "filename aGVsbG8udHh0,filetype dGV4dC9wbGFpbg==,nonlatin c8WCb8WEY2U=,number MTAw"
    upload = complete(connection, ("Upload-Metadata", pairs))
    got = connection.ask("GET", upload)
    assert (got.status, got.body) == (200, CONTENT)
    state = connection.ask("HEAD", upload, TUS)
    assert state.header("Upload-Metadata") == pairs
    assert state.header("Upload-Offset") == state.header("Upload-Length") == str(len(CONTENT))
    assert connection.ask("DELETE", upload, TUS, EMPTY).status == 204
    assert connection.ask("GET", upload).status == 404


# 19. A pre-created URL works.


def test_19_head_may_be_the_first_request(tmp_path: Path) -> None:
    with watched(tmp_path / "uploads") as server:
        with connected(server.port) as backend:
            upload = create(backend)
        server.restart()
        with connected(server.port) as client:
            state = client.ask("HEAD", upload, TUS)
            assert (state.status, state.header("Upload-Offset")) == (200, "0")
            appended = client.ask("PATCH", upload, TUS, BYTES, at(0), body=CONTENT)
            assert appended.status == 204
