"""An application behind a real port in the process of the test, and clients of its WebSockets."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from tests.asgi.in_process import App, until
from tusd_py.wire.http import HttpProtocol
from tusd_py.wire.websocket import MAX_MESSAGE, WebSocketProtocol

OURS: dict[str, Any] = {
    "http": HttpProtocol,
    "ws": WebSocketProtocol,
    "ws_max_size": MAX_MESSAGE,
    "ws_per_message_deflate": False,
}
"""As `tusd-py serve` has it."""

PLAIN: dict[str, Any] = {}
"""uvicorn as anybody starts it."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(app: App, **options: Any) -> AsyncIterator[str]:
    """A server for the length of an `async with`: `//127.0.0.1:PORT`."""
    listener = socket.create_server(("127.0.0.1", 0))
    options.setdefault("lifespan", "off")
    options.setdefault("timeout_graceful_shutdown", 10)
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, **options))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started or serving.done(), within=30)
        yield f"//127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 60)


class Page:
    """A client that listens.

    Attributes:
        got: All messages.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.got: list[dict[str, Any]] = []
        self._refs = itertools.count()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.connection:
            self.got.append(json.loads(message))

    def events(self, *, progress: bool = False) -> list[dict[str, Any]]:
        """Those that are no answers, and no progress unless that is asked for."""
        return [
            each
            for each in self.got
            if each["event"] not in ("done", "error") and (progress or each["event"] != "progress")
        ]

    def names(self) -> list[str]:
        return [each["event"] for each in self.events()]

    async def has(self, *names: str) -> None:
        """Until these have come, and nothing else."""
        await until(lambda: len(self.names()) >= len(names) or self._reading.done(), within=30)
        assert self.names() == [*names]

    async def say(self, command: str, **members: Any) -> dict[str, Any]:
        """Gives a command: its answer."""
        ref = next(self._refs)
        return await self.send(json.dumps({"command": command, "ref": ref, **members}), ref)

    async def send(self, message: str | bytes, ref: object = None) -> dict[str, Any]:
        """Sends a message: the next answer."""
        before = len(self.answers())
        await self.connection.send(message)
        await until(lambda: len(self.answers()) > before or self._reading.done(), within=30)
        answer = self.answers()[before]
        assert answer["ref"] == ref
        return answer

    def answers(self) -> list[dict[str, Any]]:
        return [each for each in self.got if each["event"] in ("done", "error")]

    async def ended(self) -> int | None:
        """Until the server has ended it: the close code."""
        await asyncio.wait_for(asyncio.wait({self._reading}), 30)
        return self.connection.close_code


@asynccontextmanager
async def page(server_at: str, path: str = "/events", **options: Any) -> AsyncIterator[Page]:
    """A client for the length of an `async with`; options as of `websockets`' `connect`."""
    options = {"proxy": None, "ping_interval": None, "open_timeout": 30} | options
    async with connect(f"ws:{server_at}{path}", **options) as connection:
        client = Page(connection)
        yield client
        client._reading.cancel()
