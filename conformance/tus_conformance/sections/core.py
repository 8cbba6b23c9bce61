"""Core Protocol: OPTIONS, versions, HEAD; `core_patch` goes on with PATCH."""

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, SHOULD, Section
from tus_conformance.subject import OFFSET_TYPE, Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Answer, Url

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

OPTIONS_SOURCE = "Core Protocol, OPTIONS"
HEAD_SOURCE = "Core Protocol, HEAD"
RESUMABLE_SOURCE = "Core Protocol, Tus-Resumable"


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
    if not tus.features.options.all("Tus-Version"):
        raise NotApplicable("there is no Tus-Version to judge: see core/1")
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
    if not tus.features.options.ok:
        raise NotApplicable("OPTIONS does not work without Tus-Resumable either: see core/1")
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
