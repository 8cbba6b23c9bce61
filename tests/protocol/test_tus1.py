"""Requests as real clients, odd clients and attackers send them; responses as clients read them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import (
    FINAL,
    LONG,
    OFFSET_TYPE,
    PARTIAL,
    UPLOAD,
    appended,
    created,
    header,
    patch,
    post,
    refused,
    request,
    steady,
)
from tusd_py.protocol import commands
from tusd_py.protocol.abnf import LARGEST_INTEGER
from tusd_py.protocol.checksum import Checksum
from tusd_py.protocol.commands import Append, Content, Create
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import (
    InvalidContentType,
    InvalidHeader,
    InvalidPart,
    InvalidUploadChecksum,
    InvalidUploadConcat,
    InvalidUploadDeferLength,
    InvalidUploadLength,
    InvalidUploadMetadata,
    InvalidUploadOffset,
    MethodNotAllowed,
    Rejected,
    TusError,
    UnsupportedAlgorithm,
    UnsupportedVersion,
    UploadGone,
    UploadNotFound,
)
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.tus1 import (
    Capabilities,
    Request,
    build_appended,
    build_capabilities,
    build_created,
    build_error,
    build_found,
    effective_method,
    parse_request,
)
from tusd_py.protocol.upload import Phase, Reply, Upload

SHA1 = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="
CHECKSUM = Checksum(
    algorithm="sha1", digest=bytes.fromhex("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed")
)
CHUNKED = ("Transfer-Encoding", "chunked")
LENGTH_5 = ("Upload-Length", "5")
OFFSET_0 = ("Upload-Offset", "0")
FILENAME = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential"


@pytest.mark.parametrize(
    ("method", "upload_id", "command"),
    [
        ("OPTIONS", None, commands.Discover()),
        ("OPTIONS", "a", commands.Discover()),
        ("HEAD", "a", commands.Query(upload_id="a")),
        ("DELETE", "a", commands.Terminate(upload_id="a")),
        ("GET", "a", commands.Download(upload_id="a")),
        ("head", "a", commands.Query(upload_id="a")),
    ],
)
def test_a_method_asks_for_one_thing(
    method: str, upload_id: str | None, command: commands.Command
) -> None:
    assert parse_request(request(method, upload_id)) == command


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_a_browser_that_knows_no_tus_may_look_and_download(method: str) -> None:
    parse_request(request(method, "a", version=None))


@pytest.mark.parametrize(
    ("method", "upload_id", "allow"),
    [
        ("GET", None, "OPTIONS, POST"),
        ("HEAD", None, "OPTIONS, POST"),
        ("PATCH", None, "OPTIONS, POST"),
        ("DELETE", None, "OPTIONS, POST"),
        ("POST", "a", "OPTIONS, HEAD, PATCH, DELETE, GET"),
        ("PUT", "a", "OPTIONS, HEAD, PATCH, DELETE, GET"),
        ("", "a", "OPTIONS, HEAD, PATCH, DELETE, GET"),
        ("HEAD, PATCH", "a", "OPTIONS, HEAD, PATCH, DELETE, GET"),
        ("\u00df" * LONG, "a", "OPTIONS, HEAD, PATCH, DELETE, GET"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_method_that_means_nothing_here_is_told_what_does(
    method: str, upload_id: str | None, allow: str
) -> None:
    with pytest.raises(MethodNotAllowed):
        parse_request(request(method, upload_id))
    response = refused(request(method, upload_id))
    assert (response.status, header(response, "Allow")) == (405, allow)


@pytest.mark.parametrize(
    ("sent", "effective"),
    [
        (("POST", ()), "POST"),
        (("POST", (("X-HTTP-Method-Override", "PATCH"),)), "PATCH"),
        (("POST", (("x-http-method-override", "delete"),)), "DELETE"),
        (("GET", (("X-HTTP-Method-Override", "HEAD"),)), "HEAD"),
        (("POST", (("X-HTTP-Method-Override", ""),)), "POST"),
    ],
)
def test_the_method_can_be_overridden(
    sent: tuple[str, tuple[tuple[str, str], ...]], effective: str
) -> None:
    method, pairs = sent
    assert effective_method(request(method, "a", *pairs)) == effective


@pytest.mark.parametrize(
    ("pairs", "command"),
    [
        ([LENGTH_5], Create(upload_length=5)),
        ([("Upload-Length", "0")], Create(upload_length=0)),
        ([("Upload-Length", str(LARGEST_INTEGER))], Create(upload_length=LARGEST_INTEGER)),
        ([("Upload-Defer-Length", "1")], Create(upload_length=None)),
        ([LENGTH_5, ("Upload-Metadata", "")], Create(upload_length=5, upload_metadata="")),
        (
            [LENGTH_5, ("Upload-Metadata", FILENAME)],
            Create(upload_length=5, upload_metadata=FILENAME),
        ),
        (
            [LENGTH_5, ("Content-Length", "0"), ("Content-Type", "application/octet-stream")],
            Create(upload_length=5),
        ),
        ([LENGTH_5, ("Content-Type", "text/plain")], Create(upload_length=5)),
        (
            [LENGTH_5, ("Content-Length", "3"), OFFSET_TYPE],
            Create(upload_length=5, content=Content(length=3)),
        ),
        (
            [LENGTH_5, CHUNKED, OFFSET_TYPE],
            Create(upload_length=5, content=Content(length=None)),
        ),
        (
            [LENGTH_5, ("Content-Length", "5"), OFFSET_TYPE, ("Upload-Checksum", SHA1)],
            Create(upload_length=5, content=Content(length=5, checksum=CHECKSUM)),
        ),
        (
            [LENGTH_5, ("Upload-Concat", "partial")],
            Create(upload_length=5, concat=Partial()),
        ),
        (
            [("Upload-Concat", "partial"), ("Upload-Defer-Length", "1")],
            Create(upload_length=None, concat=Partial()),
        ),
        (
            [("Upload-Concat", "final;/files/b https://h/files/a"), ("Upload-Metadata", "a")],
            Create(
                upload_length=None,
                upload_metadata="a",
                concat=Final(("/files/b", "https://h/files/a")),
                part_ids=("b", "a"),
            ),
        ),
        (
            [("Upload-Concat", "final;/files/a"), ("Upload-Defer-Length", "1")],
            Create(upload_length=None, concat=Final(("/files/a",)), part_ids=("a",)),
        ),
        # iOS: `URLSession` adds headers of the IETF draft; with `Tus-Resumable` they mean nothing.
        (
            [LENGTH_5, ("Upload-Complete", "?0"), ("Upload-Draft-Interop-Version", "6")],
            Create(upload_length=5),
        ),
    ],
)
def test_a_creation_is_read(pairs: list[tuple[str, str]], command: Create) -> None:
    assert created(*pairs) == command


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([], InvalidUploadLength),
        ([("Upload-Length", "")], InvalidUploadLength),
        ([("Upload-Length", "-1")], InvalidUploadLength),
        ([("Upload-Length", "5, 5")], InvalidUploadLength),
        ([LENGTH_5, LENGTH_5], InvalidHeader),
        ([LENGTH_5, ("Upload-Defer-Length", "1")], InvalidUploadDeferLength),
        ([LENGTH_5, ("Upload-Defer-Length", "0")], InvalidUploadDeferLength),
        ([("Upload-Defer-Length", "2")], InvalidUploadDeferLength),
        ([LENGTH_5, ("Upload-Metadata", "a YQ==,a Yg==")], InvalidUploadMetadata),
        ([LENGTH_5, ("Upload-Metadata", "a"), ("Upload-Metadata", "b")], InvalidHeader),
        ([LENGTH_5, ("Upload-Concat", "whole")], InvalidUploadConcat),
        ([LENGTH_5, ("Upload-Concat", "")], InvalidUploadConcat),
        ([("Upload-Concat", "final;/other/a")], InvalidPart),
        ([("Upload-Concat", "final;/files/a"), LENGTH_5], InvalidUploadLength),
        (
            [("Upload-Concat", "final;/files/a"), OFFSET_TYPE, ("Content-Length", "5")],
            InvalidHeader,
        ),
        ([LENGTH_5, ("Content-Length", "5")], InvalidContentType),
        ([LENGTH_5, ("Content-Length", "5"), ("Content-Type", "text/plain")], InvalidContentType),
        ([LENGTH_5, CHUNKED], InvalidContentType),
        ([LENGTH_5, ("Content-Length", "+5"), OFFSET_TYPE], InvalidHeader),
        (
            [LENGTH_5, ("Content-Length", "5"), OFFSET_TYPE, ("Upload-Checksum", "md4 YQ==")],
            UnsupportedAlgorithm,
        ),
    ],
)
def test_a_creation_that_cannot_be_read_is_refused(
    pairs: list[tuple[str, str]], error: type[TusError]
) -> None:
    with pytest.raises(error) as caught:
        parse_request(post(*pairs))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("pairs", "content"),
    [
        ([("Content-Length", "5")], Content(length=5)),
        ([("Content-Length", "0")], Content(length=0)),
        ([CHUNKED], Content(length=None)),
        (
            [("Content-Length", "5"), ("Upload-Checksum", SHA1)],
            Content(length=5, checksum=CHECKSUM),
        ),
        # tus-js-client and aiotus repeat it; it counts on POST alone.
        ([("Content-Length", "5"), ("Upload-Concat", "partial")], Content(length=5)),
        ([("Content-Length", "5"), ("Trailer", "Expires")], Content(length=5)),
    ],
)
def test_an_append_is_read(pairs: list[tuple[str, str]], content: Content) -> None:
    assert appended(OFFSET_0, *pairs) == Append(upload_id="a", upload_offset=0, content=content)


def test_a_body_without_a_length_is_taken_over_http_2() -> None:
    """HTTP/2 has no `Transfer-Encoding`: a body need not be announced by any header at all.

    The protocol "does not depend on specific versions of HTTP" (Abstract).
    """
    assert appended(OFFSET_0).content.length is None
    assert created(LENGTH_5, OFFSET_TYPE).content == Content(length=None)


def test_an_append_may_tell_the_length_at_last() -> None:
    assert appended(OFFSET_0, LENGTH_5).upload_length == 5


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([], InvalidUploadOffset),
        ([("Upload-Offset", "-1")], InvalidUploadOffset),
        ([OFFSET_0, OFFSET_0], InvalidHeader),
        ([OFFSET_0, ("Upload-Length", "-1")], InvalidUploadLength),
        ([OFFSET_0, ("Content-Length", "1_0")], InvalidHeader),
        ([OFFSET_0, ("Content-Length", "5"), ("Content-Length", "6")], InvalidHeader),
        ([OFFSET_0, ("Upload-Checksum", "sha1 YQ==")], InvalidUploadChecksum),
        ([OFFSET_0, OFFSET_TYPE], InvalidHeader),  # beside the one that `patch` sends
        ([OFFSET_0, ("X-HTTP-Method-Override", "PATCH")] * 2, InvalidHeader),
    ],
)
def test_an_append_that_cannot_be_read_is_refused(
    pairs: list[tuple[str, str]], error: type[TusError]
) -> None:
    with pytest.raises(error) as caught:
        parse_request(patch(*pairs))
    assert type(caught.value) is error


@pytest.mark.parametrize("trailer", ["Upload-Checksum", "expires , upload-checksum"])
def test_a_checksum_may_come_in_a_trailer_where_trailers_are_handed_over(trailer: str) -> None:
    """Where they are not, bytes would be taken for verified that nobody has verified."""
    command = appended(OFFSET_0, CHUNKED, ("Trailer", trailer), trailers=True)
    assert command.content == Content(length=None, checksum_in_trailer=True)
    with pytest.raises(InvalidUploadChecksum, match="send it as a header"):
        appended(OFFSET_0, CHUNKED, ("Trailer", trailer), trailers=False)


NAMES = [
    "Tus-Resumable",
    "X-HTTP-Method-Override",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Trailer",
    "Upload-Checksum",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
]
VALUES = st.one_of(
    st.binary(),
    st.sampled_from([b"1.0.0", b"1", b"0", b"PATCH", b"partial", OFFSET_TYPE[1].encode()]),
    st.builds(
        bytes.__add__,
        st.sampled_from([b"final;", b"final;http://[", b"final;//\xbd", b"sha1 ", b"a ", b"1"]),
        st.binary(),
    ),
    st.binary(min_size=1, max_size=3).map(lambda piece: piece * (LONG // 3)),
)


@steady
@given(
    method=st.sampled_from(["POST", "PATCH", "HEAD", "DELETE", "GET", "OPTIONS"]) | st.text(),
    upload_id=st.none() | st.text(),
    values=st.lists(st.tuples(st.sampled_from(NAMES).map(str.encode), VALUES)),
    base=st.booleans(),
    trailers=st.booleans(),
)
def test_whatever_comes_is_a_command_or_an_error_that_can_be_sent(
    method: str,
    upload_id: str | None,
    values: list[tuple[bytes, bytes]],
    base: bool,
    trailers: bool,
) -> None:
    """No header crashes the server, or comes back as more than it was."""
    sane = {b"Tus-Resumable": b"1.0.0", b"Upload-Length": b"5", b"Upload-Offset": b"0"}
    sane |= {b"Content-Type": OFFSET_TYPE[1].encode()}
    missing = sane.keys() - {name for name, _ in values} if base else set()
    headers = Headers([*values, *((name, sane[name]) for name in missing)])
    try:
        parse_request(
            Request(method=method, upload_id=upload_id, headers=headers, trailers=trailers)
        )
    except TusError as error:
        response = build_error(error)
        assert 400 <= response.status < 500
        assert response.body.decode().rstrip("\n").isprintable()
        assert all(value.isprintable() for _, value in response.headers)


REPLY = Reply(status=202, headers={"X-Id": "7"}, body="thanks")


@pytest.mark.parametrize(
    ("reply", "status_of_created", "status_of_appended", "body"),
    [
        (None, 201, 204, b""),
        (Reply(), 201, 204, b""),
        (Reply(body="thanks"), 201, 200, b"thanks"),  # a 204 has no body
        (Reply(status=202), 202, 202, b""),
        (Reply(status=202, body="d\u00e4nke"), 202, 202, "d\u00e4nke".encode()),
    ],
)
def test_the_application_adds_to_the_response_that_finishes(
    reply: Reply | None, status_of_created: int, status_of_appended: int, body: bytes
) -> None:
    upload = UPLOAD._replace(reply=reply)
    answer = build_created(upload, "/files/a")
    assert (answer.status, answer.body) == (status_of_created, body)
    answer = build_appended(upload)
    assert (answer.status, answer.body) == (status_of_appended, body)


def test_the_headers_of_the_application_come_beside_those_of_tus() -> None:
    answer = build_appended(UPLOAD._replace(upload_offset=100, phase=Phase.COMPLETE, reply=REPLY))
    assert answer.headers == (("Tus-Resumable", "1.0.0"), ("Upload-Offset", "100"), ("X-Id", "7"))


def test_lists_have_no_spaces() -> None:
    """TUSKit and tusgo do not trim."""
    for _, value in build_capabilities(Capabilities(max_size=1)).headers:
        assert " " not in value


def test_more_can_be_announced_where_the_server_can_do_more() -> None:
    extensions = ("creation", "checksum-trailer")
    answer = build_capabilities(Capabilities(extensions=extensions))
    assert header(answer, "Tus-Extension") == "creation,checksum-trailer"
    assert header(answer, "Tus-Max-Size") is None


def test_a_creation_tells_where_the_upload_stands_already() -> None:
    """TUSKit looks at `Upload-Offset`; a final upload has none before it is assembled."""
    location = "https://tus.example.org/files/a"
    answer = build_created(UPLOAD._replace(upload_offset=5), location)
    assert header(answer, "Location") == location
    assert header(answer, "Upload-Offset") == "5"
    assert header(build_created(FINAL, location), "Upload-Offset") is None


def test_an_error_is_plain_text_with_its_code() -> None:
    answer = build_error(UploadNotFound("a"))
    assert answer.status == 404
    assert header(answer, "Content-Type") == "text/plain; charset=utf-8"
    assert (
        answer.body == b"ERR_UPLOAD_NOT_FOUND: there is no upload 'a' here; create one with POST\n"
    )


@pytest.mark.parametrize(
    ("error", "section"),
    [
        (UploadGone("a", "has expired"), {"section": "Expiration, Upload-Expires"}),
        (MethodNotAllowed("PUT", "POST"), {}),
    ],
)
def test_an_error_is_a_problem_for_who_asks_for_one(
    error: TusError, section: dict[str, str]
) -> None:
    answer = build_error(error, problem_json=True)
    assert header(answer, "Content-Type") == "application/problem+json"
    assert json.loads(answer.body) == {
        "title": error.code,
        "status": answer.status,
        "detail": str(error),
        **section,
    }


def test_the_error_of_a_head_has_no_body_and_is_not_kept() -> None:
    answer = build_error(UnsupportedVersion("0.2.2", "1.0.0"), head=True)
    assert answer.body == b""
    assert answer.headers == (
        ("Tus-Resumable", "1.0.0"),
        ("Tus-Version", "1.0.0"),
        ("Cache-Control", "no-store"),
    )


@pytest.mark.parametrize("problem_json", [False, True])
def test_a_refusal_of_the_application_is_sent_in_its_own_words(problem_json: bool) -> None:
    """A hook server written for tusd answers in JSON, and its page parses what it wrote."""
    error = Rejected(422, '{"why": "virus"}', {"content-type": "application/json", "X-Id": "7"})
    answer = build_error(error, problem_json=problem_json)
    assert answer.status == 422
    assert answer.headers == (
        ("Tus-Resumable", "1.0.0"),
        ("content-type", "application/json"),
        ("X-Id", "7"),
    )
    assert answer.body == b'{"why": "virus"}'


@pytest.mark.parametrize(
    ("upload", "shown"),
    [
        (UPLOAD, True),
        (UPLOAD._replace(expires_at=None), False),
        (UPLOAD._replace(phase=Phase.COMPLETE), False),
        (PARTIAL._replace(phase=Phase.COMPLETE), True),
    ],
)
def test_an_expiry_is_told_where_there_is_one(upload: Upload, shown: bool) -> None:
    """Golden Retriever in Uppy, and scripts, decide by it whether resuming is worth a try."""
    expected = "Tue, 14 Nov 2023 23:13:20 GMT" if shown else None
    for answer in (build_created(upload, "/files/a"), build_appended(upload), build_found(upload)):
        assert header(answer, "Upload-Expires") == expected
