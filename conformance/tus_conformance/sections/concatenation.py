"""Concatenation: partial and final uploads."""

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable, Violation
from tus_conformance.wire import Answer, Url

concatenation = Section("concatenation", "Concatenation", needs=("creation", "concatenation"))
case = concatenation.case

SOURCE = "Concatenation"
PARTIAL = ("Upload-Concat", "partial")
LENGTH = "The length of the final upload MUST be the sum of the length of all partial uploads."
AFTER = (
    "After successful concatenation, the `Upload-Offset` and `Upload-Length` MUST be set and "
    "their values MUST be equal."
)
CONCAT_IN_HEAD = (
    "Response to `HEAD` request against partial or final upload MUST include the `Upload-Concat` "
    "header and its value as received in the upload creation request."
)
FORBIDDEN = (
    "The Server MUST respond with the `403 Forbidden` status to `PATCH` requests against a final "
    "upload URL and MUST NOT modify the final or its partial uploads."
)
FINAL_VALUE = (
    "The value MUST be `final` followed by a semicolon and a space-separated list of the partial "
    "upload URLs that need to be concatenated."
)
MANY_TIMES = (
    "The same partial upload MAY be present multiple times in the `Upload-Concat` header in one "
    "upload creation request or MAY be used in multiple upload creation requests."
)
URLS = (
    "The partial uploads URLs MAY be absolute or relative and MUST NOT contain spaces as defined "
    "in [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986.html)."
)


@case(
    1,
    MUST,
    SOURCE,
    "If the Server supports this extension, it MUST add `concatenation` to the `Tus-Extension` "
    "header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """Uploads can be concatenated if, and only if, concatenation is announced."""
    if "concatenation" in tus.features.extensions:
        url = _final(tus, part(tus, b"hello"))
        expect.success(tus.head(url), "HEAD of a final upload")
        return
    try:
        answer = tus.head(_final(tus, part(tus, b"hello")))
    except Violation:
        raise NotApplicable("concatenation is not announced") from None
    if answer.get("Upload-Length") == "5" and (answer.get("Upload-Concat") or "").startswith(
        "final"
    ):
        expect.that(False, "`concatenation` in Tus-Extension", "uploads are joined without it")
    raise NotApplicable("concatenation is not announced")


@case(2, MUST, SOURCE, CONCAT_IN_HEAD)
def partial(tus: Tus) -> None:
    """HEAD of a partial upload has Upload-Concat: partial."""
    expect.value(tus.head(tus.create(5, PARTIAL)), "Upload-Concat", "partial")


@case(
    3,
    MUST,
    SOURCE,
    "The response to a HEAD request for a partial upload MUST contain the `Upload-Offset` header.",
)
def partial_has_an_offset(tus: Tus) -> None:
    """HEAD of a partial upload has Upload-Offset, before and after its bytes."""
    url = tus.create(5, PARTIAL)
    tus.stays(url, 0)
    tus.patch(url, 0, b"hello")
    tus.stays(url, 5)


@case(
    4,
    MUST,
    "Creation, POST",
    "The Server MUST acknowledge a successful upload creation with the `201 Created` status.",
)
def final(tus: Tus) -> None:
    """POST of a final upload answers 201 with a Location."""
    answer = _post_final(tus, part(tus, b"hello"), part(tus, b" world"))
    expect.status(answer, 201)
    expect.one(answer, "Location")


@case(5, MUST, SOURCE, LENGTH)
def sum_of_lengths(tus: Tus) -> None:
    """Upload-Length of the final upload is the sum of those of its parts."""
    url = _final(tus, part(tus, b"hello"), part(tus, b" world"))
    expect.integer(tus.head(url), "Upload-Length", 11)


@case(6, MUST, SOURCE, AFTER)
def finished(tus: Tus) -> None:
    """Upload-Offset and Upload-Length of the final upload come to be equal."""
    url = _final(tus, part(tus, b"hello"), part(tus, b" world"))
    tus.until(lambda: tus.head(url).get("Upload-Offset") == "11")
    answer = tus.head(url)
    offset, length = expect.number(answer, "Upload-Offset"), expect.number(answer, "Upload-Length")
    expect.that(offset == length, "offset and length to be equal", f"{offset} and {length}")


@case(7, MUST, SOURCE, CONCAT_IN_HEAD)
def concat_of_the_final(tus: Tus) -> None:
    """HEAD of the final upload has Upload-Concat as it was sent."""
    parts = (part(tus, b"hello"), part(tus, b" world"))
    url = _final(tus, *parts)
    expect.value(tus.head(url), "Upload-Concat", concat(*parts))


@case(8, MUST, SOURCE, FORBIDDEN)
def patch_of_a_final(tus: Tus) -> None:
    """PATCH of a final upload is answered with 403."""
    expect.status(tus.patch(_final(tus, part(tus, b"hello")), 5, b"more"), 403)


@case(9, MUST, SOURCE, FORBIDDEN)
def patch_changes_nothing(tus: Tus) -> None:
    """PATCH of a final upload modifies neither it nor its parts."""
    parts = (part(tus, b"hello"), part(tus, b" world"))
    url = _final(tus, *parts)
    tus.until(lambda: tus.head(url).get("Upload-Offset") == "11")
    for offset in (0, 11):
        tus.patch(url, offset, b"XXXXX")
    expect.integer(tus.head(url), "Upload-Length", 11)
    tus.stays(url, 11)
    for one, size in zip(parts, (5, 6), strict=True):
        if tus.head(one).ok:
            tus.stays(one, size)


@case(
    10,
    MUST,
    SOURCE,
    "The partial uploads MUST be concatenated as per the order specified in the list.",
)
def in_order(tus: Tus) -> None:
    """The bytes of the parts stand in the order of the list, not of their creation."""
    first, second = part(tus, b"hello"), part(tus, b" world")
    url = _final(tus, second, first)
    tus.until(lambda: tus.head(url).get("Upload-Offset") == "11")
    tus.holds(url, b" worldhello")


@case(
    11,
    MUST,
    SOURCE,
    "When creating a new final upload the partial uploads' metadata SHALL NOT be transferred to "
    "the new final upload.",
)
def metadata_of_the_parts(tus: Tus) -> None:
    """Metadata of the parts is not that of the final upload."""
    one = tus.create(5, PARTIAL, ("Upload-Metadata", "filename cGFydA=="))
    tus.patch(one, 0, b"hello")
    came = tus.head(_final(tus, one)).get("Upload-Metadata") or ""
    expect.that("cGFydA==" not in came, "no metadata of a part", came)


@case(
    12,
    MUST,
    "Creation, POST",
    "If an upload contains additional metadata, responses to `HEAD` requests MUST include the "
    "`Upload-Metadata` header and its value as specified by the Client during the creation.",
)
def metadata_of_the_final(tus: Tus) -> None:
    """Metadata of the concatenation request is that of the final upload."""
    meta = ("Upload-Metadata", "filename d2hvbGU=")
    url = tus.create(None, ("Upload-Concat", concat(part(tus, b"hello"))), meta)
    expect.value(tus.head(url), *meta)


@case(13, MAY, SOURCE, MANY_TIMES)
def a_part_twice(tus: Tus) -> None:
    """A part may stand in the list twice."""
    one = part(tus, b"hello")
    expect.integer(tus.head(_final(tus, one, one)), "Upload-Length", 10)


@case(14, MAY, SOURCE, MANY_TIMES)
def a_part_in_two_finals(tus: Tus) -> None:
    """A part may be used for two final uploads."""
    one = part(tus, b"hello")
    for _ in range(2):
        expect.integer(tus.head(_final(tus, one)), "Upload-Length", 5)


@case(15, MAY, "Concatenation, Upload-Concat", URLS)
def absolute_urls(tus: Tus) -> None:
    """The list may hold absolute URLs."""
    one = part(tus, b"hello")
    url = tus.create(None, ("Upload-Concat", f"final;{one}"))
    expect.integer(tus.head(url), "Upload-Length", 5)


@case(16, MAY, "Concatenation, Upload-Concat", URLS)
def relative_urls(tus: Tus) -> None:
    """The list may hold relative URLs, as the example of the specification does."""
    one = part(tus, b"hello")
    url = tus.create(None, ("Upload-Concat", f"final;{one.target}"))
    expect.integer(tus.head(url), "Upload-Length", 5)


@case(17, MUST, SOURCE, LENGTH)
def length_of_its_own(tus: Tus) -> None:
    """A final upload with an Upload-Length is refused, or has the sum of its parts."""
    value = concat(part(tus, b"hello"))
    answer = tus.post(("Upload-Concat", value), ("Upload-Length", "999"))
    if answer.ok:
        url = tus.located(expect.one(answer, "Location"))
        expect.integer(tus.head(url), "Upload-Length", 5)


@case(18, MUST, SOURCE, FINAL_VALUE)
def a_part_that_is_not_there(tus: Tus) -> None:
    """A final upload of a part that does not exist is refused."""
    missing = tus.nowhere()
    answer = tus.post(("Upload-Concat", concat(missing)))
    expect.refused(answer, "a part that does not exist")


@case(19, MUST, SOURCE, FINAL_VALUE)
def no_parts(tus: Tus) -> None:
    """A final upload of no parts is refused."""
    for text in ("final;", "final"):
        expect.refused(tus.post(("Upload-Concat", text)), f"Upload-Concat: {text}")


@case(
    20,
    MUST,
    "Concatenation, Upload-Concat",
    "If the upload is a partial one, the header value MUST be `partial`.",
)
def other_values(tus: Tus) -> None:
    """Upload-Concat with another value is refused, or ignored: HEAD does not have it."""
    answer = tus.post(("Upload-Concat", "piece"), ("Upload-Length", "5"))
    if answer.ok:
        url = tus.located(expect.one(answer, "Location"))
        for came in tus.head(url).all("Upload-Concat"):
            expect.that(came == "partial", "Upload-Concat: partial, or none", came)


def part(tus: Tus, data: bytes) -> Url:
    """A finished partial upload."""
    return tus.filled(data, len(data), PARTIAL)


def concat(*parts: Url) -> str:
    """The value of Upload-Concat for a final upload."""
    return "final;" + " ".join(str(one) for one in parts)


def _post_final(tus: Tus, *parts: Url) -> Answer:
    return tus.post(("Upload-Concat", concat(*parts)))


def _final(tus: Tus, *parts: Url) -> Url:
    return tus.create(None, ("Upload-Concat", concat(*parts)))
