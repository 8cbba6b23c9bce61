"""A `TusApp` in this process: asked by httpx, or by hand where the body's pieces matter."""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tusd_py.app import Settings, TusApp
from tusd_py.protocol.upload import Upload
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import Storage

BASE = "/files/"
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_TYPE = {"Content-Type": "application/offset+octet-stream"}


App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


class Clock:
    """Seconds since the epoch, that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def sha1(data: bytes) -> dict[str, str]:
    """The `Upload-Checksum` of some bytes."""
    digest = base64.b64encode(hashlib.sha1(data).digest()).decode()
    return {"Upload-Checksum": f"sha1 {digest}"}


@dataclass(kw_only=True)
class Running:
    """An application that is open, and a client for it."""

    tus: TusApp
    client: httpx.AsyncClient
    clock: Clock

    async def post(self, body: bytes = b"", /, **headers: str) -> httpx.Response:
        """`POST`; headers are given with underscores for hyphens."""
        kind = OFFSET_TYPE if body else {}
        return await self.client.post(BASE, headers=TUS | kind | _named(headers), content=body)

    async def create(self, length: int | None = None, **headers: str) -> str:
        """A new upload: its path."""
        size = {"Upload_Defer_Length": "1"} if length is None else {"Upload_Length": str(length)}
        answer = await self.post(b"", **(size | headers))
        assert answer.status_code == 201, answer.text
        return path_of(answer)

    async def final(self, *parts: str) -> str:
        """A new final upload: its path."""
        answer = await self.post(Upload_Concat="final;" + " ".join(parts))
        assert answer.status_code == 201, answer.text
        return path_of(answer)

    async def patch(self, path: str, offset: int, body: bytes, **headers: str) -> httpx.Response:
        """`PATCH`."""
        given = TUS | OFFSET_TYPE | {"Upload-Offset": str(offset)} | _named(headers)
        return await self.client.patch(path, headers=given, content=body)

    async def whole(self, content: bytes, **headers: str) -> str:
        """An upload that is finished: its path."""
        answer = await self.post(content, Upload_Length=str(len(content)), **headers)
        assert answer.status_code == 201, answer.text
        return path_of(answer)

    async def head(self, path: str) -> httpx.Response:
        """`HEAD`."""
        return await self.client.head(path, headers=TUS)

    async def offset(self, path: str) -> int:
        """Where an upload stands, by `HEAD`."""
        answer = await self.head(path)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["Upload-Offset"])

    async def delete(self, path: str) -> httpx.Response:
        """`DELETE`."""
        return await self.client.delete(path, headers=TUS)

    async def bytes_of(self, path: str) -> bytes:
        """The content of a finished upload, by `GET`."""
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.content

    async def record(self, path: str) -> Upload:
        """What the state has of an upload."""
        upload = await self.tus.state.load(id_of(path))
        assert upload is not None
        return upload

    async def records(self) -> list[Upload]:
        """What the state has of all uploads."""
        return await self.tus.state.page("", 1000)

    def takes_disk_for(self, *, quick: bool) -> None:
        """From now on small work is done on the event loop, or never is, however long it takes."""
        self.tus.services.pace.is_quick = lambda *, durable: quick  # type: ignore[method-assign]

    @property
    def directory(self) -> Path:
        """Where all files are."""
        assert isinstance(self.tus.storage, DiskStorage)
        return self.tus.storage.directory

    def file(self, path: str) -> Path:
        """Where the bytes of an upload are written."""
        (found,) = self.directory.glob(f"data/*/{id_of(path)}")
        return found

    def size(self, path: str) -> int:
        """Bytes that lie in that file, 0 while there is none."""
        found = list(self.directory.glob(f"data/*/{id_of(path)}"))
        return found[0].stat().st_size if found else 0

    def files(self) -> list[Path]:
        """All files that hold bytes of uploads."""
        return [file for file in self.directory.glob("data/*/*") if file.is_file()]

    def ask(self, method: str, path: str, **headers: str) -> "Asked":
        """A request whose body is fed by hand; to be called on the loop."""
        return Asked(self.tus, method, path, TUS | _named(headers))

    def patching(
        self, path: str, offset: int, length: int | None = None, *, query: str = "", **headers: str
    ) -> "Asked":
        """A `PATCH` whose body is fed by hand, chunked if it has no length."""
        size = {"Transfer-Encoding": "chunked"} if length is None else {}
        size |= {} if length is None else {"Content-Length": str(length)}
        given = TUS | OFFSET_TYPE | size | {"Upload-Offset": str(offset)} | _named(headers)
        return Asked(self.tus, "PATCH", path, given, query)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def path_of(answer: httpx.Response) -> str:
    """The path of what was created."""
    return httpx.URL(answer.headers["Location"]).path


def id_of(path: str) -> str:
    """The last segment."""
    return path.rpartition("/")[2]


class Asked:
    """One request by hand.

    Attributes:
        taken: Calls of `receive` that were answered.
        status: Of the answer, 0 before there is one.
        headers: Of the answer, by lower-case name.
        body: Of the answer.
    """

    def __init__(
        self, app: App, method: str, path: str, headers: dict[str, str], query: str = ""
    ) -> None:
        self._messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._begun = asyncio.Event()
        self.taken = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "scheme": "http",
            "server": ("testserver", 80),
            "headers": [
                (name.encode(), value.encode("latin-1")) for name, value in headers.items()
            ],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    def feed(self, body: bytes, *, more: bool = True) -> None:
        """The next piece of the body."""
        self._messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def vanish(self) -> None:
        """The client goes away."""
        self._messages.put_nowait({"type": "http.disconnect"})

    async def begun(self) -> None:
        """Until the application asks for the body."""
        await asyncio.wait_for(self._begun.wait(), 10)

    async def answered(self) -> int:
        """Until the application has ended: the status."""
        await asyncio.wait_for(asyncio.shield(self.task), 20)
        return self.status

    async def _receive(self) -> MutableMapping[str, Any]:
        self._begun.set()
        message = await self._messages.get()
        self.taken += 1
        return message

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            pairs = message["headers"]
            self.headers = {name.decode().lower(): value.decode() for name, value in pairs}
        else:
            self.body += message.get("body", b"")


@asynccontextmanager
async def running(
    directory: Path,
    *,
    background: bool = False,
    storage: Storage | None = None,
    over: Callable[[App], App] = lambda app: app,
    **options: Any,
) -> AsyncIterator[Running]:
    """An application for the length of an `async with`.

    Args:
        directory: Where it keeps everything.
        background: Whether it sweeps, syncs and recovers by itself.
        storage: Another one than a plain one.
        over: What stands between the client and the application.
        options: For `TusApp`.
    """
    options.setdefault("settings", Settings(base_path=BASE))
    tus = TusApp(storage or DiskStorage(directory), **options)
    clock = Clock()
    tus.services.clock = clock
    await (tus.start() if background else tus.open())
    transport = httpx.ASGITransport(over(tus))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield Running(tus=tus, client=client, clock=clock)
    finally:
        await tus.stop()


async def until(holds: Any, *, within: float = 10.0) -> None:
    """Lets the loop run until `holds()` is true."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.002)
