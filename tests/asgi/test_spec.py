"""tus 1.0.0, sentence by sentence: what a server must and should do that takes bytes, time or two
requests. Each test is named after its section. What a head alone decides: tests/protocol.
"""

import base64
import email.utils
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.asgi.in_process import (
    BASE,
    OFFSET_TYPE,
    TUS,
    Running,
    path_of,
    running,
    sha1,
    until,
)
from tests.serving import Served, eventually
from tusd_py.app import Settings
from tusd_py.asgi.settings import HttpSettings
from tusd_py.engine.services import Timing
from tusd_py.protocol.checksum import ALGORITHMS

pytestmark = pytest.mark.anyio

HELLO = b"hello world"


def expires_in(headers: Mapping[str, str], running: Running) -> float:
    """Seconds from now to `Upload-Expires`, which must be an RFC 9110 date."""
    value = headers["Upload-Expires"]
    moment = email.utils.parsedate_to_datetime(value)
    assert value == email.utils.format_datetime(moment, usegmt=True)
    return moment.timestamp() - running.clock.now


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", [None, "0.2.2", "1.0", "1.0.0,1.0.1", "2.0.0"])
async def test_core_tus_resumable__an_unknown_version_is_not_processed(
    server: Running, method: str, version: str | None
) -> None:
    """MUST respond with the 412 Precondition Failed status and MUST include the Tus-Version
    header into the response. In addition, the Server MUST NOT process the request.
    """
    path = await server.create(11)
    before = await server.record(path)
    headers = OFFSET_TYPE | {"Upload-Length": "11", "Upload-Offset": "0"}
    headers |= {} if version is None else {"Tus-Resumable": version}
    where = BASE if method == "POST" else path
    answer = await server.client.request(method, where, headers=headers, content=HELLO)
    assert answer.status_code == 412
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert await server.records() == [before]
    assert server.files() == []


async def test_core_tus_resumable__is_in_every_response(server: Running) -> None:
    """The Tus-Resumable header MUST be included in every request and response except for
    OPTIONS requests.
    """
    path = await server.whole(HELLO)
    etag = (await server.client.get(path)).headers["ETag"]
    answers = [
        await server.post(Upload_Length="5"),
        await server.post(),
        await server.head(path),
        await server.head(path + "x"),
        await server.patch(path, 3, b"x"),
        await server.client.get(path),
        await server.client.get(path, headers={"If-None-Match": etag}),
        await server.client.get(path, headers={"Range": "bytes=0-1"}),
        await server.client.get(path, headers={"Range": "bytes=90-91"}),
        await server.client.get(path + "x"),
        await server.client.put(path),
        await server.delete(path),
    ]
    assert [answer.status_code for answer in answers] == [
        *(201, 400, 200, 404, 409, 200, 304, 206, 416, 404, 405, 204)
    ]
    assert {answer.headers.get("Tus-Resumable") for answer in answers} == {"1.0.0"}


@pytest.mark.parametrize("version", [None, "1.0.0", "0.1", "nonsense"])
async def test_core_options__tells_versions_extensions_and_limit(
    server: Running, version: str | None
) -> None:
    """A successful response indicated by the 204 No Content or 200 OK status MUST contain the
    Tus-Version header; the Server MUST ignore the Tus-Resumable header.
    """
    headers = {} if version is None else {"Tus-Resumable": version}
    for where in (BASE, BASE.rstrip("/"), BASE + "some-id"):
        answer = await server.client.options(where, headers=headers)
        assert answer.status_code == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == "1000000"
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "expiration",
            "checksum",
            "termination",
            "concatenation",
            "concatenation-unfinished",
        }
        assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


async def test_core_options__no_limit_is_not_told(tmp_path: Path) -> None:
    """The Server SHOULD set this header if there is a known hard limit."""
    async with running(tmp_path) as server:
        assert "Tus-Max-Size" not in (await server.client.options(BASE)).headers


async def test_core_method_override__replaces_the_method(server: Running) -> None:
    """MUST be interpreted as the request's method by the Server, if the header is presented.
    The actual method of the request MUST be ignored.
    """
    path = await server.create(11)
    given = TUS | OFFSET_TYPE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    answer = await server.client.post(path, headers=given, content=HELLO)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "11")
    as_delete = TUS | {"X-HTTP-Method-Override": "DELETE"}
    assert (await server.client.get(path, headers=as_delete)).status_code == 204
    assert (await server.head(path)).status_code == 410


async def test_core_head__always_has_the_offset_and_is_not_cached(server: Running) -> None:
    """The Server MUST always include the Upload-Offset header in the response for a HEAD
    request, even if the offset is 0, or the upload is already considered completed; MUST
    prevent the client and/or proxies from caching the response by adding the
    Cache-Control: no-store header.
    """
    path = await server.create(11)
    steps = [(b"", 0), (b"hello", 5), (b" world", 11)]
    for piece, expected in steps:
        if piece:
            answer = await server.patch(path, expected - len(piece), piece)
            assert answer.status_code == 204
        found = await server.head(path)
        assert found.status_code == 200
        assert found.headers["Upload-Offset"] == str(expected)
        assert found.headers["Upload-Length"] == "11"
        assert found.headers["Cache-Control"] == "no-store"
        assert found.content == b""


async def test_core_head__not_found_has_no_offset(server: Running) -> None:
    """If the resource is not found, the Server SHOULD return either the 404 Not Found, 410 Gone
    or 403 Forbidden status without the Upload-Offset header.
    """
    gone = await server.create(11)
    await server.delete(gone)
    for path, status in ((BASE + "never-was", 404), (gone, 410)):
        answer = await server.head(path)
        assert answer.status_code == status
        assert "Upload-Offset" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"


async def test_core_patch__applies_bytes_at_the_offset_over_several_requests(
    server: Running,
) -> None:
    """The new offset MUST be the sum of the offset before the PATCH request and the number of
    bytes received and processed or stored during the current PATCH request.
    """
    path = await server.create(11)
    for offset, piece, expected in ((0, b"h", 1), (1, b"", 1), (1, b"ello w", 7), (7, b"orld", 11)):
        answer = await server.patch(path, offset, piece)
        assert answer.status_code == 204
        assert answer.headers["Upload-Offset"] == str(expected)
        assert answer.content == b""
    assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize("kind", ["text/plain", "", "application/octet-stream"])
async def test_core_patch__another_content_type_is_415(server: Running, kind: str) -> None:
    """All PATCH requests MUST use Content-Type: application/offset+octet-stream, otherwise the
    server SHOULD return a 415 Unsupported Media Type status.
    """
    path = await server.create(11)
    answer = await server.patch(path, 0, HELLO, Content_Type=kind)
    assert answer.status_code == 415
    assert await server.offset(path) == 0
    assert server.files() == []


async def test_core_patch__the_content_type_may_have_parameters(server: Running) -> None:
    """RFC 9110, 8.3.1: a type is compared without its parameters and without regard to case."""
    path = await server.create(11)
    kind = "Application/Offset+Octet-Stream; charset=utf-8"
    assert (await server.patch(path, 0, HELLO, Content_Type=kind)).status_code == 204


@pytest.mark.parametrize("offset", [0, 4, 6, 11, 12, 9_223_372_036_854_775_807])
async def test_core_patch__another_offset_is_409_and_changes_nothing(
    server: Running, offset: int
) -> None:
    """If the offsets do not match, the Server MUST respond with the 409 Conflict status without
    modifying the upload resource.
    """
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    before = await server.record(path)
    assert (await server.patch(path, offset, b"XX")).status_code == 409
    assert await server.record(path) == before
    assert server.file(path).read_bytes() == b"hello"


async def test_core_patch__of_what_never_was_is_404(server: Running) -> None:
    """If the server receives a PATCH request against a non-existent resource it SHOULD return a
    404 Not Found status.
    """
    assert (await server.patch(BASE + "never-was", 0, HELLO)).status_code == 404
    assert server.files() == []


@pytest.mark.parametrize("chunked", [False, True])
def test_core_patch__as_much_as_possible_of_a_cut_body_is_stored(
    served: Served, chunked: bool
) -> None:
    """The Server SHOULD always attempt to store as much of the received data as possible."""
    path = raw.create(served.port, 1_000_000)
    piece = bytes(range(256)) * 1000
    with raw.connected(served.port) as cut:
        if chunked:
            size = {"Transfer-Encoding": "chunked", "Upload-Offset": "0"}
            cut.start("PATCH", path, raw.PATCH_HEAD | size)
            cut.send(b"%x\r\n" % 500_000 + piece)
        else:
            cut.patch(path, 0, 1_000_000)
            cut.send(piece)
    eventually("the bytes count", lambda: raw.offset_of(served.port, path) == len(piece))
    rest = bytes(1_000_000 - len(piece))
    assert raw.patch(served.port, path, len(piece), rest).status == 204
    assert raw.get(served.port, path) == piece + rest


async def test_core_patch__a_timeout_closes_the_connection(tmp_path: Path) -> None:
    """A timeout SHOULD be handled by closing the underlying connection."""
    settings = Settings(base_path=BASE, http=HttpSettings(network_timeout=0.05))
    async with running(tmp_path, settings=settings) as server:
        path = await server.create(11)
        asked = server.patching(path, 0, 11)
        asked.feed(b"hello")
        await asked.begun()
        await until(lambda: server.tus.services.unsynced)
        asked.vanish()
        assert await asked.answered() == 503
        assert asked.headers["connection"] == "close"
        assert asked.headers["retry-after"] == "1"
        assert await server.offset(path) == 5


async def test_creation_post__answers_201_with_a_location(server: Running) -> None:
    """The Server MUST acknowledge a successful upload creation with the 201 Created status. The
    Server MUST set the Location header to the URL of the created resource.
    """
    answer = await server.post(Upload_Length="11")
    assert answer.status_code == 201
    assert answer.headers["Location"].startswith("http://testserver/files/")
    assert answer.headers["Upload-Offset"] == "0"
    assert (await server.head(path_of(answer))).headers["Upload-Length"] == "11"
    assert path_of(await server.post(Upload_Length="11")) != path_of(answer)


async def test_creation_post__no_slash_at_the_end_is_the_same(server: Running) -> None:
    """CLIENTS: `/files` and `/files/` both answer, without a redirect."""
    answer = await server.client.post("/files", headers=TUS | {"Upload-Length": "1"})
    assert answer.status_code == 201
    assert path_of(answer).startswith("/files/")


async def test_creation_post__a_length_of_zero_is_complete_at_once(server: Running) -> None:
    """Such an upload is immediately complete after its creation without transferring data using
    PATCH requests.
    """
    path = await server.create(0)
    found = await server.head(path)
    assert (found.headers["Upload-Offset"], found.headers["Upload-Length"]) == ("0", "0")
    assert await server.bytes_of(path) == b""


@pytest.mark.parametrize("given", [{"Upload_Length": "1000001"}, {"Upload_Length": "9" * 19}])
async def test_creation_post__too_large_is_413(server: Running, given: dict[str, str]) -> None:
    """If the length of the upload exceeds the maximum [...] the Server MUST respond with the
    413 Request Entity Too Large status.
    """
    assert (await server.post(b"", **given)).status_code in (400, 413)
    assert (await server.post(Upload_Length="1000001")).status_code == 413
    assert (await server.post(Upload_Length="1000000")).status_code == 201
    assert len(await server.records()) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        "filename d29ybGQ=,is_confidential",
        "filename d29ybGQ=, is_confidential ",
        "empty ",
        "a /+8=,b,c AAAA",
    ],
)
async def test_creation_metadata__comes_back_as_it_was_sent(server: Running, metadata: str) -> None:
    """Responses to HEAD requests MUST include the Upload-Metadata header and its value as
    specified by the Client during the creation.
    """
    path = await server.create(11, Upload_Metadata=metadata)
    for _ in range(2):
        assert (await server.head(path)).headers["Upload-Metadata"] == metadata.strip()
        await server.patch(path, 0, HELLO)


async def test_creation_defer_length__is_told_until_the_length_comes(server: Running) -> None:
    """As long as the length of the upload is not known, the Server MUST set
    Upload-Defer-Length: 1 in all responses to HEAD requests. Once set the length MUST NOT be
    changed.
    """
    path = await server.create(None)
    for offset, piece in ((0, b"hello"), (5, b" ")):
        await server.patch(path, offset, piece)
        found = await server.head(path)
        assert found.headers["Upload-Defer-Length"] == "1"
        assert "Upload-Length" not in found.headers
    assert (await server.patch(path, 6, b"wor", Upload_Length="11")).status_code == 204
    found = await server.head(path)
    assert "Upload-Defer-Length" not in found.headers
    assert found.headers["Upload-Length"] == "11"
    assert (await server.patch(path, 9, b"ld", Upload_Length="12")).status_code == 400
    assert (await server.patch(path, 9, b"ld", Upload_Length="11")).status_code == 204
    assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize("content", [HELLO, b"h", HELLO[:-1]])
async def test_creation_with_upload__says_how_much_was_taken(
    server: Running, content: bytes
) -> None:
    """MUST include the Upload-Offset header in the response and MUST set its value to the
    offset of the upload after applying the accepted bytes.
    """
    answer = await server.post(content, Upload_Length="11")
    assert answer.status_code == 201
    assert answer.headers["Upload-Offset"] == str(len(content))
    path = path_of(answer)
    assert await server.offset(path) == len(content)
    if content != HELLO:
        await server.patch(path, len(content), HELLO[len(content) :])
    assert await server.bytes_of(path) == HELLO


async def test_creation_with_upload__needs_the_content_type(server: Running) -> None:
    """The Client MUST include the Content-Type: application/offset+octet-stream header."""
    answer = await server.post(HELLO, Upload_Length="11", Content_Type="text/plain")
    assert answer.status_code == 415
    assert await server.records() == []


async def test_creation_with_upload__of_a_deferred_length(server: Running) -> None:
    """Similar rules as for the PATCH request and response apply."""
    answer = await server.post(b"hello", Upload_Defer_Length="1")
    assert answer.headers["Upload-Offset"] == "5"
    path = path_of(answer)
    assert (await server.patch(path, 5, b" world", Upload_Length="11")).status_code == 204
    assert await server.bytes_of(path) == HELLO


async def test_expiration__is_told_on_post_patch_and_head(server: Running) -> None:
    """This header MUST be included in every PATCH response if the upload is going to expire. If
    the expiration is known at the creation, the Upload-Expires header MUST be included in the
    response to the initial POST request. Its value MAY change over time.
    """
    created = await server.post(b"he", Upload_Length="11")
    assert 86_398 < expires_in(created.headers, server) <= 86_400
    path = path_of(created)
    server.clock.now += 3600
    patched = await server.patch(path, 2, b"llo")
    assert 86_398 < expires_in(patched.headers, server) <= 86_400
    assert 86_398 < expires_in((await server.head(path)).headers, server) <= 86_400
    finished = await server.patch(path, 5, b" world")
    assert "Upload-Expires" not in finished.headers, "what is finished stays"


async def test_expiration__never_is_not_told(tmp_path: Path) -> None:
    """Without an expiry there is nothing to tell."""
    async with running(tmp_path, expire_after=None) as server:
        created = await server.post(Upload_Length="11")
        assert "Upload-Expires" not in created.headers
        server.clock.now += 10 * 365 * 86_400
        assert await server.offset(path_of(created)) == 0


@pytest.mark.parametrize("swept", [False, True])
async def test_expiration__what_expired_is_410(server: Running, swept: bool) -> None:
    """The Server SHOULD respond with the 404 Not Found or 410 Gone status. The latter one SHOULD
    be used if the Server is keeping track of expired uploads.
    """
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    server.clock.now += 86_401
    if swept:
        report = await server.tus.sweep()
        assert (report.bytes_freed, len(report.expired)) == (5, 1)
        assert server.files() == []
    assert (await server.head(path)).status_code == 410
    assert (await server.patch(path, 5, b" world")).status_code == 410
    assert (await server.client.get(path)).status_code == 404


async def test_expiration__is_forgotten_in_the_end(tmp_path: Path) -> None:
    """A tombstone is kept for a week, so that the table does not grow for ever."""
    async with running(tmp_path) as server:
        path = await server.create(11)
        server.clock.now += 86_401
        await server.tus.sweep()
        server.clock.now += Timing().remember_gone + 1
        assert (await server.tus.sweep()).forgotten == 1
        assert (await server.head(path)).status_code == 404


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_checksum__what_matches_is_stored(server: Running, algorithm: str) -> None:
    """204 No Content if the checksums match and the processing of the data succeeded."""
    digest = ALGORITHMS[algorithm][0]()
    digest.update(b"hello")
    value = f"{algorithm} {base64.b64encode(digest.digest()).decode()}"
    path = await server.create(11)
    assert (await server.patch(path, 0, b"hello", Upload_Checksum=value)).status_code == 204
    assert await server.offset(path) == 5


@pytest.mark.parametrize(
    ("checksum", "status"),
    [
        (sha1(b"other")["Upload-Checksum"], 460),
        ("crc99 AAAAAA==", 400),
        ("SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", 400),
    ],
)
async def test_checksum__what_does_not_match_is_discarded(
    server: Running, checksum: str, status: int
) -> None:
    """In the first two cases the uploaded chunk MUST be discarded, and the upload and its offset
    MUST NOT be updated.
    """
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    assert (await server.patch(path, 5, b" wOrld", Upload_Checksum=checksum)).status_code == status
    assert await server.offset(path) == 5
    assert server.file(path).read_bytes() == b"hello"
    good = sha1(b" world")["Upload-Checksum"]
    assert (await server.patch(path, 5, b" world", Upload_Checksum=good)).status_code == 204
    assert await server.bytes_of(path) == HELLO


async def test_checksum__a_trailer_is_not_offered(server: Running) -> None:
    """If the Server can handle trailers, this behavior MUST be announced by adding
    checksum-trailer: it cannot, so it neither announces nor believes one.
    """
    extensions = (await server.client.options(BASE)).headers["Tus-Extension"]
    assert "checksum-trailer" not in extensions
    path = await server.create(11)
    answer = await server.patch(path, 0, HELLO, Trailer="Upload-Checksum")
    assert answer.status_code == 400
    assert await server.offset(path) == 0


@pytest.mark.parametrize("sent", [0, 5, 11])
async def test_termination__frees_and_answers_410_or_404_from_then_on(
    server: Running, sent: int
) -> None:
    """The Server SHOULD free associated resources and MUST respond with the 204 No Content
    status [...]. For all future requests to this URL, the Server SHOULD respond with the 404 Not
    Found or 410 Gone status. CLIENTS: `GET` is exactly 404.
    """
    path = await server.create(11)
    if sent:
        await server.patch(path, 0, HELLO[:sent])
    assert (await server.delete(path)).status_code == 204
    assert server.files() == []
    assert (await server.head(path)).status_code == 410
    assert (await server.patch(path, sent, b"x")).status_code == 410
    assert (await server.delete(path)).status_code == 410
    assert (await server.client.get(path)).status_code == 404


async def test_concatenation__parts_are_joined_in_the_order_of_the_list(server: Running) -> None:
    """The partial uploads MUST be concatenated as per the order specified in the list; The
    same partial upload MAY be present multiple times [...] or MAY be used in multiple upload
    creation requests; the length is the sum of the length of all partial uploads.
    """
    a = await server.whole(b"hello", Upload_Concat="partial")
    b = await server.whole(b" world", Upload_Concat="partial")
    absolute = f"http://other.example{b}"
    for parts, expected in (
        ((a, b), b"hello world"),
        ((b, a), b" worldhello"),
        ((a, a, absolute, a), b"hellohello worldhello"),
    ):
        answer = await server.post(Upload_Concat="final;" + " ".join(parts))
        assert answer.status_code == 201
        final = path_of(answer)
        found = await server.head(final)
        assert found.headers["Upload-Offset"] == found.headers["Upload-Length"]
        assert found.headers["Upload-Length"] == str(len(expected))
        assert found.headers["Upload-Concat"] == "final;" + " ".join(parts)
        assert await server.bytes_of(final) == expected


async def test_concatenation__a_part_is_not_processed_and_says_what_it_is(server: Running) -> None:
    """The response to a HEAD request for a partial upload MUST contain the Upload-Offset
    header; MUST include the Upload-Concat header and its value as received; The Server SHOULD
    NOT process these partial uploads until they are concatenated.
    """
    part = await server.create(11, Upload_Concat="partial")
    await server.patch(part, 0, b"hello")
    found = await server.head(part)
    assert found.headers["Upload-Offset"] == "5"
    assert found.headers["Upload-Concat"] == "partial"


async def test_concatenation__metadata_is_not_transferred(server: Running) -> None:
    """The partial uploads' metadata SHALL NOT be transferred to the new final upload."""
    part = await server.whole(b"x", Upload_Concat="partial", Upload_Metadata="filename YQ==")
    final = await server.final(part)
    assert "Upload-Metadata" not in (await server.head(final)).headers
    answer = await server.post(Upload_Concat=f"final;{part}", Upload_Metadata="filename Yg==")
    found = await server.head(path_of(answer))
    assert found.headers["Upload-Metadata"] == "filename Yg=="


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("offset", [0, 11])
async def test_concatenation__a_patch_to_a_final_is_403(
    server: Running, finished: bool, offset: int
) -> None:
    """The Server MUST respond with the 403 Forbidden status to PATCH requests against a final
    upload URL and MUST NOT modify the final or its partial uploads.
    """
    part = await server.create(11, Upload_Concat="partial")
    if finished:
        await server.patch(part, 0, HELLO)
    final = await server.final(part)
    before = await server.record(final), await server.record(part)
    assert (await server.patch(final, offset, b"")).status_code == 403
    assert (await server.patch(final, offset, b"more")).status_code == 403
    assert (await server.record(final), await server.record(part)) == before


async def test_concatenation_unfinished__has_no_offset_but_what_can_be_known(
    server: Running,
) -> None:
    """The response to a HEAD request for a final upload SHOULD NOT contain the Upload-Offset
    header unless the concatenation has been successfully finished. The Upload-Length header
    MUST be included if the length of the final resource can be calculated at the time of the
    request.
    """
    a = await server.create(5, Upload_Concat="partial")
    b = await server.create(None, Upload_Concat="partial")
    known, unknown = await server.final(a, a), await server.final(a, b)
    for final, length in ((known, "10"), (unknown, None)):
        found = await server.head(final)
        assert found.status_code == 200
        assert "Upload-Offset" not in found.headers
        assert found.headers.get("Upload-Length") == length
        assert found.headers["Upload-Concat"].startswith("final;")
    await server.patch(b, 0, b" world", Upload_Length="6")
    await server.patch(a, 0, b"hello")
    for final, expected in ((known, b"hellohello"), (unknown, HELLO)):
        found = await server.head(final)
        assert found.headers["Upload-Offset"] == str(len(expected))
        assert found.headers["Upload-Length"] == str(len(expected))
        assert await server.bytes_of(final) == expected


async def test_concatenation_unfinished__the_length_is_told_as_soon_as_it_is_known(
    server: Running,
) -> None:
    """The Upload-Length header MUST be included if the length of the final resource can be
    calculated at the time of the request.
    """
    part = await server.create(None, Upload_Concat="partial")
    final = await server.final(part)
    await server.patch(part, 0, b"hello", Upload_Length="11")
    found = await server.head(final)
    assert found.headers["Upload-Length"] == "11"
    assert "Upload-Offset" not in found.headers


@pytest.mark.parametrize("wrong", ["whole", "gone", "expired", "never", "elsewhere"])
async def test_concatenation__only_parts_can_be_joined(server: Running, wrong: str) -> None:
    """A partial upload [...] is constructed by including the Upload-Concat: partial header."""
    part = await server.whole(b"hello", Upload_Concat="partial")
    others = {
        "whole": await server.whole(b"hello"),
        "gone": await server.create(3, Upload_Concat="partial"),
        "expired": await server.create(3, Upload_Concat="partial"),
        "never": BASE + "never",
        "elsewhere": "http://testserver/other/place",
    }
    await server.delete(others["gone"])
    if wrong == "expired":
        server.clock.now += 86_401
        part = await server.whole(b"hello", Upload_Concat="partial")
    count = len(await server.records())
    answer = await server.post(Upload_Concat=f"final;{part} {others[wrong]}")
    assert answer.status_code == 400
    assert others[wrong] in answer.text
    assert len(await server.records()) == count


async def test_concatenation__a_final_has_no_length_and_no_bytes_of_its_own(
    server: Running,
) -> None:
    """The Client MUST NOT include the Upload-Length header in the final upload creation."""
    part = await server.whole(b"hello", Upload_Concat="partial")
    answer = await server.post(Upload_Concat=f"final;{part}", Upload_Length="5")
    assert answer.status_code == 400
    answer = await server.post(b"more", Upload_Concat=f"final;{part}")
    assert answer.status_code == 400


async def test_concatenation__too_large_together_is_413(server: Running) -> None:
    """Creation, POST: the maximum holds for what parts make together, too."""
    part = await server.create(600_000, Upload_Concat="partial")
    answer = await server.post(Upload_Concat=f"final;{part} {part}")
    assert answer.status_code == 413


async def test_expiration__a_refused_patch_says_when_it_expires_too(server: Running) -> None:
    """This header MUST be included in every `PATCH` response if the upload is going to expire."""
    path = await server.create(11)
    for answer in (
        await server.patch(path, 3, b"lo"),
        await server.patch(path, 2**63, b"lo"),
        await server.patch(path, 0, b"x" * 12),
    ):
        assert answer.status_code in (409, 413)
        assert "Upload-Expires" in answer.headers
    gone = await server.patch("/files/never-was", 0, b"")
    assert "Upload-Expires" not in gone.headers
