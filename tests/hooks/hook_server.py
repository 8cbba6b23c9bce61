"""An application behind hooks by HTTP: notes what it is asked, and answers as a test says."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A hook that came in: its JSON, the bytes that this was, its headers, and its path."""

    call: Json
    body: bytes
    headers: list[tuple[str, str]]
    path: str

    @property
    def hook(self) -> str:
        return str(self.call["Type"])

    @property
    def upload(self) -> Json:
        found: Json = self.call["Event"]["Upload"]
        return found

    def header(self, name: str) -> str | None:
        """The first of this name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(slots=True)
class Said:
    """An answer; `body` is sent as it is, `json` otherwise, with `headers` besides."""

    json: Json = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    after: threading.Event | None = None
    headers: dict[str, str] = field(default_factory=dict)


class HookServer:
    """On loopback; it may be stopped, and started again at the same URL.

    Attributes:
        asked: All that came in, in order.
        answer: What is said to each; a test puts its own function there.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Said] = lambda _: Said()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def hooks(self) -> list[str]:
        """The names of what came in, in order."""
        return [each.hook for each in self.asked]

    def of(self, hook: str) -> list[Asked]:
        """What came in under a name."""
        return [each for each in self.asked if each.hook == hook]

    def start(self) -> None:
        application = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = Asked(json.loads(body), body, list(self.headers.items()), self.path)
                application.asked.append(asked)
                said = application.answer(asked)
                if said.after is not None:
                    said.after.wait(60)
                content = json.dumps(said.json).encode() if said.body is None else said.body
                with contextlib.suppress(OSError):
                    self.send_response(said.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.send_header("Connection", "close")
                    for name, value in said.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self._server = server

    def stop(self) -> None:
        """Nobody listens any more."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(10)


@contextlib.contextmanager
def hook_server() -> Iterator[HookServer]:
    """A hook server for the length of a `with` block."""
    server = HookServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
