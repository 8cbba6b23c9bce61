"""Concatenation of parts that are still in progress."""

from tus_conformance import expect
from tus_conformance.case import MUST, SHOULD, Section
from tus_conformance.sections.concatenation import (
    AFTER,
    CONCAT_IN_HEAD,
    FORBIDDEN,
    PARTIAL,
    concat,
)
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Url

concatenation_unfinished = Section(
    "concatenation-unfinished",
    "Concatenation, unfinished",
    needs=("creation", "concatenation-unfinished"),
)
case = concatenation_unfinished.case

SOURCE = "Concatenation"


@case(
    1,
    MUST,
    SOURCE,
    "This feature MUST be explicitly announced by the Server by adding `concatenation-unfinished` "
    "to the `Tus-Extension` header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """Unfinished parts can be joined if, and only if, concatenation-unfinished is announced."""
    extensions = tus.features.extensions
    if "concatenation" not in extensions and "concatenation-unfinished" not in extensions:
        raise NotApplicable("concatenation is not announced")
    answer = tus.post(("Upload-Concat", concat(tus.create(5, PARTIAL))))
    if "concatenation-unfinished" in extensions:
        expect.status(answer, 201)
    elif answer.status == 201:
        came = "a final upload of unfinished parts is made without it"
        expect.that(False, "`concatenation-unfinished` in Tus-Extension", came)
    else:
        raise NotApplicable("concatenation-unfinished is not announced")


@case(
    2,
    SHOULD,
    SOURCE,
    "The response to a HEAD request for a final upload SHOULD NOT contain the `Upload-Offset` "
    "header unless the concatenation has been successfully finished.",
)
def no_offset_yet(tus: Tus) -> None:
    """HEAD of an unfinished final upload has no Upload-Offset."""
    _, _, url = _unfinished(tus)
    answer = tus.head(url)
    expect.success(answer, "HEAD of an unfinished final upload")
    expect.absent(answer, "Upload-Offset")


@case(
    3,
    MUST,
    SOURCE,
    "The `Upload-Length` header MUST be included if the length of the final resource can be "
    "calculated at the time of the request.",
)
def length_already(tus: Tus) -> None:
    """HEAD of an unfinished final upload has the length that its parts will add up to."""
    _, _, url = _unfinished(tus)
    expect.integer(tus.head(url), "Upload-Length", 11)


@case(4, MUST, SOURCE, CONCAT_IN_HEAD)
def concat_already(tus: Tus) -> None:
    """HEAD of an unfinished final upload has Upload-Concat as it was sent."""
    first, second, url = _unfinished(tus)
    expect.value(tus.head(url), "Upload-Concat", concat(first, second))


@case(5, MUST, SOURCE, AFTER)
def parts_finish_it(tus: Tus) -> None:
    """The final upload is complete once its parts are, whichever is finished last."""
    first, second, url = _unfinished(tus)
    expect.success(tus.patch(second, 0, b" world"), "PATCH of the second part")
    expect.success(tus.patch(first, 0, b"hello"), "PATCH of the first part")
    tus.until(lambda: tus.head(url).get("Upload-Offset") == "11")
    answer = tus.head(url)
    expect.integer(answer, "Upload-Length", 11)
    expect.integer(answer, "Upload-Offset", 11)
    tus.holds(url, b"hello world")


@case(6, MUST, SOURCE, FORBIDDEN)
def patch_of_it(tus: Tus) -> None:
    """PATCH of an unfinished final upload is answered with 403."""
    _, _, url = _unfinished(tus)
    expect.status(tus.patch(url, 0, b"hello"), 403)


@case(7, MUST, SOURCE, FORBIDDEN)
def patch_changes_nothing(tus: Tus) -> None:
    """PATCH of an unfinished final upload leaves its parts as they are."""
    first, second, url = _unfinished(tus)
    expect.success(tus.patch(first, 0, b"he"), "PATCH of the first part")
    for offset in (0, 2):
        tus.patch(url, offset, b"XXX")
    tus.stays(first, 2)
    tus.stays(second, 0)


def _unfinished(tus: Tus) -> tuple[Url, Url, Url]:
    """Two empty parts of 5 and 6 bytes, and the final upload that waits for them."""
    first, second = tus.create(5, PARTIAL), tus.create(6, PARTIAL)
    return first, second, tus.create(None, ("Upload-Concat", concat(first, second)))
