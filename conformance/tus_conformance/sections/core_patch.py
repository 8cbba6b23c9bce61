"""Core Protocol, continued: PATCH, method override, header fields."""

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, SHOULD
from tus_conformance.sections.core import core
from tus_conformance.subject import OFFSET_TYPE, Tus
from tus_conformance.wire import Url, compose

case = core.case

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
PATCH_SOURCE = "Core Protocol, PATCH"
OFFSET_SOURCE = "Core Protocol, Upload-Offset"


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
    """PATCH with an Upload-Offset that is no integer is refused and stores nothing.

    `0.0` is not among them: it can only mean 0, and "a recipient MAY attempt to recover a usable
    protocol element from an invalid construct" (RFC 9110 2.4).
    """
    url = tus.create()
    for text in ("zero", "0 5", "0,5", "-", ""):
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
