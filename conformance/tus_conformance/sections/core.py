"""Core Protocol: OPTIONS, versions, HEAD, PATCH, method override, header fields."""

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, SHOULD, Section
from tus_conformance.subject import OFFSET_TYPE, Tus
from tus_conformance.wire import Answer, Url, compose

core = Section("core", "Core Protocol")
case = core.case

UNKNOWN_VERSION = "0.0.1"
TUS_RESUMABLE = (
    "The `Tus-Resumable` header MUST be included in every request and response except "
    "for `OPTIONS` requests."
)
UNSUPPORTED = (
    "If the version specified by the Client is not supported by the Server, it MUST respond with "
    "the `412 Precondition Failed` status and MUST include the `Tus-Version` header into the "
    "response."
)
NOT_PROCESSED = "In addition, the Server MUST NOT process the request."
ALWAYS_OFFSET = (
    "The Server MUST always include the `Upload-Offset` header in the response for a `HEAD` "
    "request, even if the offset is `0`, or the upload is already considered completed."
)
NO_RESOURCE = (
    "If the resource is not found, the Server SHOULD return either the `404 Not Found`, "
    "`410 Gone` or `403 Forbidden` status without the `Upload-Offset` header."
)
NOT_NEGATIVE = "The value MUST be a non-negative integer."
WRONG_TYPE = (
    "All `PATCH` requests MUST use `Content-Type: application/offset+octet-stream`, otherwise the "
    "server SHOULD return a `415 Unsupported Media Type` status."
)
EQUAL = "The `Upload-Offset` header's value MUST be equal to the current offset of the resource."
MISMATCH = (
    "If the offsets do not match, the Server MUST respond with the `409 Conflict` status without "
    "modifying the upload resource."
)
NEW_OFFSET = (
    "The new offset MUST be the sum of the offset before the `PATCH` request and the number of "
    "bytes received and processed or stored during the current `PATCH` request."
)
OVERRIDE = (
    "The `X-HTTP-Method-Override` request header MUST be a string which MUST be interpreted as "
    "the request's method by the Server, if the header is presented."
)
ANY_CASE = (
    'Each field line consists of a case-insensitive field name followed by a colon (":"), '
    "optional leading whitespace, the field line value, and optional trailing whitespace."
)

OPTIONS_SOURCE = "Core Protocol, OPTIONS"
HEAD_SOURCE = "Core Protocol, HEAD"
PATCH_SOURCE = "Core Protocol, PATCH"
RESUMABLE_SOURCE = "Core Protocol, Tus-Resumable"
OFFSET_SOURCE = "Core Protocol, Upload-Offset"


@case(
    1,
    MUST,
    OPTIONS_SOURCE,
    "A successful response indicated by the `204 No Content` or `200 OK` status MUST contain the "
    "`Tus-Version` header.",
)
def options(tus: Tus) -> None:
    """OPTIONS answers 200 or 204 with Tus-Version."""
    answer = tus.ask("OPTIONS", tus.url, version=None)
    expect.status(answer, 200, 204)
    expect.one(answer, "Tus-Version")


@case(
    2,
    MUST,
    "Core Protocol, Tus-Version",
    "The `Tus-Version` response header MUST be a comma-separated list of protocol versions "
    "supported by the Server.",
)
def version_list(tus: Tus) -> None:
    """Tus-Version is a list that has 1.0.0."""
    versions = expect.elements(tus.features.options, "Tus-Version")
    expect.that("1.0.0" in versions, "1.0.0 among the versions", ", ".join(versions))


@case(
    3,
    MUST,
    "Core Protocol, Tus-Extension",
    "The `Tus-Extension` response header MUST be a comma-separated list of the extensions "
    "supported by the Server.",
)
def extension_list(tus: Tus) -> None:
    """Tus-Extension is a comma-separated list without repetitions."""
    if not (tus.features.options.get("Tus-Extension") or "").strip():
        return
    names = expect.elements(tus.features.options, "Tus-Extension")
    expect.that(len(names) == len(set(names)), "every extension once", ", ".join(names))


@case(
    4,
    MUST,
    "Core Protocol, Tus-Extension",
    "If no extensions are supported, the `Tus-Extension` header MUST be omitted.",
)
def no_empty_extension_list(tus: Tus) -> None:
    """Tus-Extension is not sent empty."""
    text = tus.features.options.get("Tus-Extension")
    expect.that(text is None or bool(text.strip()), "extensions, or no header", "an empty one")


@case(
    5,
    MUST,
    "Core Protocol, Tus-Max-Size",
    "The `Tus-Max-Size` response header MUST be a non-negative integer indicating the maximum "
    "allowed size of an entire upload in bytes.",
)
def max_size(tus: Tus) -> None:
    """Tus-Max-Size, where it is sent, is a non-negative integer."""
    if tus.features.options.all("Tus-Max-Size"):
        expect.number(tus.features.options, "Tus-Max-Size")


@case(
    6,
    MUST,
    OPTIONS_SOURCE,
    "The Client SHOULD NOT include the `Tus-Resumable` header in the request and the Server MUST "
    "ignore the header.",
)
def options_ignores_the_version(tus: Tus) -> None:
    """OPTIONS ignores Tus-Resumable, even one of an unknown version."""
    answer = tus.ask("OPTIONS", tus.url, version=UNKNOWN_VERSION)
    expect.status(answer, 200, 204)
    expect.one(answer, "Tus-Version")


@case(
    7,
    MAY,
    OPTIONS_SOURCE,
    "An `OPTIONS` request MAY be used to gather information about the Server's current "
    "configuration.",
)
def options_of_an_upload(tus: Tus) -> None:
    """OPTIONS of an upload's URL answers like that of the creation URL."""
    answer = tus.ask("OPTIONS", tus.create(), version=None)
    expect.status(answer, 200, 204)
    expect.one(answer, "Tus-Version")


@case(8, MUST, RESUMABLE_SOURCE, TUS_RESUMABLE)
def resumable_in_head(tus: Tus) -> None:
    """The answer to HEAD has Tus-Resumable."""
    expect.one(tus.head(tus.create()), "Tus-Resumable")


@case(9, MUST, RESUMABLE_SOURCE, TUS_RESUMABLE)
def resumable_in_patch(tus: Tus) -> None:
    """The answer to PATCH has Tus-Resumable."""
    expect.one(tus.patch(tus.create(), 0, b"hello"), "Tus-Resumable")


@case(10, MUST, RESUMABLE_SOURCE, TUS_RESUMABLE, needs=("creation",))
def resumable_in_post(tus: Tus) -> None:
    """The answer to POST has Tus-Resumable."""
    expect.one(tus.post(("Upload-Length", "10")), "Tus-Resumable")


@case(11, MUST, RESUMABLE_SOURCE, TUS_RESUMABLE)
def resumable_in_not_found(tus: Tus) -> None:
    """The answer to HEAD of an unknown upload has Tus-Resumable."""
    expect.one(tus.head(tus.nowhere()), "Tus-Resumable")


@case(12, MUST, RESUMABLE_SOURCE, TUS_RESUMABLE)
def resumable_in_conflict(tus: Tus) -> None:
    """The answer to a PATCH at a wrong offset has Tus-Resumable."""
    expect.one(tus.patch(tus.create(), 3, b"hello"), "Tus-Resumable")


@case(
    13,
    MUST,
    RESUMABLE_SOURCE,
    "The value MUST be the version of the protocol used by the Client or the Server.",
)
def resumable_is_the_version(tus: Tus) -> None:
    """Tus-Resumable is 1.0.0 in answers to HEAD and PATCH."""
    url = tus.create()
    for answer in (tus.patch(url, 0, b"hello"), tus.head(url)):
        for came in answer.all("Tus-Resumable"):
            expect.that(came == "1.0.0", "Tus-Resumable: 1.0.0", came)


@case(14, MUST, RESUMABLE_SOURCE, UNSUPPORTED)
def unknown_version_head(tus: Tus) -> None:
    """HEAD with an unknown version is answered with 412."""
    expect.status(tus.ask("HEAD", tus.create(), version=UNKNOWN_VERSION), 412)


@case(15, MUST, RESUMABLE_SOURCE, UNSUPPORTED)
def unknown_version_patch(tus: Tus) -> None:
    """PATCH with an unknown version is answered with 412 and Tus-Version."""
    answer = _old_patch(tus, tus.create())
    expect.status(answer, 412)
    expect.that("1.0.0" in expect.elements(answer, "Tus-Version"), "1.0.0 in Tus-Version", answer)


@case(16, MUST, RESUMABLE_SOURCE, NOT_PROCESSED)
def unknown_version_moves_nothing(tus: Tus) -> None:
    """PATCH with an unknown version stores nothing."""
    url = tus.create()
    _old_patch(tus, url)
    tus.stays(url, 0)


@case(17, MUST, RESUMABLE_SOURCE, NOT_PROCESSED, needs=("creation",))
def unknown_version_creates_nothing(tus: Tus) -> None:
    """POST with an unknown version is answered with 412 and creates nothing."""
    answer = tus.post(("Upload-Length", "10"), version=UNKNOWN_VERSION)
    expect.status(answer, 412)
    expect.absent(answer, "Location")


def _old_patch(tus: Tus, url: Url) -> Answer:
    fields = [("Upload-Offset", "0"), ("Content-Type", OFFSET_TYPE)]
    return tus.ask("PATCH", url, *fields, body=b"hello", version=UNKNOWN_VERSION)


@case(18, MUST, HEAD_SOURCE, ALWAYS_OFFSET)
def head_of_a_new_upload(tus: Tus) -> None:
    """HEAD of a new upload has Upload-Offset: 0."""
    expect.integer(tus.head(tus.create()), "Upload-Offset", 0)


@case(19, MUST, HEAD_SOURCE, ALWAYS_OFFSET)
def head_of_half_an_upload(tus: Tus) -> None:
    """HEAD of an upload that has 5 of 10 bytes has Upload-Offset: 5."""
    expect.integer(tus.head(tus.filled(b"hello", 10)), "Upload-Offset", 5)


@case(20, MUST, HEAD_SOURCE, ALWAYS_OFFSET)
def head_of_a_whole_upload(tus: Tus) -> None:
    """HEAD of a finished upload has its length as Upload-Offset."""
    expect.integer(tus.head(tus.filled(b"hello", 5)), "Upload-Offset", 5)


@case(
    21,
    MUST,
    HEAD_SOURCE,
    "If the size of the upload is known, the Server MUST include the `Upload-Length` header in "
    "the response.",
)
def head_has_the_length(tus: Tus) -> None:
    """HEAD has Upload-Length, before and after the upload is finished."""
    expect.integer(tus.head(tus.create(10)), "Upload-Length", 10)
    expect.integer(tus.head(tus.filled(b"hello", 5)), "Upload-Length", 5)


@case(
    22,
    SHOULD,
    HEAD_SOURCE,
    "The Server SHOULD acknowledge successful `HEAD` requests with a `200 OK` or `204 No Content` "
    "status.",
)
def head_status(tus: Tus) -> None:
    """HEAD answers 200 or 204."""
    expect.status(tus.head(tus.create()), 200, 204)


@case(
    23,
    MUST,
    HEAD_SOURCE,
    "The Server MUST prevent the client and/or proxies from caching the response by adding the "
    "`Cache-Control: no-store` header to the response.",
)
def head_is_not_cached(tus: Tus) -> None:
    """HEAD has Cache-Control: no-store."""
    answer = tus.head(tus.create())
    directives = [part.strip().lower() for part in (answer.get("Cache-Control") or "").split(",")]
    expect.that(
        "no-store" in directives, "Cache-Control: no-store", ", ".join(directives) or answer
    )


@case(24, SHOULD, HEAD_SOURCE, NO_RESOURCE)
def head_of_nothing(tus: Tus) -> None:
    """HEAD of an unknown upload answers 404, 410 or 403."""
    expect.status(tus.head(tus.nowhere()), 404, 410, 403)


@case(25, SHOULD, HEAD_SOURCE, NO_RESOURCE)
def head_of_nothing_has_no_offset(tus: Tus) -> None:
    """HEAD of an unknown upload has no Upload-Offset."""
    expect.absent(tus.head(tus.nowhere()), "Upload-Offset")


@case(
    26,
    MUST,
    PATCH_SOURCE,
    "The Server MUST acknowledge successful `PATCH` requests with the `204 No Content` status.",
)
def patch_status(tus: Tus) -> None:
    """PATCH answers 204."""
    expect.status(tus.patch(tus.create(), 0, b"hello"), 204)


@case(
    27,
    MUST,
    PATCH_SOURCE,
    "It MUST include the `Upload-Offset` header containing the new offset.",
)
def patch_has_the_offset(tus: Tus) -> None:
    """The answer to PATCH has the new offset."""
    answer = tus.patch(tus.create(), 0, b"hello")
    expect.success(answer, "PATCH")
    expect.integer(answer, "Upload-Offset", 5)


@case(28, MUST, PATCH_SOURCE, NEW_OFFSET)
def patches_add_up(tus: Tus) -> None:
    """A second PATCH adds to the first, in its answer and in HEAD."""
    url = tus.filled(b"hello", 20)
    answer = tus.patch(url, 5, b" world")
    expect.success(answer, "the second PATCH")
    expect.integer(answer, "Upload-Offset", 11)
    tus.stays(url, 11)


@case(29, MUST, PATCH_SOURCE, NEW_OFFSET)
def empty_patch(tus: Tus) -> None:
    """A PATCH without bytes leaves the offset where it is."""
    url = tus.filled(b"hello", 10)
    answer = tus.patch(url, 5, b"")
    if answer.ok:
        expect.status(answer, 204)
        expect.integer(answer, "Upload-Offset", 5)
    tus.stays(url, 5)


@case(
    30,
    SHOULD,
    PATCH_SOURCE,
    "The Server SHOULD accept `PATCH` requests against any upload URL and apply the bytes "
    "contained in the message at the given offset specified by the `Upload-Offset` header.",
)
def patch_keeps_the_bytes(tus: Tus) -> None:
    """The bytes are those that were sent (where GET shows them)."""
    url = tus.filled(b"hello", 11)
    expect.success(tus.patch(url, 5, b"\x00w\r\n\xff!"), "the second PATCH")
    tus.holds(url, b"hello\x00w\r\n\xff!")


@case(
    31,
    MAY,
    PATCH_SOURCE,
    "The Client SHOULD send all the remaining bytes of an upload in a single `PATCH` request, but "
    "MAY also use multiple small requests successively for scenarios where this is desirable.",
)
def many_small_patches(tus: Tus) -> None:
    """Eight PATCH requests of one byte each make an upload."""
    url = tus.create(8)
    for offset in range(8):
        expect.success(tus.patch(url, offset, b"x"), f"PATCH {offset + 1} of 8")
    tus.stays(url, 8)


@case(32, SHOULD, PATCH_SOURCE, WRONG_TYPE)
def wrong_content_type(tus: Tus) -> None:
    """PATCH with another Content-Type is answered with 415."""
    fields = [("Upload-Offset", "0"), ("Content-Type", "application/octet-stream")]
    expect.status(tus.ask("PATCH", tus.create(), *fields, body=b"hello"), 415)


@case(33, SHOULD, PATCH_SOURCE, WRONG_TYPE)
def no_content_type(tus: Tus) -> None:
    """PATCH without Content-Type is answered with 415."""
    expect.status(tus.ask("PATCH", tus.create(), ("Upload-Offset", "0"), body=b"hello"), 415)


@case(34, MUST, PATCH_SOURCE, MISMATCH)
def offset_too_high(tus: Tus) -> None:
    """PATCH beyond the offset is answered with 409."""
    expect.status(tus.patch(tus.create(), 3, b"hello"), 409)


@case(35, MUST, PATCH_SOURCE, MISMATCH)
def offset_too_low(tus: Tus) -> None:
    """PATCH before the offset is answered with 409."""
    expect.status(tus.patch(tus.filled(b"hello", 10), 2, b"HELLO"), 409)


@case(36, MUST, PATCH_SOURCE, MISMATCH)
def mismatch_moves_nothing(tus: Tus) -> None:
    """PATCH at wrong offsets, below and above, leaves the upload as it is."""
    url = tus.filled(b"hello", 20)
    for offset in (0, 4, 6, 19):
        tus.patch(url, offset, b"HELLO")
        tus.stays(url, 5)


@case(37, MUST, PATCH_SOURCE, EQUAL)
def no_offset(tus: Tus) -> None:
    """PATCH without Upload-Offset is refused and stores nothing."""
    url = tus.create()
    answer = tus.ask("PATCH", url, ("Content-Type", OFFSET_TYPE), body=b"hello")
    expect.refused(answer, "PATCH without Upload-Offset")
    tus.stays(url, 0)


@case(38, MUST, OFFSET_SOURCE, NOT_NEGATIVE)
def negative_offset(tus: Tus) -> None:
    """PATCH with a negative Upload-Offset is refused and stores nothing."""
    url = tus.filled(b"hello", 20)
    expect.refused(tus.patch(url, "-5", b"HELLO"), "Upload-Offset: -5")
    tus.stays(url, 5)


@case(39, MUST, OFFSET_SOURCE, NOT_NEGATIVE)
def offset_that_is_no_number(tus: Tus) -> None:
    """PATCH with an Upload-Offset that is no integer is refused and stores nothing."""
    url = tus.create()
    for text in ("zero", "0.0", "0x0", "0 0", "0,0", ""):
        expect.refused(tus.patch(url, text, b"hello"), f"Upload-Offset: {text!r}")
        tus.stays(url, 0)


@case(
    40,
    SHOULD,
    PATCH_SOURCE,
    "If the server receives a `PATCH` request against a non-existent resource it SHOULD return a "
    "`404 Not Found` status.",
)
def patch_of_nothing(tus: Tus) -> None:
    """PATCH of an unknown upload is answered with 404."""
    expect.status(tus.patch(tus.nowhere(), 0, b"hello"), 404)


@case(41, MUST, "Core Protocol, X-HTTP-Method-Override", OVERRIDE)
def post_as_patch(tus: Tus) -> None:
    """POST with X-HTTP-Method-Override: PATCH is a PATCH."""
    url = tus.create()
    _overridden(tus, "POST", url)
    tus.stays(url, 5)


@case(
    42,
    MUST,
    "Core Protocol, X-HTTP-Method-Override",
    "The actual method of the request MUST be ignored.",
)
def put_as_patch(tus: Tus) -> None:
    """PUT with X-HTTP-Method-Override: PATCH is a PATCH."""
    url = tus.create()
    _overridden(tus, "PUT", url)
    tus.stays(url, 5)


def _overridden(tus: Tus, method: str, url: Url) -> None:
    fields = [
        ("Upload-Offset", "0"),
        ("Content-Type", OFFSET_TYPE),
        ("X-HTTP-Method-Override", "PATCH"),
    ]
    answer = tus.ask(method, url, *fields, body=b"hello")
    expect.status(answer, 204)
    expect.integer(answer, "Upload-Offset", 5)


@case(43, MUST, "RFC 9112 5", ANY_CASE)
def lower_case_names(tus: Tus) -> None:
    """PATCH works with header names in lower, upper and mixed case."""
    url = tus.create(30)
    changes = (str.lower, str.upper, str.swapcase)
    for round_, change in enumerate(changes):
        fields = tus.patch_fields(url, round_ * 5, ("Content-Length", "5"))
        head = compose("PATCH", url, [(change(name), value) for name, value in fields])
        expect.status(tus.exchange(url, head, b"hello", "PATCH"), 204)
    tus.stays(url, 15)


@case(44, MUST, "RFC 9112 5", ANY_CASE, needs=("creation",))
def lower_case_names_in_post(tus: Tus) -> None:
    """POST works with header names in lower and upper case."""
    for change in (str.lower, str.upper):
        fields = tus.fields(tus.url, ("Upload-Length", "10"), ("Content-Length", "0"))
        head = compose("POST", tus.url, [(change(name), value) for name, value in fields])
        answer = tus.exchange(tus.url, head, b"", "POST")
        tus.remember(answer)
        expect.status(answer, 201)


@case(
    45,
    MUST,
    "RFC 9112 5.1",
    "The field line value does not include that leading or trailing whitespace: OWS occurring "
    "before the first non-whitespace octet of the field line value, or after the last "
    "non-whitespace octet of the field line value, is excluded by parsers when extracting the "
    "field line value from a field line.",
)
def whitespace_around_values(tus: Tus) -> None:
    """Spaces and tabs around the value of Upload-Offset are not part of it."""
    url = tus.create()
    expect.status(tus.patch(url, " \t 0 \t", b"hello"), 204)
    tus.stays(url, 5)


@case(
    46,
    MUST,
    "RFC 9110 8.3.1",
    "The type and subtype tokens are case-insensitive.",
)
def content_type_in_any_case(tus: Tus) -> None:
    """PATCH takes Content-Type: Application/Offset+Octet-Stream."""
    fields = [("Upload-Offset", "0"), ("Content-Type", "Application/Offset+Octet-Stream")]
    expect.status(tus.ask("PATCH", tus.create(), *fields, body=b"hello"), 204)


@case(
    47,
    SHOULD,
    "RFC 9110 5.1",
    "Other recipients SHOULD ignore unrecognized header and trailer fields.",
)
def unknown_headers(tus: Tus) -> None:
    """Header fields that nobody knows change nothing."""
    unknown = [("Upload-Tus-Conformance", "5"), ("X-Tus-Conformance", 'a="b,c"; d')]
    url = tus.create(10, *unknown)
    expect.status(tus.patch(url, 0, b"hello", *unknown), 204)
    expect.success(tus.ask("HEAD", url, *unknown), "HEAD with unknown headers")
