"""Finished uploads as files to download, safe to be opened from a browser."""

from urllib.parse import quote

from starlette.responses import FileResponse

from tusd_py.asgi.responding import Exchange
from tusd_py.protocol.errors import UploadNotFound
from tusd_py.protocol.headers import TUS_VERSION, Headers
from tusd_py.protocol.tus1 import Response
from tusd_py.protocol.upload import Upload
from tusd_py.storage.interface import Storage

_INLINE = frozenset(
    {
        "application/pdf",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
        "video/mp4",
        "video/ogg",
        "video/webm",
    }
)
"""Types that run no script; all others are offered as opaque bytes to be saved."""


async def send_file(storage: Storage, upload: Upload, request: Headers, exchange: Exchange) -> None:
    """Answers a `GET`: whole or in ranges (RFC 9110, 14), or 304.

    Raises:
        UploadNotFound: Somebody else has removed the file, whatever lies in its place now.
        StorageFailed: That cannot be told.
    """
    if not await storage.has(upload):
        raise UploadNotFound(upload.id)
    etag = f'"{upload.id}-{upload.upload_offset}"'
    headers = {
        "Tus-Resumable": TUS_VERSION,
        "ETag": etag,
        "Content-Disposition": build_content_disposition(upload),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-cache",
    }
    # A proxy that compresses weakens the tag; here that makes no difference (RFC 9110, 13.1.2).
    known = (entry.strip() for entry in request.joined("If-None-Match").split(","))
    candidates = {entry.removeprefix("W/") for entry in known}
    if candidates & {etag, "*"}:
        await exchange.respond(Response(status=304, headers=tuple(headers.items())))
        return
    path = storage.locate(upload)
    response = FileResponse(path, headers=headers, media_type=_content_type(upload))
    try:
        await response(exchange.scope, exchange.receive, exchange.send)
    except RuntimeError as error:
        # What Starlette raises for a file that has just gone, before anything was sent.
        if exchange.status:
            raise
        raise UploadNotFound(upload.id) from error


def build_content_disposition(upload: Upload) -> str:
    """RFC 6266: the file's name in `filename*`, and an ASCII shape of it for old browsers."""
    kind = "inline" if _content_type(upload) in _INLINE else "attachment"
    raw = upload.metadata.get("filename") or upload.metadata.get("name") or b""
    name = "".join(c for c in raw.decode("utf-8", "replace") if c.isprintable())
    name = name.replace("/", "_").replace("\\", "_")[:200]
    if not name:
        return kind
    ascii_name = name.encode("ascii", "replace").decode().replace('"', "'").replace("?", "_")
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _content_type(upload: Upload) -> str:
    """What the client said it is, where that is harmless; opaque bytes otherwise."""
    given = upload.metadata.get("filetype") or upload.metadata.get("type") or b""
    content_type = given.decode("latin-1").strip().lower()
    return content_type if content_type in _INLINE else "application/octet-stream"
