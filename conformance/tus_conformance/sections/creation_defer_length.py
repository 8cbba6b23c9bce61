"""Creation with a deferred length: Upload-Defer-Length, and the length in a later PATCH."""

from tus_conformance import expect
from tus_conformance.case import MUST, SHOULD, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Url

creation_defer_length = Section(
    "creation-defer-length",
    "Creation, deferred length",
    needs=("creation", "creation-defer-length"),
)
case = creation_defer_length.case

POST_SOURCE = "Creation, POST"
DEFER = ("Upload-Defer-Length", "1")
UNKNOWN = (
    "As long as the length of the upload is not known, the Server MUST set "
    "`Upload-Defer-Length: 1` in all responses to `HEAD` requests."
)
KNOWN = (
    "If the size of the upload is known, the Server MUST include the `Upload-Length` header in "
    "the response."
)


@case(
    1,
    MUST,
    POST_SOURCE,
    "If the Server supports deferring length, it MUST add `creation-defer-length` to the "
    "`Tus-Extension` header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """The length can be deferred if, and only if, creation-defer-length is announced."""
    answer = tus.post(DEFER)
    if "creation-defer-length" in tus.features.extensions:
        expect.status(answer, 201)
    elif answer.status == 201:
        expect.that(False, "`creation-defer-length` announced", "the length can be deferred anyway")
    else:
        raise NotApplicable("creation-defer-length is not announced")


@case(2, MUST, POST_SOURCE, UNKNOWN)
def head_of_a_new_one(tus: Tus) -> None:
    """HEAD has Upload-Defer-Length: 1 after the creation."""
    expect.value(tus.head(_deferred(tus)), "Upload-Defer-Length", "1")


@case(3, MUST, POST_SOURCE, UNKNOWN)
def head_after_a_patch(tus: Tus) -> None:
    """HEAD has Upload-Defer-Length: 1 and the offset after a PATCH without a length."""
    url = _deferred(tus)
    expect.status(tus.patch(url, 0, b"hello"), 204)
    answer = tus.head(url)
    expect.value(answer, "Upload-Defer-Length", "1")
    expect.integer(answer, "Upload-Offset", 5)


@case(
    4,
    SHOULD,
    POST_SOURCE,
    "If the `Upload-Defer-Length` header contains any other value than `1` the server should "
    "return a `400 Bad Request` status.",
)
def other_values(tus: Tus) -> None:
    """Upload-Defer-Length with a value other than 1 is answered with 400."""
    for text in ("2", "0", "true"):
        expect.status(tus.post(("Upload-Defer-Length", text)), 400)


@case(5, MUST, "Core Protocol, HEAD", KNOWN)
def length_with_bytes(tus: Tus) -> None:
    """HEAD has the Upload-Length that came with a PATCH."""
    url = _deferred(tus)
    expect.status(tus.patch(url, 0, b"hello", ("Upload-Length", "10")), 204)
    answer = tus.head(url)
    expect.integer(answer, "Upload-Length", 10)
    expect.integer(answer, "Upload-Offset", 5)


@case(
    6,
    MUST,
    "Creation, Upload-Defer-Length",
    "If the length of an upload is not deferred, this header MUST be omitted.",
)
def no_longer_deferred(tus: Tus) -> None:
    """HEAD has no Upload-Defer-Length once the length is known."""
    url = _deferred(tus)
    tus.patch(url, 0, b"hello", ("Upload-Length", "10"))
    expect.absent(tus.head(url), "Upload-Defer-Length")


@case(7, MUST, POST_SOURCE, "Once set the length MUST NOT be changed.")
def set_once(tus: Tus) -> None:
    """A second, other Upload-Length changes nothing."""
    url = _deferred(tus)
    tus.patch(url, 0, b"hello", ("Upload-Length", "10"))
    tus.patch(url, 5, b"", ("Upload-Length", "20"))
    expect.integer(tus.head(url), "Upload-Length", 10)


@case(
    8,
    MUST,
    POST_SOURCE,
    "If the length was deferred using `Upload-Defer-Length: 1`, the Client MUST set the "
    "`Upload-Length` header in the next `PATCH` request, once the length is known.",
)
def length_without_bytes(tus: Tus) -> None:
    """An empty PATCH with the length completes an upload whose bytes are all there."""
    url = _with_bytes(tus)
    expect.status(tus.patch(url, 5, b"", ("Upload-Length", "5")), 204)
    expect.integer(tus.head(url), "Upload-Length", 5)
    tus.stays(url, 5)


@case(
    9,
    MUST,
    "Core Protocol, Upload-Length",
    "The `Upload-Length` request and response header indicates the size of the entire upload in "
    "bytes.",
)
def length_below_the_offset(tus: Tus) -> None:
    """A length below the bytes that are there is refused."""
    url = _with_bytes(tus)
    expect.refused(tus.patch(url, 5, b"", ("Upload-Length", "3")), "Upload-Length: 3 after 5 bytes")
    tus.stays(url, 5)


@case(10, MUST, "Core Protocol, Upload-Length", "The value MUST be a non-negative integer.")
def length_that_is_no_number(tus: Tus) -> None:
    """A length that is no integer, in a refused PATCH or one taken, leaves the length deferred."""
    for text in ("-5", "five"):
        url = _deferred(tus)
        tus.patch(url, 0, b"hello", ("Upload-Length", text))
        expect.value(tus.head(url), "Upload-Defer-Length", "1")


@case(
    11,
    MUST,
    POST_SOURCE,
    "If the length of the upload exceeds the maximum, which MAY be specified using the "
    "`Tus-Max-Size` header, the Server MUST respond with the `413 Request Entity Too Large` "
    "status.",
)
def too_large(tus: Tus) -> None:
    """A PATCH with a length above Tus-Max-Size is answered with 413."""
    if tus.features.max_size is None:
        raise NotApplicable("no Tus-Max-Size is announced")
    length = str(tus.features.max_size + 1)
    expect.status(tus.patch(_deferred(tus), 0, b"", ("Upload-Length", length)), 413)


def _deferred(tus: Tus) -> Url:
    return tus.create(None, DEFER)


def _with_bytes(tus: Tus) -> Url:
    """An upload that has 5 bytes before its length is known."""
    url = _deferred(tus)
    if not tus.patch(url, 0, b"hello").ok:
        key = creation_defer_length.key
        raise NotApplicable(f"no byte is taken before the length is known: see {key}/3")
    return url
