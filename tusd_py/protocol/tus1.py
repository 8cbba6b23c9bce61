"""tus 1.0.0: a request becomes a command, an outcome becomes a response.

Another dialect is another module of this shape, on the same commands.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tusd_py.protocol import commands
from tusd_py.protocol.checksum import TUS_CHECKSUM_ALGORITHM, parse_upload_checksum
from tusd_py.protocol.concat import (
    Concat,
    Final,
    build_upload_concat,
    parse_part_url,
    parse_upload_concat,
)
from tusd_py.protocol.errors import (
    Header,
    InvalidContentType,
    InvalidHeader,
    InvalidUploadChecksum,
    InvalidUploadDeferLength,
    InvalidUploadLength,
    MethodNotAllowed,
    Rejected,
    TusError,
    UnsupportedVersion,
)
from tusd_py.protocol.headers import (
    OFFSET_CONTENT_TYPE,
    TUS_VERSION,
    Headers,
    build_upload_expires,
    build_upload_length,
    build_upload_offset,
    parse_content_length,
    parse_media_type,
    parse_upload_defer_length,
    parse_upload_length,
    parse_upload_offset,
)
from tusd_py.protocol.metadata import parse_upload_metadata
from tusd_py.protocol.upload import Phase, Reply, Upload

EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)
"""What is spoken over any server; more may be announced where the server can do more."""

WITH_TRAILERS = (*EXTENSIONS, "checksum-trailer")
"""What is spoken where the server hands trailers over."""


class Request(NamedTuple):
    """A request's head, as far as tus looks at it.

    Attributes:
        method: As on the request line; `X-HTTP-Method-Override` is looked at here.
        upload_id: The last segment of the path; None at the URL where uploads are created.
        base_path: The path that uploads lie under, with a slash at its end.
        trailers: Whether the server hands trailers over.
    """

    method: str
    upload_id: str | None
    headers: Headers
    base_path: str = "/"
    trailers: bool = False


class Response(NamedTuple):
    """A response: status, headers in the order of sending, and a body that is there at once."""

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an `OPTIONS` tells. `max_size` in bytes, None for no limit."""

    extensions: tuple[str, ...] = EXTENSIONS
    max_size: int | None = None


def effective_method(request: Request) -> str:
    """Core Protocol, X-HTTP-Method-Override: "The actual method of the request MUST be ignored"."""
    return (request.headers.one("X-HTTP-Method-Override") or request.method).upper()


_ALLOWED_ON_ALL = ("OPTIONS", "POST")
_ALLOWED_ON_ONE = ("OPTIONS", "HEAD", "PATCH", "DELETE", "GET")


def parse_request(request: Request) -> commands.Command:
    """What the request asks for.

    Raises:
        UnsupportedVersion: `Tus-Resumable` is not 1.0.0: "the Server MUST NOT process the request".
        MethodNotAllowed: The method means nothing at this URL.
        InvalidContentType: There is a body that is not labelled as upload data.
        InvalidHeader: A header is missing where it must not, repeated, or cannot be read.
    """
    method = effective_method(request)
    if method == "OPTIONS":
        return commands.Discover()
    version = request.headers.one("Tus-Resumable")
    if version not in (None, TUS_VERSION):
        raise UnsupportedVersion(version, TUS_VERSION)
    if method == "GET" and request.upload_id is not None:
        return commands.Download(upload_id=request.upload_id)
    allowed = _ALLOWED_ON_ALL if request.upload_id is None else _ALLOWED_ON_ONE
    if method not in allowed:
        raise MethodNotAllowed(method, ", ".join(allowed))
    if version is None:
        raise UnsupportedVersion(version, TUS_VERSION)
    if request.upload_id is None:
        return _parse_create(request)
    if method == "PATCH":
        return _parse_append(request, request.upload_id)
    if method == "DELETE":
        return commands.Terminate(upload_id=request.upload_id)
    return commands.Query(upload_id=request.upload_id)


def _parse_create(request: Request) -> commands.Create:
    headers = request.headers
    upload_metadata = headers.one("Upload-Metadata")
    parse_upload_metadata(upload_metadata or "")
    concat_value = headers.one("Upload-Concat")
    concat = None if concat_value is None else parse_upload_concat(concat_value)
    part_ids: tuple[str, ...] = ()
    if isinstance(concat, Final):
        part_ids = tuple(parse_part_url(url, request.base_path) for url in concat.urls)
    upload_length = _parse_length_of_new(headers, concat)
    content = _parse_content_of_new(request)
    if content is not None and isinstance(concat, Final):
        raise InvalidHeader("Content-Length", "must be 0 for a final upload: its parts have it all")
    return commands.Create(upload_length, upload_metadata, concat, part_ids, content)


def _parse_length_of_new(headers: Headers, concat: Concat | None) -> int | None:
    value = headers.one("Upload-Length")
    deferred = parse_upload_defer_length(headers.one("Upload-Defer-Length"))
    if isinstance(concat, Final):
        # "The Client MUST NOT include the Upload-Length header in the final upload creation."
        if value is not None:
            raise InvalidUploadLength(
                "Upload-Length", "must be absent for a final upload: it is the sum of its parts"
            )
        return None
    if deferred:
        if value is not None:
            raise InvalidUploadDeferLength(
                "Upload-Defer-Length", "contradicts the Upload-Length beside it; send one of them"
            )
        return None
    if value is None:
        raise InvalidUploadLength(
            "Upload-Length", "is missing; send it, or 'Upload-Defer-Length: 1' if it comes later"
        )
    return parse_upload_length(value)


def _parse_content_of_new(request: Request) -> commands.Content | None:
    headers = request.headers
    length = parse_content_length(headers.one("Content-Length"))
    # HTTP/2 needs neither header for a body: there the type tells that one is meant.
    announced = length is not None or "Transfer-Encoding" in headers
    meant = announced or parse_media_type(headers.one("Content-Type")) == OFFSET_CONTENT_TYPE
    if length == 0 or not meant:
        return None
    return _parse_content(request, length)


def _parse_append(request: Request, upload_id: str) -> commands.Append:
    headers = request.headers
    content = _parse_content(request, parse_content_length(headers.one("Content-Length")))
    upload_offset = parse_upload_offset(headers.one("Upload-Offset"))
    length = headers.one("Upload-Length")
    upload_length = None if length is None else parse_upload_length(length)
    return commands.Append(upload_id, upload_offset, content, upload_length)


def _parse_content(request: Request, length: int | None) -> commands.Content:
    headers = request.headers
    content_type = headers.one("Content-Type")
    if parse_media_type(content_type) != OFFSET_CONTENT_TYPE:
        raise InvalidContentType(content_type)
    in_trailer = "Trailer" in headers and "upload-checksum" in {
        name.strip().lower() for name in headers.joined("Trailer").split(",")
    }
    if in_trailer and (length is not None or not request.trailers):
        # "Trailer fields" stand behind the last chunk (RFC 9112, 7.1.2).
        where = "in a body that is not chunked" if request.trailers else "here"
        raise InvalidUploadChecksum(
            "Upload-Checksum", f"cannot be a trailer {where}; send it as a header"
        )
    sent = headers.one("Upload-Checksum")
    checksum = None if sent is None else parse_upload_checksum(sent)
    return commands.Content(length, checksum, in_trailer)


_RESUMABLE: Header = ("Tus-Resumable", TUS_VERSION)


def _head(status: int, headers: Iterable[Header]) -> Response:
    return Response(status, (_RESUMABLE, *headers))


def build_expires(upload: Upload) -> tuple[Header, ...]:
    """Expiration, Upload-Expires: "in every `PATCH` response if the upload is going to expire"."""
    if not upload.may_expire or upload.expires_at is None:
        return ()
    return (("Upload-Expires", build_upload_expires(upload.expires_at)),)


def build_capabilities(capabilities: Capabilities) -> Response:
    """The answer to `OPTIONS`; no spaces in its lists, since some clients do not trim."""
    headers: tuple[Header, ...] = (
        ("Tus-Version", TUS_VERSION),
        ("Tus-Checksum-Algorithm", TUS_CHECKSUM_ALGORITHM),
    )
    if capabilities.extensions:
        headers += (("Tus-Extension", ",".join(capabilities.extensions)),)
    if capabilities.max_size is not None:
        headers += (("Tus-Max-Size", str(capabilities.max_size)),)
    return _head(204, headers)


def build_created(upload: Upload, location: str, *replies: Reply) -> Response:
    """Creation, POST: "201 Created" and `Location`; and where the upload stands already.

    Args:
        upload: As it is now.
        location: Its URL.
        replies: What the application said at the creation; what it says at the finish goes before.
    """
    headers: tuple[Header, ...] = (("Location", location),)
    if not upload.is_final:
        headers += (("Upload-Offset", build_upload_offset(upload.upload_offset)),)
    response = _head(201, (*headers, *build_expires(upload)))
    for reply in (*replies, upload.reply):
        response = _with_reply(response, reply)
    return response


def build_appended(upload: Upload) -> Response:
    """Core Protocol, PATCH: "204 No Content" and "the Upload-Offset header containing the new
    offset".
    """
    offset = ("Upload-Offset", build_upload_offset(upload.upload_offset))
    return _with_reply(_head(204, (offset, *build_expires(upload))), upload.reply)


def _with_reply(response: Response, reply: Reply | None) -> Response:
    """The response with what the application said; what that leaves out stays as it is."""
    if reply is None:
        return response
    body = reply.body.encode() or response.body
    extra = {name.lower() for name in reply.headers}
    kept = tuple(header for header in response.headers if header[0].lower() not in extra)
    status = reply.status or (200 if body and response.status == 204 else response.status)
    return Response(status=status, headers=kept + tuple(reply.headers.items()), body=body)


def build_found(upload: Upload) -> Response:
    """Core Protocol, HEAD.

    Before a final upload is assembled its offset is left out: the answer "SHOULD NOT contain the
    Upload-Offset header unless the concatenation has been successfully finished" (Concatenation).
    """
    headers: list[Header] = [("Cache-Control", "no-store")]
    if not upload.is_final or upload.phase is Phase.COMPLETE:
        headers.append(("Upload-Offset", build_upload_offset(upload.upload_offset)))
    if upload.upload_length is not None:
        headers.append(("Upload-Length", build_upload_length(upload.upload_length)))
    elif not upload.is_final:
        headers.append(("Upload-Defer-Length", "1"))
    if upload.upload_metadata:
        headers.append(("Upload-Metadata", upload.upload_metadata))
    if upload.concat is not None:
        headers.append(("Upload-Concat", build_upload_concat(upload.concat)))
    return _head(200, (*headers, *build_expires(upload)))


def build_terminated(reply: Reply | None = None) -> Response:
    """Termination, DELETE: "MUST respond with the 204 No Content status"."""
    return _with_reply(_head(204, ()), reply)


def build_error(error: TusError, *, problem_json: bool = False, head: bool = False) -> Response:
    """The response to a request that cannot be served.

    Args:
        error: Why.
        problem_json: Whether the client asked for `application/problem+json` (RFC 9457).
        head: Whether the request was a `HEAD`, whose answer has no body and is not to be cached.
    """
    headers: tuple[Header, ...] = error.headers
    if head:
        return _head(error.status, (*headers, ("Cache-Control", "no-store")))
    if isinstance(error, Rejected) and error.body:
        content_type = "text/plain; charset=utf-8"
        body = error.body
    elif problem_json:
        content_type = "application/problem+json"
        problem = {"title": error.code, "status": error.status, "detail": str(error)}
        body = json.dumps(problem | ({"section": error.section} if error.section else {}))
    else:
        content_type = "text/plain; charset=utf-8"
        body = f"{error.code}: {error}\n"
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers += (("Content-Type", content_type),)
    response = _head(error.status, headers)
    return Response(status=response.status, headers=response.headers, body=body.encode())
