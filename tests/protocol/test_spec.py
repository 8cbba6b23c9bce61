"""tus 1.0.0, sentence by sentence: every MUST and SHOULD for a server that needs no server to see.

Each test is named after its section, and quotes the sentence that it holds the room to. What needs
bytes, time or two requests is in tests/asgi/test_spec.py.
"""

import email.utils

import pytest

from tests.protocol.samples import (
    DEFERRED,
    FINAL,
    NOW,
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
)
from tusd_py.protocol import commands, decide
from tusd_py.protocol.checksum import ALGORITHMS
from tusd_py.protocol.decide import Limits
from tusd_py.protocol.errors import (
    ChecksumMismatch,
    FinalNotModifiable,
    InvalidUploadLength,
    OffsetMismatch,
    ReadTimeout,
    StorageFailed,
    TusError,
    UploadGone,
    UploadNotFound,
    UploadTooLarge,
)
from tusd_py.protocol.tus1 import (
    EXTENSIONS,
    Capabilities,
    Response,
    build_appended,
    build_capabilities,
    build_created,
    build_error,
    build_found,
    build_terminated,
    parse_request,
)
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload, received

LOCATION = "https://tus.example.org/files/a"
LENGTH = ("Upload-Length", "100")
OFFSET = ("Upload-Offset", "0")
SHA1 = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="
COMPLETE = UPLOAD._replace(upload_offset=100, phase=Phase.COMPLETE)
ASSEMBLED = FINAL._replace(upload_offset=11, upload_length=11, phase=Phase.COMPLETE)
NO_INTEGERS = ["-1", "+1", "1.0", "1_0", "one", "", "\u0663".encode().decode("latin-1")]
NO_LIMITS = Limits()
EVERY_RESPONSE = [
    build_created(UPLOAD, LOCATION),
    build_appended(UPLOAD),
    build_found(UPLOAD),
    build_terminated(),
    build_capabilities(Capabilities()),
    build_error(UploadNotFound("a")),
    build_error(UploadNotFound("a"), head=True),
    build_error(StorageFailed(), problem_json=True),
]


def announced() -> list[str]:
    value = header(build_capabilities(Capabilities()), "Tus-Extension")
    assert value is not None
    return value.split(",")


# Core Protocol, Headers


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_core_upload_offset__must_be_a_non_negative_integer(value: str) -> None:
    """The Upload-Offset request and response header indicates a byte offset within a resource.
    The value MUST be a non-negative integer.
    """
    assert refused(patch(("Upload-Offset", value))).status == 400
    assert appended(("Upload-Offset", "70")).upload_offset == 70
    for response in (build_found(UPLOAD), build_appended(UPLOAD), build_created(UPLOAD, LOCATION)):
        assert header(response, "Upload-Offset") == "0"


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_core_upload_length__must_be_a_non_negative_integer(value: str) -> None:
    """The Upload-Length request and response header indicates the size of the entire upload in
    bytes. The value MUST be a non-negative integer.
    """
    assert refused(post(("Upload-Length", value))).status == 400
    assert created(("Upload-Length", "0")).upload_length == 0
    assert header(build_found(UPLOAD), "Upload-Length") == "100"


def test_core_tus_version__must_be_a_list_sorted_by_preference() -> None:
    """The Tus-Version response header MUST be a comma-separated list of protocol versions
    supported by the Server. The list MUST be sorted by Server's preference where the first one is
    the most preferred one.
    """
    assert header(build_capabilities(Capabilities()), "Tus-Version") == "1.0.0"


@pytest.mark.parametrize("response", EVERY_RESPONSE)
def test_core_tus_resumable__must_be_in_every_response(response: Response) -> None:
    """The Tus-Resumable header MUST be included in every request and response except for OPTIONS
    requests. The value MUST be the version of the protocol used by the Client or the Server.
    """
    assert header(response, "Tus-Resumable") == "1.0.0"


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0", "1.0.1", "2.0.0", "1.0.0, 0.2.2"])
@pytest.mark.parametrize(
    ("method", "upload_id"), [("POST", None), ("HEAD", "a"), ("PATCH", "a"), ("DELETE", "a")]
)
def test_core_tus_resumable__another_version_must_be_412(
    method: str, upload_id: str | None, version: str | None
) -> None:
    """If the version specified by the Client is not supported by the Server, it MUST respond with
    the 412 Precondition Failed status and MUST include the Tus-Version header into the response.
    In addition, the Server MUST NOT process the request.
    """
    valid = (OFFSET_TYPE, LENGTH, OFFSET)
    response = refused(request(method, upload_id, *valid, version=version))
    assert (response.status, header(response, "Tus-Version")) == (412, "1.0.0")


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_core_tus_resumable__another_version_must_be_412_whatever_the_method(method: str) -> None:
    """If the version specified by the Client is not supported by the Server, it MUST respond with
    the 412 Precondition Failed status and MUST include the Tus-Version header into the response.
    In addition, the Server MUST NOT process the request.
    """
    response = refused(request(method, "a", version="0.2.2"))
    assert (response.status, header(response, "Tus-Version")) == (412, "1.0.0")


def test_core_tus_extension__must_be_a_list() -> None:
    """The Tus-Extension response header MUST be a comma-separated list of the extensions supported
    by the Server.
    """
    assert announced() == list(EXTENSIONS)


def test_core_tus_extension__must_be_omitted_when_there_is_none() -> None:
    """If no extensions are supported, the Tus-Extension header MUST be omitted."""
    assert header(build_capabilities(Capabilities(extensions=())), "Tus-Extension") is None


@pytest.mark.parametrize("max_size", [0, 1, 1073741824])
def test_core_tus_max_size__should_be_set_and_must_be_a_non_negative_integer(max_size: int) -> None:
    """The Tus-Max-Size response header MUST be a non-negative integer indicating the maximum
    allowed size of an entire upload in bytes. The Server SHOULD set this header if there is a
    known hard limit.
    """
    response = build_capabilities(Capabilities(max_size=max_size))
    assert header(response, "Tus-Max-Size") == str(max_size)


@pytest.mark.parametrize("actual", ["POST", "GET", "PUT", "OPTIONS"])
def test_core_x_http_method_override__must_be_the_method(actual: str) -> None:
    """The X-HTTP-Method-Override request header MUST be a string which MUST be interpreted as the
    request's method by the Server, if the header is presented. The actual method of the request
    MUST be ignored.
    """
    overridden = request(actual, "a", ("X-HTTP-Method-Override", "DELETE"))
    assert parse_request(overridden) == commands.Terminate(upload_id="a")


# Core Protocol, HEAD


@pytest.mark.parametrize(
    ("upload", "upload_offset"),
    [
        (UPLOAD, "0"),
        (UPLOAD._replace(upload_offset=70), "70"),
        (DEFERRED._replace(upload_offset=70), "70"),
        (UPLOAD._replace(upload_offset=100, phase=Phase.FINISHING), "100"),
        (COMPLETE, "100"),
        (UPLOAD._replace(upload_length=0, phase=Phase.COMPLETE), "0"),
    ],
)
def test_core_head__must_include_upload_offset(upload: Upload, upload_offset: str) -> None:
    """The Server MUST always include the Upload-Offset header in the response for a HEAD request,
    even if the offset is 0, or the upload is already considered completed.
    """
    assert header(build_found(upload), "Upload-Offset") == upload_offset


@pytest.mark.parametrize("upload", [UPLOAD, COMPLETE, PARTIAL, FINAL._replace(upload_length=100)])
def test_core_head__must_include_a_known_upload_length(upload: Upload) -> None:
    """If the size of the upload is known, the Server MUST include the Upload-Length header in the
    response.
    """
    assert header(build_found(upload), "Upload-Length") == "100"


@pytest.mark.parametrize(
    ("upload", "status"),
    [
        (None, 404),
        (UPLOAD._replace(phase=Phase.TERMINATED), 410),
        (UPLOAD._replace(expires_at=NOW), 410),
    ],
)
def test_core_head__not_found_should_be_404_or_410_without_an_offset(
    upload: Upload | None, status: int
) -> None:
    """If the resource is not found, the Server SHOULD return either the 404 Not Found, 410 Gone or
    403 Forbidden status without the Upload-Offset header.
    """
    with pytest.raises(TusError) as caught:
        decide.find(upload, "a", NOW)
    response = build_error(caught.value, head=True)
    assert response.status == status
    assert header(response, "Upload-Offset") is None


def test_core_head__should_be_200_or_204() -> None:
    """The Server SHOULD acknowledge successful HEAD requests with a 200 OK or 204 No Content
    status.
    """
    assert parse_request(request("HEAD", "a")) == commands.Query(upload_id="a")
    assert build_found(UPLOAD).status == 200, "go-tus and tusgo take no 204"


@pytest.mark.parametrize(
    "response", [build_found(UPLOAD), build_error(UploadNotFound("a"), head=True)]
)
def test_core_head__must_not_be_cached(response: Response) -> None:
    """The Server MUST prevent the client and/or proxies from caching the response by adding the
    Cache-Control: no-store header to the response.
    """
    assert header(response, "Cache-Control") == "no-store"


# Core Protocol, PATCH


@pytest.mark.parametrize("upload", [UPLOAD, PARTIAL, DEFERRED, UPLOAD._replace(upload_offset=70)])
def test_core_patch__should_be_accepted_against_any_upload(upload: Upload) -> None:
    """The Server SHOULD accept PATCH requests against any upload URL and apply the bytes contained
    in the message at the given offset specified by the Upload-Offset header.
    """
    command = appended(("Upload-Offset", str(upload.upload_offset)), ("Content-Length", "30"))
    plan = decide.append(command, upload, NO_LIMITS, NOW)
    assert (plan.upload.upload_offset, plan.at_most) == (upload.upload_offset, 30)


@pytest.mark.parametrize(
    "content_type", [None, "", "application/octet-stream", "text/plain", "multipart/form-data"]
)
def test_core_patch__another_content_type_should_be_415(content_type: str | None) -> None:
    """All PATCH requests MUST use Content-Type: application/offset+octet-stream, otherwise the
    server SHOULD return a 415 Unsupported Media Type status.
    """
    pairs = [] if content_type is None else [("Content-Type", content_type)]
    assert refused(request("PATCH", "a", OFFSET, *pairs)).status == 415


@pytest.mark.parametrize("upload_offset", ["0", "69", "71", "9223372036854775807"])
def test_core_patch__offset_mismatch_must_be_409(upload_offset: str) -> None:
    """If the offsets do not match, the Server MUST respond with the 409 Conflict status without
    modifying the upload resource.
    """
    command = appended(("Upload-Offset", upload_offset), ("Content-Length", "0"))
    with pytest.raises(OffsetMismatch) as caught:
        decide.append(command, UPLOAD._replace(upload_offset=70), NO_LIMITS, NOW)
    assert build_error(caught.value).status == 409


def test_core_patch__success_must_be_204_with_the_new_offset() -> None:
    """The Server MUST acknowledge successful PATCH requests with the 204 No Content status. It MUST
    include the Upload-Offset header containing the new offset.
    """
    response = build_appended(received(UPLOAD._replace(upload_offset=70), 100))
    assert (response.status, response.body) == (204, b"")
    assert header(response, "Upload-Offset") == "100"


def test_core_patch__nothing_there_should_be_404() -> None:
    """If the server receives a PATCH request against a non-existent resource it SHOULD return a 404
    Not Found status.
    """
    command = appended(OFFSET, ("Content-Length", "30"))
    for refuse in (
        lambda: decide.refuse_early(command, None, NOW),
        lambda: decide.append(command, None, NO_LIMITS, NOW),
    ):
        with pytest.raises(UploadNotFound) as caught:
            refuse()
        assert build_error(caught.value).status == 404


def test_core_patch__a_timeout_should_close_the_connection() -> None:
    """A timeout SHOULD be handled by closing the underlying connection."""
    assert header(build_error(ReadTimeout()), "Connection") == "close"


@pytest.mark.parametrize("pairs", [[("Content-Length", "30")], [("Transfer-Encoding", "chunked")]])
def test_core_patch__should_store_as_much_as_possible(pairs: list[tuple[str, str]]) -> None:
    """The Server SHOULD always attempt to store as much of the received data as possible."""
    plan = decide.append(appended(OFFSET, *pairs), UPLOAD, NO_LIMITS, NOW)
    assert plan.keep_partial
    assert plan.at_most >= 30


# Core Protocol, OPTIONS


def test_core_options__must_contain_tus_version() -> None:
    """A successful response indicated by the 204 No Content or 200 OK status MUST contain the
    Tus-Version header.
    """
    response = build_capabilities(Capabilities())
    assert response.status == 204
    assert header(response, "Tus-Version") == "1.0.0"


@pytest.mark.parametrize("version", [None, "1.0.0", "0.2.2", "nonsense"])
@pytest.mark.parametrize("upload_id", [None, "a"])
def test_core_options__must_ignore_tus_resumable(
    upload_id: str | None, version: str | None
) -> None:
    """The Client SHOULD NOT include the Tus-Resumable header in the request and the Server MUST
    ignore the header.
    """
    assert parse_request(request("OPTIONS", upload_id, version=version)) == commands.Discover()


# Protocol Extensions


@pytest.mark.parametrize(
    "extension",
    [
        "creation",
        "creation-defer-length",
        "creation-with-upload",
        "expiration",
        "checksum",
        "termination",
        "concatenation",
        "concatenation-unfinished",
    ],
)
def test_extensions__must_be_announced(extension: str) -> None:
    """If the Server supports this extension, it MUST add it to the Tus-Extension header."""
    assert announced().count(extension) == 1


def test_extensions__checksum_trailer_must_be_announced_where_it_works_and_only_there() -> None:
    """If the Server can handle trailers, this behavior MUST be announced by adding checksum-trailer
    to the Tus-Extension header.
    """
    assert "checksum-trailer" not in announced()
    trailer = (OFFSET, ("Transfer-Encoding", "chunked"), ("Trailer", "Upload-Checksum"))
    assert refused(patch(*trailer)).status == 400
    assert appended(*trailer, trailers=True).content.checksum_in_trailer
    both = Capabilities(extensions=(*EXTENSIONS, "checksum-trailer"))
    announced_both = header(build_capabilities(both), "Tus-Extension")
    assert announced_both is not None
    assert announced_both.endswith(",checksum-trailer")


# Creation


@pytest.mark.parametrize("value", ["0", "2", "", "true", "01"])
def test_creation_upload_defer_length__must_be_1(value: str) -> None:
    """The Upload-Defer-Length request and response header indicates that the size of the upload is
    not known currently and will be transferred later. Its value MUST be 1.
    If the Upload-Defer-Length header contains any other value than 1 the server should return a 400
    Bad Request status.
    """
    assert refused(post(("Upload-Defer-Length", value))).status == 400
    assert created(("Upload-Defer-Length", "1")).upload_length is None


@pytest.mark.parametrize("upload", [UPLOAD, COMPLETE, PARTIAL, ASSEMBLED])
def test_creation_upload_defer_length__must_be_omitted_when_not_deferred(upload: Upload) -> None:
    """If the length of an upload is not deferred, this header MUST be omitted."""
    assert header(build_found(upload), "Upload-Defer-Length") is None


@pytest.mark.parametrize("upload", [DEFERRED, PARTIAL._replace(upload_length=None)])
def test_creation_post__head_must_tell_that_the_length_is_deferred(upload: Upload) -> None:
    """As long as the length of the upload is not known, the Server MUST set Upload-Defer-Length: 1
    in all responses to HEAD requests.
    """
    response = build_found(upload)
    assert header(response, "Upload-Defer-Length") == "1"
    assert header(response, "Upload-Length") is None


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("a\tYQ==", "The key and value MUST be separated by a space."),
        ("a b YQ==", "The key MUST NOT contain spaces and commas"),
        ("a YQ==,,b", "and MUST NOT be empty."),
        (",", "and MUST NOT be empty."),
        ("\u00e4 YQ==", "The key SHOULD be ASCII encoded"),
        ("a !", "and the value MUST be Base64 encoded."),
        ("a YQ", "and the value MUST be Base64 encoded."),
        ("a YQ==,b,a Yg==", "All keys MUST be unique."),
    ],
)
def test_creation_upload_metadata__must_keep_to_its_grammar(value: str, sentence: str) -> None:
    """The Upload-Metadata request and response header MUST consist of one or more comma-separated
    key-value pairs. The key and value MUST be separated by a space. The key MUST NOT contain spaces
    and commas and MUST NOT be empty. The key SHOULD be ASCII encoded and the value MUST be Base64
    encoded. All keys MUST be unique.
    """
    assert refused(post(LENGTH, ("Upload-Metadata", value))).status == 400, sentence


@pytest.mark.parametrize("value", ["a YQ==,empty", "a YQ==,empty "])
def test_creation_upload_metadata__a_value_may_be_empty(value: str) -> None:
    """The value MAY be empty. In these cases, the space, which would normally separate the key and
    the value, MAY be left out.
    """
    upload = decide.create(created(LENGTH, ("Upload-Metadata", value)), "a", NO_LIMITS, NOW)
    assert upload.metadata == {"a": b"a", "empty": b""}


@pytest.mark.parametrize("smuggled", ["\r\nX: y", "\n", "\x00", "\x7f", "\x85", "\u00ff"])
def test_creation_upload_metadata__should_not_smuggle_headers(smuggled: str) -> None:
    """Since metadata can contain arbitrary binary values, Servers SHOULD carefully validate
    metadata values or sanitize them before using them as header values to avoid header smuggling.
    """
    for value in (f"a YQ=={smuggled}, b", f"a{smuggled} YQ=="):
        assert refused(post(LENGTH, ("Upload-Metadata", value))).status == 400


def test_creation_post__must_include_a_length_or_that_it_is_deferred() -> None:
    """The request MUST include one of the following headers: a) Upload-Length to indicate the size
    of an entire upload in bytes. b) Upload-Defer-Length: 1 if upload size is not known at the time.
    """
    assert refused(post()).status == 400
    assert refused(post(LENGTH, ("Upload-Defer-Length", "1"))).status == 400


def test_creation_post__the_length_must_not_change_once_set() -> None:
    """If the length was deferred using Upload-Defer-Length: 1, the Client MUST set the
    Upload-Length header in the next PATCH request, once the length is known. Once set the length
    MUST NOT be changed.
    """
    told = appended(OFFSET, LENGTH, ("Content-Length", "0"))
    upload = decide.append(told, DEFERRED, NO_LIMITS, NOW).upload
    assert upload.upload_length == 100
    assert decide.append(told, upload, NO_LIMITS, NOW).upload.upload_length == 100
    for changed in ("99", "101"):
        command = appended(OFFSET, ("Upload-Length", changed), ("Content-Length", "0"))
        with pytest.raises(InvalidUploadLength) as caught:
            decide.append(command, upload, NO_LIMITS, NOW)
        assert build_error(caught.value).status == 400


def test_creation_post__an_empty_upload_is_complete_without_patch() -> None:
    """The Upload-Length header MAY be set to 0, indicating that the Client wants to upload an empty
    file. Such an upload is immediately complete after its creation without transferring data using
    PATCH requests.
    """
    upload = decide.create(created(("Upload-Length", "0")), "a", NO_LIMITS, NOW)
    assert upload.phase is Phase.FINISHING, "nothing is waited for"


@pytest.mark.parametrize(
    "value", ["filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential", "b YQ==, a ,c YR=="]
)
def test_creation_post__head_must_give_the_metadata_as_specified(value: str) -> None:
    """If an upload contains additional metadata, responses to HEAD requests MUST include the
    Upload-Metadata header and its value as specified by the Client during the creation.
    """
    upload = decide.create(created(LENGTH, ("Upload-Metadata", value)), "a", NO_LIMITS, NOW)
    for found in (upload, upload._replace(changed_metadata="other YQ==")):
        assert header(build_found(found), "Upload-Metadata") == value


@pytest.mark.parametrize(
    "pairs",
    [
        [("Upload-Length", "1001")],
        [("Upload-Defer-Length", "1"), OFFSET_TYPE, ("Content-Length", "1001")],
    ],
)
def test_creation_post__beyond_the_maximum_must_be_413(pairs: list[tuple[str, str]]) -> None:
    """If the length of the upload exceeds the maximum, which MAY be specified using the
    Tus-Max-Size header, the Server MUST respond with the 413 Request Entity Too Large status.
    """
    with pytest.raises(UploadTooLarge) as caught:
        decide.create(created(*pairs), "a", Limits(max_size=1000), NOW)
    assert build_error(caught.value).status == 413


@pytest.mark.parametrize("upload", [UPLOAD, DEFERRED, PARTIAL, FINAL, COMPLETE])
def test_creation_post__success_must_be_201_with_location(upload: Upload) -> None:
    """The Server MUST acknowledge a successful upload creation with the 201 Created status. The
    Server MUST set the Location header to the URL of the created resource.
    """
    response = build_created(upload, LOCATION)
    assert (response.status, header(response, "Location")) == (201, LOCATION)


# Creation With Upload


def test_creation_with_upload__must_not_be_offered_without_creation() -> None:
    """If the Server does not offer the Creation extension, it MUST NOT offer the Creation With
    Upload extension either.
    """
    assert {"creation", "creation-with-upload"} <= set(announced())


def test_creation_with_upload__another_content_type_is_415() -> None:
    """In this case, similar rules as for the PATCH request and response apply. The Client MUST
    include the Content-Type: application/offset+octet-stream header.
    """
    assert refused(post(LENGTH, ("Content-Length", "5"))).status == 415


def test_creation_with_upload__must_tell_the_offset_after_what_was_accepted() -> None:
    """The Server SHOULD accept as many bytes as possible and MUST include the Upload-Offset header
    in the response and MUST set its value to the offset of the upload after applying the accepted
    bytes.
    """
    command = created(LENGTH, OFFSET_TYPE, ("Content-Length", "5"))
    assert command.content == commands.Content(length=5)
    upload = received(decide.create(command, "a", NO_LIMITS, NOW), 5)
    assert header(build_created(upload, LOCATION), "Upload-Offset") == "5"


# Expiration


@pytest.mark.parametrize("upload", [UPLOAD, DEFERRED, PARTIAL._replace(phase=Phase.COMPLETE)])
def test_expiration_upload_expires__must_be_in_every_patch_response(upload: Upload) -> None:
    """This header MUST be included in every PATCH response if the upload is going to expire."""
    assert header(build_appended(upload), "Upload-Expires") == "Tue, 14 Nov 2023 23:13:20 GMT"


def test_expiration_upload_expires__must_be_in_the_response_to_post() -> None:
    """If the expiration is known at the creation, the Upload-Expires header MUST be included in the
    response to the initial POST request.
    """
    upload = decide.create(created(LENGTH), "a", Limits(expire_after=3600), NOW)
    response = build_created(upload, LOCATION)
    assert header(response, "Upload-Expires") == "Tue, 14 Nov 2023 23:13:20 GMT"


@pytest.mark.parametrize("upload", [UPLOAD._replace(phase=Phase.EXPIRED), UPLOAD])
def test_expiration_upload_expires__afterwards_should_be_410(upload: Upload) -> None:
    """If a Client does attempt to resume an upload which has since been removed by the Server, the
    Server SHOULD respond with the 404 Not Found or 410 Gone status. The latter one SHOULD be used
    if the Server is keeping track of expired uploads.
    """
    command = appended(OFFSET, ("Content-Length", "30"))
    with pytest.raises(UploadGone) as caught:
        decide.append(command, upload, NO_LIMITS, NOW + 3600)
    assert build_error(caught.value).status == 410


def test_expiration_upload_expires__must_be_an_rfc_9110_date() -> None:
    """The value of the Upload-Expires header MUST be in RFC 9110 datetime format."""
    value = header(build_appended(UPLOAD), "Upload-Expires")
    assert value == email.utils.formatdate(NOW + 3600, usegmt=True)


# Checksum


@pytest.mark.parametrize(
    ("pairs", "trailers"),
    [
        ([("Upload-Checksum", SHA1)], False),
        ([("Trailer", "Upload-Checksum"), ("Transfer-Encoding", "chunked")], True),
    ],
)
def test_checksum__a_chunk_must_not_count_before_it_was_verified(
    pairs: list[tuple[str, str]], trailers: bool
) -> None:
    """Once the entire request has been received, the Server MUST verify the uploaded chunk against
    the provided checksum using the specified algorithm. In the first two cases the uploaded chunk
    MUST be discarded, and the upload and its offset MUST NOT be updated.
    """
    plan = decide.append(appended(OFFSET, *pairs, trailers=trailers), UPLOAD, NO_LIMITS, NOW)
    assert not plan.keep_partial
    assert plan.upload == UPLOAD._replace(tail=Tail.SEALED, expires_at=plan.upload.expires_at)


def test_checksum__an_unknown_algorithm_is_400_and_a_mismatch_460() -> None:
    """Depending on the result the Server MAY respond with one of the following status code:
    1) 400 Bad Request if the checksum algorithm is not supported by the server, 2) 460 Checksum
    Mismatch if the checksums mismatch.
    """
    assert refused(patch(OFFSET, ("Upload-Checksum", "md4 YQ=="))).status == 400
    assert build_error(ChecksumMismatch("sha1")).status == 460


def test_checksum__must_support_sha1() -> None:
    """The Server MUST support at least the SHA1 checksum algorithm identified by sha1."""
    checksum = appended(OFFSET, ("Upload-Checksum", SHA1)).content.checksum
    assert checksum is not None
    digest = checksum.start()
    digest.update(b"hello world")
    assert digest.digest() == checksum.digest


def test_checksum__names_must_be_ascii_without_uppercase() -> None:
    """The names of the checksum algorithms MUST only consist of ASCII characters with the
    modification that uppercase characters are excluded.
    """
    assert all(name.isascii() and name == name.lower() for name in ALGORITHMS)
    assert refused(patch(OFFSET, ("Upload-Checksum", SHA1.replace("sha1", "SHA1")))).status == 400


def test_checksum_tus_checksum_algorithm__must_be_a_list_in_the_response_to_options() -> None:
    """The Tus-Checksum-Algorithm header MUST be included in the response to an OPTIONS request.
    The Tus-Checksum-Algorithm response header MUST be a comma-separated list of the checksum
    algorithms supported by the server.
    """
    value = header(build_capabilities(Capabilities()), "Tus-Checksum-Algorithm")
    assert value == ",".join(ALGORITHMS)


@pytest.mark.parametrize("value", ["", "sha1", SHA1.replace(" ", ","), SHA1[:-1], SHA1[5:]])
def test_checksum_upload_checksum__must_be_a_name_a_space_and_base64(value: str) -> None:
    """The header MUST consist of the name of the used checksum algorithm and the Base64 encoded
    checksum separated by a space.
    """
    assert refused(patch(OFFSET, ("Upload-Checksum", value))).status == 400


# Termination


def test_termination_delete__success_must_be_204() -> None:
    """When receiving a DELETE request for an existing upload the Server SHOULD free associated
    resources and MUST respond with the 204 No Content status confirming that the upload was
    terminated.
    """
    assert parse_request(request("DELETE", "a")) == commands.Terminate(upload_id="a")
    response = build_terminated()
    assert (response.status, response.body) == (204, b"")


@pytest.mark.parametrize("upload", [UPLOAD, COMPLETE, PARTIAL, FINAL])
def test_termination_delete__afterwards_should_be_404_or_410(upload: Upload) -> None:
    """For all future requests to this URL, the Server SHOULD respond with the 404 Not Found or 410
    Gone status.
    """
    gone = upload._replace(phase=Phase.TERMINATED)
    with pytest.raises(UploadGone):
        decide.find(gone, "a", NOW)
    with pytest.raises(UploadGone):
        decide.append(appended(OFFSET), gone, NO_LIMITS, NOW)
    with pytest.raises(UploadNotFound):
        decide.download(gone, "a", NOW)


# Concatenation


@pytest.mark.parametrize(("lengths", "total"), [((5, 6), 11), ((5, 5), 10), ((0, 7), 7)])
def test_concatenation__the_length_must_be_the_sum(lengths: tuple[int, int], total: int) -> None:
    """The length of the final upload MUST be the sum of the length of all partial uploads."""
    parts = [PARTIAL._replace(upload_length=length) for length in lengths]
    assert decide.final_length(parts, NO_LIMITS) == total


@pytest.mark.parametrize(
    "value", ["final", "final;", "final /files/a", "final,/files/a", "Partial"]
)
def test_concatenation_upload_concat__must_be_partial_or_final_and_a_list(value: str) -> None:
    """If the upload is a partial one, the header value MUST be partial. In the case of a final
    upload, its value MUST be final followed by a semicolon and a space-separated list of partial
    upload URLs that will be concatenated.
    """
    assert refused(post(("Upload-Concat", value), LENGTH)).status == 400


@pytest.mark.parametrize(
    ("listed", "parts"),
    [
        ("/files/a /files/b", ("a", "b")),
        ("/files/b /files/a", ("b", "a")),
        ("/files/a /files/a", ("a", "a")),  # "MAY be present multiple times"
        ("https://tus.example.org/files/b https://tus.example.org/files/a", ("b", "a")),
    ],
)
def test_concatenation__must_be_in_the_order_of_the_list(
    listed: str, parts: tuple[str, ...]
) -> None:
    """The partial uploads MUST be concatenated as per the order specified in the list."""
    command = created(("Upload-Concat", f"final;{listed}"))
    assert decide.create(command, "f", NO_LIMITS, NOW).parts == parts


def test_concatenation__upload_length_must_not_be_sent_for_a_final() -> None:
    """The Client MUST NOT include the Upload-Length header in the final upload creation."""
    assert refused(post(("Upload-Concat", "final;/files/a"), LENGTH)).status == 400


def test_concatenation__metadata_of_parts_shall_not_be_transferred() -> None:
    """When creating a new final upload the partial uploads' metadata SHALL NOT be transferred to
    the new final upload. All metadata SHOULD be included in the concatenation request using the
    Upload-Metadata header.
    """
    concat = ("Upload-Concat", "final;/files/a")
    assert decide.create(created(concat), "f", NO_LIMITS, NOW).metadata == {}
    command = created(concat, ("Upload-Metadata", "a YQ=="))
    assert decide.create(command, "f", NO_LIMITS, NOW).metadata == {"a": b"a"}


@pytest.mark.parametrize(
    "upload",
    [
        FINAL,
        FINAL._replace(phase=Phase.FINISHING),
        ASSEMBLED,
        FINAL._replace(phase=Phase.FAILED, reply=Reply(status=422)),
    ],
    ids=lambda upload: upload.phase,
)
@pytest.mark.parametrize("upload_offset", ["0", "11"])
def test_concatenation__patch_against_a_final_must_be_403(
    upload: Upload, upload_offset: str
) -> None:
    """The Server MUST respond with the 403 Forbidden status to PATCH requests against a final
    upload URL and MUST NOT modify the final or its partial uploads.
    """
    command = appended(("Upload-Offset", upload_offset), ("Content-Length", "0"))
    with pytest.raises(FinalNotModifiable) as caught:
        decide.append(command, upload, NO_LIMITS, NOW)
    assert build_error(caught.value).status == 403


@pytest.mark.parametrize("phase", [Phase.RECEIVING, Phase.FINISHING])
def test_concatenation__head_should_not_tell_an_offset_before_the_finish(phase: Phase) -> None:
    """The response to a HEAD request for a final upload SHOULD NOT contain the Upload-Offset header
    unless the concatenation has been successfully finished.
    """
    assert header(build_found(FINAL._replace(phase=phase)), "Upload-Offset") is None


def test_concatenation__head_must_tell_offset_and_length_after_the_finish() -> None:
    """After successful concatenation, the Upload-Offset and Upload-Length MUST be set and their
    values MUST be equal.
    """
    response = build_found(ASSEMBLED)
    assert header(response, "Upload-Offset") == header(response, "Upload-Length") == "11"


def test_concatenation__head_must_tell_the_offset_of_a_part() -> None:
    """The response to a HEAD request for a partial upload MUST contain the Upload-Offset header."""
    assert header(build_found(PARTIAL._replace(upload_offset=5)), "Upload-Offset") == "5"


def test_concatenation__head_must_tell_the_length_if_it_can_be_calculated() -> None:
    """The Upload-Length header MUST be included if the length of the final resource can be
    calculated at the time of the request.
    """
    length = decide.final_length([PARTIAL, PARTIAL], NO_LIMITS)
    assert header(build_found(FINAL._replace(upload_length=length)), "Upload-Length") == "200"
    length = decide.final_length([PARTIAL, PARTIAL._replace(upload_length=None)], NO_LIMITS)
    assert header(build_found(FINAL._replace(upload_length=length)), "Upload-Length") is None


@pytest.mark.parametrize(
    "value",
    ["partial", "final;/files/b /files/a /files/b", "final;https://h/files/a /files/b?x#y"],
)
def test_concatenation__head_must_give_upload_concat_as_received(value: str) -> None:
    """Response to HEAD request against partial or final upload MUST include the Upload-Concat
    header and its value as received in the upload creation request.
    """
    length = () if value.startswith("final") else (LENGTH,)
    upload = decide.create(created(("Upload-Concat", value), *length), "f", NO_LIMITS, NOW)
    assert header(build_found(upload), "Upload-Concat") == value


@pytest.mark.parametrize("url", ["/files/a", "https://tus.example.org/files/a"])
def test_concatenation_upload_concat__urls_may_be_absolute_or_relative(url: str) -> None:
    """The partial uploads URLs MAY be absolute or relative and MUST NOT contain spaces as defined
    in RFC 3986.
    """
    assert created(("Upload-Concat", f"final;{url}")).part_ids == ("a",)
