"""A tus server in memory, on a thread, that does the wrong thing when told to.

Without faults it is an honest server. A fault is for one request; a test lists them per method.
"""

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import zlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

EXTENSIONS = "creation,creation-defer-length,checksum,concatenation"
READ_AT_ONCE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Answers with this, after so many bytes of the body (None: all), of which some are kept."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    keep: int = 0
    lasting: bool = False
    """Reads on for ever after the answer, as some servers do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Keeps so many bytes of the body, and resets the connection."""

    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Keeps so many bytes, then waits until the test says to go on."""

    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """No fault this time."""


Fault = Say | Cut | Hold | Honest


@dataclass(slots=True, kw_only=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0


@dataclass(slots=True, kw_only=True)
class Kept:
    """An upload."""

    headers: dict[str, str]
    length: int | None
    data: bytearray = field(default_factory=bytearray)


class ScriptedServer:
    """Uploads live as long as this object; the socket can go and come back."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.uploads: dict[str, Kept] = {}
        self.seen: list[Seen] = []
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.options = {"Tus-Version": "1.0.0", "Tus-Extension": EXTENSIONS}
        self.options["Tus-Checksum-Algorithm"] = "sha1,md5,sha256,sha512,crc32"
        self.options_status = 204
        self.location = "{url}{id}"
        self.holding = threading.Event()
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self.port = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Where uploads are made."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/files/"

    def start(self) -> None:
        """Opens the socket, at the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Closes the socket and every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut_all()

    def fault(self, method: str, *faults: Fault) -> None:
        """What happens to the next requests of this method."""
        self.faults[method].extend(faults)

    def requests(self, method: str) -> list[Seen]:
        """Those that came, in order."""
        return [seen for seen in self.seen if seen.method == method]

    def received(self) -> int:
        """Bytes of all bodies together."""
        return sum(seen.received for seen in self.seen)

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        return self._server is not None and bool(self._server.connections)

    @property
    def only(self) -> Kept:
        """The one upload that there is."""
        (kept,) = self.uploads.values()
        return kept

    def upload(self, url: str) -> Kept:
        """The upload of this URL."""
        return self.uploads[url.rpartition("/")[2]]


AUTHORITY = trustme.CA()
"""Has signed the certificate of an encrypted server; nobody knows it but who is told."""


@contextlib.contextmanager
def scripted(*, encrypted: bool = False) -> Iterator[ScriptedServer]:
    """A scripted server for the length of a `with` block."""
    tls = None
    if encrypted:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert("127.0.0.1").configure_cert(tls)
    server = ScriptedServer(tls)
    server.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], script: ScriptedServer) -> None:
        self.script = script
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def cut_all(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # an answer goes out whole, so that a reset behind it cannot halve it
    server: _Server

    def setup(self) -> None:
        if (tls := self.server.script.tls) is not None:
            self.request = tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()
        if self.server.script.tls is not None:
            self.connection.close()  # the server knows only the socket below it

    def log_message(self, format: str, *args: object) -> None:
        """In silence."""

    def do_OPTIONS(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        script = self.server.script
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Seen(method=self.command, path=self.path, headers=headers)
        self.left = int(headers.get("content-length", "0"))
        with script.lock:
            script.seen.append(self.seen)
            queue = script.faults[self.command]
            fault = queue.popleft() if queue else Honest()
        match fault:
            case Say():
                self._say(fault)
            case Cut():
                self._store(fault.after)
                self._reset()
            case Hold():
                self._store(fault.after)
                script.holding.set()
                script.go_on.wait(30)
                self._honest()
            case Honest():
                self._honest()

    def _say(self, say: Say) -> None:
        self._store(say.keep)
        for _ in self._body(self.left if say.after is None else say.after):
            pass
        self._answer(say.status, say.headers, say.text)
        if say.lasting:
            for _ in self._body(self.left):
                pass
        elif self.left:
            self.close_connection = True

    def _reset(self) -> None:
        """Closes with a reset and not with an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())  # `close` would wait for rfile and wfile
        self.close_connection = True

    def _body(self, count: int) -> Iterator[bytes]:
        while count > 0 and self.left > 0:
            data = self.rfile.read1(min(count, self.left, READ_AT_ONCE))
            if not data:
                raise ConnectionResetError
            count -= len(data)
            self.left -= len(data)
            self.seen.received += len(data)
            yield data

    def _store(self, count: int) -> None:
        if count:
            for data in self._body(count):
                self._kept().data += data

    def _kept(self) -> Kept:
        return self.server.script.uploads[self.path.rpartition("/")[2]]

    def _answer(self, status: int, headers: Mapping[str, str], text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Tus-Resumable", "1.0.0")
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _honest(self) -> None:
        if self.command == "OPTIONS":
            self._answer(self.server.script.options_status, self.server.script.options)
        elif self.command == "POST":
            self._create()
        elif self.path.rpartition("/")[2] not in self.server.script.uploads:
            self._answer(404, {}, "ERR_UPLOAD_NOT_FOUND: there is no such upload\n")
            self.close_connection = True
        elif self.command == "HEAD":
            self._answer(200, self._position())
        else:
            self._append()

    def _position(self) -> dict[str, str]:
        kept = self._kept()
        position = {"Upload-Offset": str(len(kept.data)), "Cache-Control": "no-store"}
        if kept.length is not None:
            position["Upload-Length"] = str(kept.length)
        return position

    def _create(self) -> None:
        script = self.server.script
        length = self.seen.headers.get("upload-length")
        kept = Kept(headers=self.seen.headers, length=None if length is None else int(length))
        kind, _, urls = self.seen.headers.get("upload-concat", "").partition(";")
        with script.lock:
            if kind == "final":
                kept.data = bytearray().join(script.upload(url).data for url in urls.split(" "))
                kept.length = len(kept.data)
            upload_id = f"upload{len(script.uploads)}"
            script.uploads[upload_id] = kept
        self._answer(201, {"Location": script.location.format(url=script.url, id=upload_id)})

    def _append(self) -> None:
        kept = self._kept()
        if int(self.seen.headers["upload-offset"]) + self.seen.received != len(kept.data):
            self._answer(409, {}, "ERR_MISMATCHED_OFFSET: ask with HEAD\n")
            self.close_connection = True
            return
        if "upload-checksum" in self.seen.headers:
            self._append_verified(kept)
        else:
            self._store(self.left)
        if "upload-length" in self.seen.headers:
            kept.length = int(self.seen.headers["upload-length"])
        self._answer(204, {"Upload-Offset": str(len(kept.data))})

    def _append_verified(self, kept: Kept) -> None:
        data = b"".join(self._body(self.left))
        algorithm, _, digest = self.seen.headers["upload-checksum"].partition(" ")
        assert base64.b64decode(digest) == _digest(algorithm, data)
        kept.data += data


def _digest(algorithm: str, data: bytes) -> bytes:
    if algorithm == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return hashlib.new(algorithm, data).digest()
