"""Termination: DELETE, and what is left after it."""

from tus_conformance import expect
from tus_conformance.case import MUST, SHOULD, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Url

termination = Section("termination", "Termination", needs=("termination",))
case = termination.case

SOURCE = "Termination, DELETE"
TERMINATED = (
    "When receiving a `DELETE` request for an existing upload the Server SHOULD free associated "
    "resources and MUST respond with the `204 No Content` status confirming that the upload was "
    "terminated."
)
GONE = (
    "For all future requests to this URL, the Server SHOULD respond with the `404 Not Found` or "
    "`410 Gone` status."
)
OVERRIDE_SOURCE = "Core Protocol, X-HTTP-Method-Override"


@case(
    1,
    MUST,
    "Termination",
    "If this extension is supported by the Server, it MUST be announced by adding `termination` "
    "to the `Tus-Extension` header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """DELETE removes an upload if, and only if, termination is announced."""
    url = tus.create()
    works = tus.ask("DELETE", url).ok and not tus.head(url).ok
    if "termination" in tus.features.extensions:
        expect.that(works, "DELETE to remove an upload, as announced", "it is still there")
    elif works:
        expect.that(False, "`termination` in Tus-Extension", "DELETE removes uploads without it")
    else:
        raise NotApplicable("termination is not announced")


@case(2, MUST, SOURCE, TERMINATED)
def unfinished(tus: Tus) -> None:
    """DELETE of an unfinished upload answers 204."""
    expect.status(tus.ask("DELETE", tus.filled(b"hello", 10)), 204)


@case(3, MUST, SOURCE, TERMINATED)
def finished(tus: Tus) -> None:
    """DELETE of a finished upload answers 204."""
    expect.status(tus.ask("DELETE", tus.filled(b"hello", 5)), 204)


@case(4, SHOULD, SOURCE, GONE)
def head_after(tus: Tus) -> None:
    """HEAD after DELETE answers 404 or 410."""
    expect.status(tus.head(_deleted(tus)), 404, 410)


@case(5, SHOULD, SOURCE, GONE)
def patch_after(tus: Tus) -> None:
    """PATCH after DELETE answers 404 or 410."""
    expect.status(tus.patch(_deleted(tus), 0, b"hello"), 404, 410)


@case(6, SHOULD, SOURCE, GONE)
def delete_after(tus: Tus) -> None:
    """A second DELETE answers 404 or 410."""
    expect.status(tus.ask("DELETE", _deleted(tus)), 404, 410)


@case(7, SHOULD, SOURCE, GONE)
def get_after(tus: Tus) -> None:
    """GET after DELETE answers 404 or 410, where GET gave the bytes before."""
    url = tus.filled(b"hello", 5)
    tus.content(url)
    expect.success(tus.ask("DELETE", url), "DELETE")
    expect.status(tus.ask("GET", url), 404, 410)


@case(
    8,
    MUST,
    "Core Protocol, Tus-Resumable",
    "The `Tus-Resumable` header MUST be included in every request and response except for "
    "`OPTIONS` requests.",
)
def resumable(tus: Tus) -> None:
    """The answer to DELETE has Tus-Resumable."""
    expect.value(tus.ask("DELETE", tus.create()), "Tus-Resumable", "1.0.0")


@case(
    9,
    MUST,
    "Core Protocol, Tus-Resumable",
    "In addition, the Server MUST NOT process the request.",
)
def unknown_version(tus: Tus) -> None:
    """DELETE with an unknown version is answered with 412 and removes nothing."""
    url = tus.create()
    expect.status(tus.ask("DELETE", url, version="0.0.1"), 412)
    tus.stays(url, 0)


@case(
    10,
    MUST,
    OVERRIDE_SOURCE,
    "The `X-HTTP-Method-Override` request header MUST be a string which MUST be interpreted as "
    "the request's method by the Server, if the header is presented.",
)
def post_as_delete(tus: Tus) -> None:
    """POST with X-HTTP-Method-Override: DELETE is a DELETE."""
    url = tus.create()
    answer = tus.ask("POST", url, ("X-HTTP-Method-Override", "DELETE"), body=b"")
    expect.status(answer, 204)
    expect.that(not tus.head(url).ok, "the upload to be gone", "it is still there")


@case(11, MUST, OVERRIDE_SOURCE, "The actual method of the request MUST be ignored.")
def patch_as_delete(tus: Tus) -> None:
    """PATCH with X-HTTP-Method-Override: DELETE stores nothing and is a DELETE."""
    url = tus.create()
    answer = tus.patch(url, 0, b"", ("X-HTTP-Method-Override", "DELETE"))
    expect.status(answer, 204)
    expect.that(not tus.head(url).ok, "the upload to be gone", "it is still there")


@case(12, MUST, SOURCE, TERMINATED)
def only_this_one(tus: Tus) -> None:
    """DELETE removes this upload and no other."""
    other = tus.filled(b"hello", 10)
    _deleted(tus)
    tus.stays(other, 5)


def _deleted(tus: Tus) -> Url:
    url = tus.create()
    expect.success(tus.ask("DELETE", url), "DELETE")
    return url
