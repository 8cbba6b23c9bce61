"""How a part goes out: from the memory that it lies in, by a thread.

The rules:
- aiobotocore makes, signs and repeats the call, as any other. Only its body is not for the event
  loop, which would have to look at each piece: a thread hands it to the kernel, or to TLS.
- The hash that the call is signed with is computed once, by a thread; a store that gets other bytes
  refuses them. It forbids no gaps in the numbers of parts, as checksums of parts would.
- A thread is bounded by the time-outs of its socket, and keeps no process from ending. Whoever does
  not wait for it any more has nothing to fear from it: the memory stays as long as it reads there.
"""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

SIGNED_BEFORE = "tusd-py-s3v4"
"""The version of a signature, as botocore names them, for calls whose hash is known."""

_AT_ONCE = 256 << 10
_KEPT = 64
"""Connections that are kept for the next part."""

_SENDS_WITHIN = 30.0
"""Seconds for a connection, and for each piece."""


class Bytes(io.BytesIO):
    """Memory as the body of a call, without a copy of it: botocore takes files.

    Of other files than this, aiohttp reads each piece in a thread.

    Args:
        data: Must not change while it is sent.
        moves: Called on the event loop with each piece that goes out.
        sha256: Of the bytes, in hexadecimal digits: it goes out by a thread. Empty for the event
            loop, and to let botocore sign the call as it likes.
    """

    def __init__(self, data: memoryview, moves: Callable[[], None], sha256: str = "") -> None:
        super().__init__()
        self._data = data
        self._moves = moves
        self._loop = asyncio.get_running_loop()
        self._at = 0
        self.sha256 = sha256

    def pieces(self) -> Iterator[memoryview]:
        """All of it; in a thread."""
        for at in range(0, len(self._data), _AT_ONCE):
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._moves)
            yield self._data[at : at + _AT_ONCE]

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BytesIO.read`."""
        self._moves()
        end = len(self._data) if size is None or size < 0 else self._at + size
        read = bytes(self._data[self._at : end])
        self._at += len(read)
        return read

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See `io.BytesIO.seek`."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """See `io.BytesIO.tell`."""
        return self._at


class _SignedBefore(S3SigV4Auth):  # type: ignore[misc]
    """Signs with the hash that the body has already."""

    def payload(self, request: Any) -> str:
        """See `S3SigV4Auth.payload`."""
        return str(getattr(request.body, "sha256", "") or super().payload(request))


AUTH_TYPE_MAPS[SIGNED_BEFORE] = _SignedBefore


def choose_signer(signature_version: object, **_: object) -> str | None:
    """For botocore's `choose-signer`: what signs calls whose hash is known."""
    return SIGNED_BEFORE if signature_version == "s3v4" else None


class Session(AIOHTTPSession):  # type: ignore[misc]
    """Sends `Bytes` whose hash is known by a thread, and everything else as its base."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        of_both = ("verify", "proxies", "client_cert", "proxies_config", "socket_options")
        connect, answer = words["timeout"]
        self._blocking = URLLib3Session(
            timeout=(max(connect, _SENDS_WITHIN), answer),
            max_pool_connections=_KEPT,
            **{word: words[word] for word in of_both if word in words},
        )

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self._blocking.close()

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        """See `AIOHTTPSession.send`."""
        if not isinstance(request.body, Bytes) or not request.body.sha256:
            return await super().send(request)
        answer = await _in_thread(partial(self._send, request, request.body))
        return AioAWSResponse(
            answer.url, answer.status_code, answer.headers, Answered(answer.content)
        )

    def _send(self, request: AWSPreparedRequest, body: Bytes) -> AWSResponse:
        """In a thread."""
        whole = AWSPreparedRequest(
            request.method, request.url, request.headers, body.pieces(), stream_output=False
        )
        return self._blocking.send(whole)


async def _in_thread(work: Callable[[], AWSResponse]) -> AWSResponse:
    """The result of a thread of its own: a part is worth one."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[AWSResponse] = loop.create_future()

    def tell(result: AWSResponse | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def run() -> None:
        try:
            told = partial(tell, work(), None)
        except Exception as error:  # the root of the thread: whoever waits for it raises it
            told = partial(tell, None, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(told)

    threading.Thread(target=run, name="tusd-py-part", daemon=True).start()
    return await done


class Answered:
    """An answer that was read already."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        """All of it, as of an answer of aiohttp."""
        return self._content
