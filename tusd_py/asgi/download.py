"""Finished uploads as files to download, safe to be opened from a browser.

What a request gets (a range or not, a 206 or a 416) is Starlette's to say. Where the server sends
files itself (ASGI's extension `http.response.zerocopysend`), Starlette is asked as if for a `HEAD`,
whose answer has the head that the `GET` would have (RFC 9110, 9.3.2), and the server gets the file
that the head was made for, already open.
"""

import errno
import os
import re
import stat
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from starlette.responses import FileResponse
from starlette.types import Message

from tusd_py.asgi.responding import Exchange
from tusd_py.protocol.content import build_content_disposition, harmless_type
from tusd_py.protocol.errors import StorageBusy, StorageFailed, StoredBytesLost, UploadNotFound
from tusd_py.protocol.headers import TUS_VERSION, Headers
from tusd_py.protocol.tus1 import Response
from tusd_py.protocol.upload import Upload
from tusd_py.storage.interface import Storage

_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,19})-([0-9]{1,19})/[0-9]{1,19}")


async def send_file(
    storage: Storage,
    upload: Upload,
    request: Headers,
    exchange: Exchange,
    *,
    at_once: bool = False,
) -> None:
    """Answers a `GET`: whole or in ranges (RFC 9110, 14), or 304.

    Args:
        storage: Where it lies.
        upload: Its record.
        request: The headers of the request.
        exchange: Of the request.
        at_once: See `Storage.settle`.

    Raises:
        UploadNotFound: Somebody else has removed the file, whatever lies in its place now.
        StoredBytesLost: Somebody else has cut it.
        StorageFailed: That cannot be told.
    """
    path = storage.locate(upload)
    if isinstance(path, str):
        await _send_remote(storage, upload, request, exchange)
        return
    with await _open(path, upload, at_once=at_once) as file:
        # Asked once it is open: a file that takes its place from now on is not the one sent.
        if not await storage.has(upload, at_once=at_once):
            raise UploadNotFound(upload.id)
        headers = _headers(upload)
        if _is_known(headers["ETag"], request):
            await exchange.respond(Response(status=304, headers=tuple(headers.items())))
            return
        media_type = harmless_type(upload.metadata)
        if exchange.sends_files:
            found = os.fstat(file.fileno())
            response = FileResponse(path, headers=headers, media_type=media_type, stat_result=found)
            if await _hand_over(file, response, exchange):
                return
        response = FileResponse(path, headers=headers, media_type=media_type)
        try:
            await response(exchange.scope, exchange.receive, exchange.send)
        except RuntimeError as error:
            # What Starlette raises for a file that has just gone, before anything was sent.
            if exchange.status:
                raise
            raise UploadNotFound(upload.id) from error


async def _send_remote(
    storage: Storage, upload: Upload, request: Headers, exchange: Exchange
) -> None:
    """As `send_file`, of what lies in no file: its bytes pass through, or the client goes there."""
    if not await storage.has(upload):
        raise UploadNotFound(upload.id)
    headers = _headers(upload)
    if _is_known(headers["ETag"], request):
        await exchange.respond(Response(status=304, headers=tuple(headers.items())))
        return
    link = await storage.link(
        upload,
        media_type=harmless_type(upload.metadata),
        disposition=headers["Content-Disposition"],
    )
    if link is not None:
        # No cache may keep it longer than it works. Ranges are asked of the store, by that URL.
        there = (("Location", link), ("Cache-Control", "private, no-store"))
        tus_resumable = ("Tus-Resumable", TUS_VERSION)
        await exchange.respond(Response(status=307, headers=(*there, tus_resumable)))
        return
    head, *rest = await _remote_answer(upload, headers, exchange)
    span = _part(head)
    if span is None:
        # Several ranges: "A server MAY ignore the Range header field" (RFC 9110, 14.2).
        head, *rest = await _remote_answer(upload, headers, exchange, whole=True)
    offset, count = span or (0, upload.upload_offset)
    await exchange.send(head)
    if head["status"] in (200, 206):
        async with aclosing(storage.read(upload, offset, count)) as stream:
            async for data in stream:
                await exchange.send({"type": "http.response.body", "body": data, "more_body": True})
        rest = [{"type": "http.response.body", "body": b""}]
    for message in rest:
        await exchange.send(message)


async def _remote_answer(
    upload: Upload, headers: dict[str, str], exchange: Exchange, *, whole: bool = False
) -> list[Message]:
    """What Starlette would answer with to a `HEAD`, if there were such a file."""
    size, created = upload.upload_offset, int(upload.created_at)
    found = os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, size, created, created, created))
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    scope = {**exchange.scope, "method": "HEAD"}
    if whole:
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != b"range"]
    media_type = harmless_type(upload.metadata)
    response = FileResponse(upload.id, headers=headers, media_type=media_type, stat_result=found)
    await response(scope, exchange.receive, keep)
    return messages


def _is_known(etag: str, request: Headers) -> bool:
    """Whether the client has just this."""
    # A proxy that compresses weakens the tag; here that is no difference (RFC 9110, 13.1.2).
    known = (entry.strip() for entry in request.joined("If-None-Match").split(","))
    return bool({entry.removeprefix("W/") for entry in known} & {etag, "*"})


def _headers(upload: Upload) -> dict[str, str]:
    return {
        "Tus-Resumable": TUS_VERSION,
        "ETag": f'"{upload.id}-{upload.upload_offset}"',
        "Content-Disposition": build_content_disposition(upload.metadata),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-cache",
    }


async def _open(path: Path, upload: Upload, *, at_once: bool) -> BinaryIO:
    """The file of an upload, as long as it must be.

    Raises:
        UploadNotFound: There is none.
        StoredBytesLost: It is too short.
        StorageFailed: That cannot be told.
    """
    try:
        if at_once:
            file = _open_regular(path)
        else:
            file = await anyio.to_thread.run_sync(_open_regular, path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UploadNotFound(upload.id) from error
    except OSError as error:
        has_too_many = error.errno in (errno.EMFILE, errno.ENFILE)
        raise (StorageBusy if has_too_many else StorageFailed) from error
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size >= upload.upload_offset:
        return file
    file.close()
    raise StoredBytesLost(upload.id) if stat.S_ISREG(found.st_mode) else UploadNotFound(upload.id)


def _open_regular(path: Path) -> BinaryIO:
    # Whatever lies there: opened without a wait, a pipe does not hold the thread.
    return open(path, "rb", 0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


async def _hand_over(file: BinaryIO, response: FileResponse, exchange: Exchange) -> bool:
    """Sends an answer whose bytes, if any, are one part of a file; False if they are several."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await response({**exchange.scope, "method": "HEAD"}, exchange.receive, keep)
    head, *rest = messages
    part = _part(head)
    if part is None:
        return False
    offset, count = part
    await exchange.send(head)
    if count and head["status"] in (200, 206):
        sent = {"type": "http.response.zerocopysend", "file": file, "offset": offset}
        await exchange.send({**sent, "count": count, "more_body": False})
        return True
    for message in rest:
        await exchange.send(message)
    return True


def _part(head: Message) -> tuple[int, int] | None:
    """Where in the file a body begins, and its length in bytes; None if it has several parts."""
    headers = dict(head["headers"])
    count = int(headers[b"content-length"])
    if head["status"] != 206:
        return 0, count
    found = _CONTENT_RANGE.fullmatch(headers.get(b"content-range", b""))
    return None if found is None else (int(found[1]), count)
