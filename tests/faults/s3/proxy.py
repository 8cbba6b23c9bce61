"""An HTTP proxy on loopback, before an S3 store, at which chosen calls fail in chosen ways.

The rules:
- A call is read whole, passed on by a connection of its own, and its answer is read whole before it
  is given back. So what the store did and what the client was told are two things.
- Nothing is changed but `Connection` and `Expect`, which no signature covers.
- Calls that come while a fault is armed are counted from 1; those that it does not fit are not.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST
_LATE_BY = 3
"""Answers until a call that is late reaches the store."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to the store.

    Attributes:
        operation: As S3 names it.
        key: Of an object, empty for calls to the bucket.
        multipart: The id of a multipart upload, empty if it is not about one.
        number: Of a part, 0 for none.
    """

    operation: str
    key: str
    multipart: str = ""
    number: int = 0


class When(Enum):
    """How far a call has come when it fails."""

    BEFORE = auto()
    IN = auto()
    AFTER = auto()


class How(Enum):
    """What becomes of it."""

    REFUSE = auto()
    RESET = auto()
    STALL = auto()
    KILL = auto()
    ABORT = auto()
    """Somebody else has aborted the multipart upload just before."""

    LATE = auto()
    """The connection is reset, and the call reaches the store some calls later."""

    SPOIL = auto()
    """The answer is 200, and the error stands in it."""


def any_call(_: Call) -> bool:
    """Of `Fault.fits`."""
    return True


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A way to fail.

    Attributes:
        status: Of the answer, if there is one.
        code: Likewise, as S3 names it.
        fits: Calls that can fail in this way.
    """

    name: str
    how: How
    when: When = When.BEFORE
    status: int = 0
    code: str = ""
    fits: Callable[[Call], bool] = any_call


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A call that fails: the Nth of those that fit, and with `lasting` all behind it."""

    kind: Kind
    at: int = 1
    lasting: bool = False


@dataclass(frozen=True, kw_only=True)
class _Request:
    call: Call
    head: bytes
    length: int
    expects: bool


@dataclass
class S3Proxy:
    """Stands before the store for the length of a `with` block.

    Args:
        target: The port of the store on loopback.

    Attributes:
        on_kill: Ends whoever made the call, or whoever was to answer it.
        on_abort: Aborts the multipart upload of a call, behind the server's back.
        calls: All that came, in order.
        struck: Those that failed on purpose since a fault was armed.
        count: Calls that fitted since then.
        held: Calls that are stalled now.
    """

    target: int
    on_kill: Callable[[], object] = lambda: None
    on_abort: Callable[[Call], object] = lambda _: None
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    struck: list[Call] = field(default_factory=list)
    count: int = 0
    held: int = 0
    _fault: Fault | None = None
    _late: list[tuple[int, _Request, bytes]] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy does not end"

    @property
    def endpoint(self) -> str:
        """What a client of the store is told."""
        return f"http://127.0.0.1:{self.port}"

    def arm(self, fault: Fault) -> None:
        """Lets a call fail, and counts anew."""
        self.count, self.struck, self._fault = 0, [], fault

    def disarm(self) -> None:
        """Lets no call fail any more; what is stalled or late goes on."""
        self._fault = None
        asyncio.run_coroutine_threadsafe(self._release(), self._loop).result(20)

    async def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()
        await self._deliver_late(everything=True)

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._meet, sock=listener))
        self._loop.run_forever()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        listener.close()
        self._loop.close()

    def _stop(self) -> None:
        self._loop.stop()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a task of its own serves each connection"
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = _parse(await reader.readuntil(b"\r\n\r\n"))
        self.calls.append(request.call)
        kind = self._kind_for(request.call)
        if kind is not None and kind.when is When.BEFORE and kind.how in _AT_ONCE:
            await self._fail(kind, request.call, reader, writer)
            return
        if request.expects:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if kind is not None and kind.when is When.IN and request.length:
            await self._break_off(kind, request, reader, writer)
            return
        body = await reader.readexactly(request.length)
        if kind is not None and kind.how is How.LATE:
            self._late.append((len(self.calls) + _LATE_BY, request, body))
            _reset(writer)
            return
        if kind is not None and kind.how is How.ABORT:
            await asyncio.to_thread(self.on_abort, request.call)
        answer = await self._ask(request, body)
        if kind is None or kind.how is How.ABORT:
            writer.write(answer)
            await writer.drain()
        elif kind.when is When.IN:
            writer.write(answer[: len(answer) // 2])
            await writer.drain()
            _reset(writer)
        else:
            await self._fail(kind, request.call, reader, writer)
        await self._deliver_late()

    def _kind_for(self, call: Call) -> Kind | None:
        fault = self._fault
        if fault is None or not fault.kind.fits(call):
            return None
        self.count += 1
        if self.count != fault.at and not (fault.lasting and self.count > fault.at):
            return None
        self.struck.append(call)
        return fault.kind

    async def _fail(
        self, kind: Kind, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if kind.how is How.STALL:
            await self._stall(reader)
            _reset(writer)
        elif kind.how is How.KILL:
            self._fault = None
            self.on_kill()
            _reset(writer)
        elif kind.how in (How.REFUSE, How.SPOIL):
            writer.write(_error(kind, has_body=not call.operation.startswith("Head")))
            await writer.drain()
        else:
            _reset(writer)

    async def _stall(self, reader: asyncio.StreamReader) -> None:
        """Until it is released, or the client has given up."""
        self.held += 1
        left = asyncio.ensure_future(_end_of(reader))
        released = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait({left, released}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            released.cancel()
            self.held -= 1

    async def _break_off(
        self,
        kind: Kind,
        request: _Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """The store gets half of the body; then both connections are reset."""
        half = await reader.readexactly(request.length // 2)
        _, to_store = await asyncio.open_connection("127.0.0.1", self.target)
        to_store.write(request.head + half)
        await to_store.drain()
        if kind.how is How.KILL:
            self._fault = None
            self.on_kill()
        _reset(to_store)
        _reset(writer)

    async def _ask(self, request: _Request, body: bytes) -> bytes:
        """The whole answer of the store."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            writer.write(request.head + body)
            answer = await reader.read()
        finally:
            writer.close()
        if not answer:
            raise ConnectionResetError
        line, _, rest = answer.partition(b"\r\n")
        return line + b"\r\nConnection: close\r\n" + rest

    async def _deliver_late(self, *, everything: bool = False) -> None:
        for late in list(self._late):
            after, request, body = late
            if everything or len(self.calls) >= after:
                self._late.remove(late)
                await self._ask(request, body)


_AT_ONCE = {How.REFUSE, How.RESET, How.STALL, How.KILL, How.SPOIL}


def _parse(head: bytes) -> _Request:
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    kept = [
        each for each in lines if each.lower().partition(":")[0] not in ("connection", "expect")
    ]
    passed = "\r\n".join([line, *kept, "Connection: close", "", ""])
    return _Request(
        call=_call(method, target, is_copy="x-amz-copy-source" in headers),
        head=passed.encode("latin-1"),
        length=int(headers.get("content-length", "0")),
        expects="expect" in headers,
    )


def _call(method: str, target: str, *, is_copy: bool) -> Call:
    split = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(split.query, True).items()}
    key = unquote(split.path).removeprefix("/").partition("/")[2]
    return Call(
        operation=_operation(method, key, query, is_copy=is_copy),
        key=key,
        multipart=query.get("uploadId", ""),
        number=int(query.get("partNumber", "0")),
    )


def _operation(method: str, key: str, query: dict[str, str], *, is_copy: bool) -> str:
    if "uploadId" in query:
        if method == "PUT":
            return "UploadPartCopy" if is_copy else "UploadPart"
        return {
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }[method]
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    if "delete" in query:
        return "DeleteObjects"
    if method == "PUT" and is_copy:
        return "CopyObject"
    where = "Object" if key else "Bucket"
    return {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}[method] + where


def _error(kind: Kind, *, has_body: bool) -> bytes:
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{kind.code}</Code>'
        "<Message>as the test wants it</Message><RequestId>0</RequestId></Error>"
        if has_body
        else ""
    )
    return (
        f"HTTP/1.1 {kind.status} Error\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode("ascii")


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _end_of(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass
