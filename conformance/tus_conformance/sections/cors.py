"""CORS, as browsers need it (the Fetch standard); tus itself says nothing about it.

The Fetch standard binds browsers and leaves servers free, so nothing here is above SHOULD. A
server that does not share with our origin at all is not judged further.
"""

import contextlib

from tus_conformance import expect
from tus_conformance.case import MAY, SHOULD, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import Hangup, NotApplicable, Silence
from tus_conformance.wire import Answer, Url

cors = Section("cors", "CORS")
case = cors.case

SOURCE = "Fetch, HTTP responses"
PREFLIGHT = (
    "A successful HTTP response to a CORS-preflight request is similar, except it is restricted "
    "to an ok status, e.g., 200 or 204."
)
ANY_STATUS = (
    "A successful HTTP response, i.e., one where the server developer intends to share it, to a "
    "CORS request can use any status, as long as it includes the headers stated above with values "
    "matching up with the request."
)
ALLOW_ORIGIN = (
    "Indicates whether the response can be shared, via returning the literal value of the "
    "`Origin` request header (which can be `null`) or `*` in a response."
)
ALLOW_METHODS = (
    "Indicates which methods are supported by the response's URL for the purposes of the CORS "
    "protocol."
)
ALLOW_HEADERS = (
    "Indicates which headers are supported by the response's URL for the purposes of the CORS "
    "protocol."
)
EXPOSE = "Indicates which headers can be exposed as part of the response by listing their names."
VARY = (
    "If CORS protocol requirements are more complicated than setting "
    "`Access-Control-Allow-Origin` to `*` or a static origin, `Vary` is to be used."
)
CREDENTIALS = (
    'Indicates whether the response can be shared when request\'s credentials mode is "include".'
)
LENGTH = ("Upload-Length", "10")


@case(1, MAY, SOURCE, ALLOW_ORIGIN)
def shares(tus: Tus) -> None:
    """The server shares its answers with a foreign origin."""
    try:
        _shared_here(tus)
    except NotApplicable as reason:
        expect.that(False, "Access-Control-Allow-Origin", reason)


@case(2, SHOULD, SOURCE, PREFLIGHT)
def preflight(tus: Tus) -> None:
    """The preflight of POST is answered with a status of the 2xx class and the origin."""
    _shared_here(tus)
    answer = _preflight(tus, tus.url, "POST", "tus-resumable,upload-length")
    expect.success(answer, "the preflight")
    _shared(tus, answer)


@case(3, SHOULD, SOURCE, PREFLIGHT)
def preflight_of_an_upload(tus: Tus) -> None:
    """The preflight of PATCH at an upload's URL is answered in the same way."""
    _shared_here(tus)
    answer = _preflight(tus, tus.create(), "PATCH", "tus-resumable,upload-offset,content-type")
    expect.success(answer, "the preflight")
    _shared(tus, answer)


@case(4, SHOULD, SOURCE, ALLOW_METHODS)
def method_patch(tus: Tus) -> None:
    """The preflight allows PATCH."""
    _allows_method(tus, "PATCH")


@case(5, SHOULD, SOURCE, ALLOW_METHODS, needs=("termination",))
def method_delete(tus: Tus) -> None:
    """The preflight allows DELETE."""
    _allows_method(tus, "DELETE")


@case(6, SHOULD, SOURCE, ALLOW_HEADERS)
def headers_of_post(tus: Tus) -> None:
    """The preflight allows the header fields of POST."""
    _allows_headers(tus, "POST", "Tus-Resumable", "Upload-Length", "Upload-Metadata")


@case(7, SHOULD, SOURCE, ALLOW_HEADERS)
def headers_of_patch(tus: Tus) -> None:
    """The preflight allows the header fields of PATCH."""
    _allows_headers(tus, "PATCH", "Tus-Resumable", "Upload-Offset", "Content-Type")


@case(8, SHOULD, SOURCE, ALLOW_HEADERS)
def header_of_the_override(tus: Tus) -> None:
    """The preflight allows X-HTTP-Method-Override."""
    _allows_headers(tus, "POST", "X-HTTP-Method-Override")


@case(9, SHOULD, SOURCE, ALLOW_HEADERS, needs=("checksum",))
def header_of_checksum(tus: Tus) -> None:
    """The preflight allows Upload-Checksum."""
    _allows_headers(tus, "PATCH", "Upload-Checksum")


@case(10, SHOULD, SOURCE, ALLOW_HEADERS, needs=("concatenation",))
def header_of_concatenation(tus: Tus) -> None:
    """The preflight allows Upload-Concat."""
    _allows_headers(tus, "POST", "Upload-Concat")


@case(11, SHOULD, SOURCE, ALLOW_HEADERS, needs=("creation-defer-length",))
def header_of_defer_length(tus: Tus) -> None:
    """The preflight allows Upload-Defer-Length."""
    _allows_headers(tus, "POST", "Upload-Defer-Length")


@case(12, SHOULD, SOURCE, EXPOSE, needs=("creation",))
def post_exposes(tus: Tus) -> None:
    """The answer to POST is shared and exposes Location."""
    _shared_here(tus)
    answer = tus.post(LENGTH, _origin(tus))
    _shared(tus, answer)
    _exposes(answer, "Location")


@case(13, SHOULD, SOURCE, EXPOSE)
def patch_exposes(tus: Tus) -> None:
    """The answer to PATCH is shared and exposes Upload-Offset."""
    _shared_here(tus)
    answer = tus.patch(tus.create(), 0, b"hello", _origin(tus))
    _shared(tus, answer)
    _exposes(answer, "Upload-Offset")


@case(14, SHOULD, SOURCE, EXPOSE)
def head_exposes(tus: Tus) -> None:
    """The answer to HEAD is shared and exposes Upload-Offset and Upload-Length."""
    _shared_here(tus)
    answer = tus.ask("HEAD", tus.create(), _origin(tus))
    _shared(tus, answer)
    _exposes(answer, "Upload-Offset", "Upload-Length")


@case(15, SHOULD, SOURCE, EXPOSE)
def head_exposes_metadata(tus: Tus) -> None:
    """The answer to HEAD exposes Upload-Metadata."""
    _shared_here(tus)
    url = tus.create(10, ("Upload-Metadata", "filename YQ=="))
    _exposes(tus.ask("HEAD", url, _origin(tus)), "Upload-Metadata")


@case(16, SHOULD, SOURCE, EXPOSE, needs=("expiration",))
def patch_exposes_expiration(tus: Tus) -> None:
    """The answer to PATCH exposes Upload-Expires."""
    _shared_here(tus)
    answer = tus.patch(tus.create(), 0, b"hello", _origin(tus))
    if not answer.all("Upload-Expires"):
        raise NotApplicable("there is no Upload-Expires to expose")
    _exposes(answer, "Upload-Expires")


@case(17, SHOULD, SOURCE, EXPOSE)
def options_exposes(tus: Tus) -> None:
    """The answer to OPTIONS is shared and exposes Tus-Version and Tus-Extension."""
    _shared_here(tus)
    answer = tus.ask("OPTIONS", tus.url, _origin(tus), version=None)
    _shared(tus, answer)
    _exposes(answer, "Tus-Version", "Tus-Extension")


@case(18, SHOULD, SOURCE, ANY_STATUS)
def errors_are_shared(tus: Tus) -> None:
    """Refusals (409 to PATCH, 404 to HEAD) are shared too, so that a script sees the status."""
    _shared_here(tus)
    _shared(tus, tus.patch(tus.create(), 3, b"hello", _origin(tus)))
    _shared(tus, tus.ask("HEAD", tus.nowhere(), _origin(tus)))


@case(19, SHOULD, "Fetch, CORS protocol and HTTP caches", VARY)
def vary(tus: Tus) -> None:
    """An answer that names the origin varies by Origin."""
    _shared_here(tus)
    answer = tus.ask("HEAD", tus.create(), _origin(tus))
    other = tus.ask("HEAD", tus.create(), ("Origin", "https://other.example"))
    name = "Access-Control-Allow-Origin"
    if answer.get(name) == other.get(name):
        return
    listed = [part.strip().lower() for part in (answer.get("Vary") or "").split(",")]
    expect.that("origin" in listed or "*" in listed, "Vary: Origin", ", ".join(listed) or "no Vary")


@case(20, SHOULD, SOURCE, CREDENTIALS)
def credentials(tus: Tus) -> None:
    """Access-Control-Allow-Credentials, where sent, is `true` and goes with a named origin."""
    _shared_here(tus)
    for answer in (
        _preflight(tus, tus.url, "POST", "tus-resumable"),
        tus.ask("HEAD", tus.create(), _origin(tus)),
    ):
        allowed = answer.get("Access-Control-Allow-Credentials")
        if allowed is None:
            continue
        expect.that(allowed == "true", "Access-Control-Allow-Credentials: true", allowed)
        named = answer.get("Access-Control-Allow-Origin") != "*"
        expect.that(named, "the origin itself beside credentials", "*")


def _origin(tus: Tus) -> tuple[str, str]:
    return "Origin", tus.settings.origin


def _preflight(tus: Tus, url: Url, method: str, headers: str) -> Answer:
    """The request that a browser sends first: without Tus-Resumable, and without credentials."""
    return tus.ask(
        "OPTIONS",
        url,
        _origin(tus),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", headers.lower()),
        version=None,
    )


def _shared_here(tus: Tus) -> None:
    """Ends the case when the server does not share with our origin anywhere."""
    with contextlib.suppress(Hangup, Silence):  # no answer shares nothing
        answer = tus.ask("OPTIONS", tus.url, _origin(tus), version=None)
        if answer.all("Access-Control-Allow-Origin"):
            return
        answer = _preflight(tus, tus.url, "POST", "tus-resumable,upload-length")
        if answer.all("Access-Control-Allow-Origin"):
            return
    raise NotApplicable(f"the server does not share with {tus.settings.origin}")


def _shared(tus: Tus, answer: Answer) -> None:
    name = "Access-Control-Allow-Origin"
    came = expect.one(answer, name)
    allowed = ("*", tus.settings.origin)
    expect.that(came in allowed, f"{name}: * or {tus.settings.origin}", came)


def _allows_method(tus: Tus, method: str) -> None:
    _shared_here(tus)
    _lists(
        _preflight(tus, tus.url, method, "tus-resumable"), "Access-Control-Allow-Methods", method
    )


def _allows_headers(tus: Tus, method: str, *names: str) -> None:
    _shared_here(tus)
    answer = _preflight(tus, tus.url, method, ",".join(sorted(names)))
    _lists(answer, "Access-Control-Allow-Headers", *names)


def _exposes(answer: Answer, *names: str) -> None:
    _lists(answer, "Access-Control-Expose-Headers", *names)


def _lists(answer: Answer, name: str, *wanted: str) -> None:
    """Fails unless the list has them all, or is the wildcard."""
    listed = {part.strip().lower() for part in (answer.get(name) or "").split(",")}
    missing = [one for one in wanted if one.lower() not in listed and "*" not in listed]
    expect.that(not missing, f"{', '.join(wanted)} in {name}", answer.get(name) or f"no {name}")
