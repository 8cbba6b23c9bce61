"""A small tus server that keeps every sentence, and breaks one when it is told to.

Threads, blocking sockets, everything in memory, loopback only. It is written to be read beside
the cases: what a case demands stands here once, and next to it a call of `self.on`, the fault that
takes it away. Faults that only change an answer's head are rewrites; they stand in `mutants.py`.
"""

import base64
import binascii
import contextlib
import hashlib
import re
import secrets
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate

EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "checksum-trailer",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)
ALGORITHMS = ("sha1", "md5", "crc32")
MAX_SIZE = 2**62
OFFSET_TYPE = "application/offset+octet-stream"
EXPOSED = (
    "Location, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, "
    "Upload-Offset, Upload-Length, Upload-Defer-Length, Upload-Metadata, Upload-Expires, "
    "Upload-Concat"
)
ALLOWED = (
    "Content-Type, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Checksum, "
    "Upload-Concat, Upload-Defer-Length, X-HTTP-Method-Override"
)
REASONS = {200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 404: "Not Found"}


class Cut(Exception):
    """The client is gone in the middle of a request."""


@dataclass(slots=True)
class Reply:
    status: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    close: bool = False

    def drop(self, name: str) -> None:
        self.fields = [one for one in self.fields if one[0].lower() != name.lower()]

    def put(self, name: str, value: str) -> None:
        self.drop(name)
        self.fields.append((name, value))

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, *, close: bool = False) -> None:
        super().__init__(status)
        self.reply = Reply(status, close=close)


@dataclass(slots=True)
class Request:
    method: str
    actual: str
    target: str
    version: str
    fields: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


@dataclass(slots=True)
class Upload:
    id: str
    length: int | None
    expires: float
    metadata: str | None = None
    concat: str | None = None
    parts: list["Upload"] | None = None
    data: bytearray = field(default_factory=bytearray)
    owner: object = None
    deleted: bool = False
    patches: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def size(self) -> int | None:
        """The length, that of a final upload being the sum of its parts."""
        if self.parts is None:
            return self.length
        sizes = [one.size for one in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def content(self) -> bytes:
        if self.parts is None:
            return bytes(self.data)
        return b"".join(one.content for one in self.parts)

    @property
    def complete(self) -> bool:
        if self.parts is not None:
            return all(one.complete for one in self.parts)
        return self.length == len(self.data)


class Reader:
    """Buffered reads from one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = bytearray()

    def more(self) -> bool:
        with contextlib.suppress(OSError):
            data = self.connection.recv(65536)
            self.buffer += data
            return bool(data)
        return False

    def until(self, end: bytes) -> bytes:
        """Up to and with `end`; raises `Cut` when the client stops before it."""
        while (at := self.buffer.find(end)) < 0:
            if not self.more():
                raise Cut
        taken = bytes(self.buffer[: at + len(end)])
        del self.buffer[: at + len(end)]
        return taken

    def some(self, size: int) -> bytes:
        """Between 1 and `size` bytes."""
        if not self.buffer and not self.more():
            raise Cut
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken


class Body:
    """The content of one request, as it arrives."""

    def __init__(self, server: "MutantServer", request: Request, reader: Reader) -> None:
        self.server = server
        self.reader = reader
        self.trailers: list[tuple[str, str]] = []
        self.chunked = False
        self.length = 0
        self.both = False
        self._frame(request)
        self.done = not self.chunked and self.length == 0
        old = request.version == "HTTP/1.0" and not server.on("continue-to-http-1.0")
        self.expects = (request.get("Expect") or "").lower() == "100-continue" and not old

    def _frame(self, request: Request) -> None:
        codings = ",".join(request.all("Transfer-Encoding")).lower()
        lengths = request.all("Content-Length")
        if codings:
            known = codings == "chunked" or self.server.on("unknown-coding-ignored")
            if not known:
                raise Refused(501, close=True)
            self.chunked = not self.server.on("chunked-unknown")
            self.both = bool(lengths) and not self.server.on("both-lengths-kept-open")
            return
        if len(set(lengths)) > 1 and not self.server.on("two-lengths-taken"):
            raise Refused(400, close=True)
        if lengths and not lengths[0].isascii():
            raise Refused(400, close=True)
        if lengths and not re.fullmatch("[0-9]+", lengths[0]):
            if not self.server.on("invalid-length-taken"):
                raise Refused(400, close=True)
            lengths = ["5"]
        self.length = int(lengths[0]) if lengths else 0

    def pieces(self) -> Iterator[bytes]:
        if self.expects and not self.done and not self.server.on("never-100"):
            self.reader.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        yield from self._chunks() if self.chunked else self._counted()
        self.done = True
        if self.expects and self.server.on("no-final-after-100"):
            time.sleep(3)

    def _counted(self) -> Iterator[bytes]:
        if self.server.on("body-reads-beyond") and self.length == 5:
            time.sleep(0.02)
            yield self.reader.some(65536)
            return
        left = self.length
        while left:
            piece = self.reader.some(left)
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := self._size(self.reader.until(b"\r\n")):
            left = size
            while left:
                piece = self.reader.some(left)
                left -= len(piece)
                yield piece
            if self.reader.until(b"\r\n") != b"\r\n":
                raise Refused(400, close=True)
        while (line := self.reader.until(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower().startswith("x-tus") and self.server.on("unknown-trailer-refused"):
                raise Refused(400, close=True)
            self.trailers.append((name, value.strip()))

    def _size(self, line: bytes) -> int:
        text, _, extension = line.decode("latin-1").strip().partition(";")
        if extension and self.server.on("chunk-extension-refused"):
            raise Refused(400, close=True)
        if text != text.lower() and self.server.on("hex-lower-only"):
            raise Refused(400, close=True)
        if not re.fullmatch("[0-9A-Fa-f]+", text):
            raise Refused(400, close=True)
        size = int(text, 16)
        if self.server.on("chunk-size-32-bit"):
            return size & 0xFFFFFFFF
        if size >= 2**63:
            raise Refused(400, close=True)
        return size


Rewrite = Callable[[Request, Reply], None]


class MutantServer:
    """The server; `with` starts it and stops it.

    Args:
        fault: The sentence to break; empty for none.
        rewrite: Changes every answer before it is sent.
        extensions: What is announced.
        lifetime: Seconds until an unfinished upload expires.
        tls: To speak https.
    """

    def __init__(
        self,
        fault: str = "",
        *,
        rewrite: Rewrite | None = None,
        extensions: tuple[str, ...] = EXTENSIONS,
        lifetime: float = 3600,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.fault = fault
        self.rewrite = rewrite
        self.extensions = extensions
        self.lifetime = lifetime
        self.tls = tls
        self.uploads: dict[str, Upload] = {}
        self.store = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/base/files"

    def on(self, fault: str) -> bool:
        return self.fault == fault

    def __enter__(self) -> "MutantServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # -- connections --------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = Reader(connection)
        try:
            if self.tls:
                reader.connection = self.tls.wrap_socket(connection, server_side=True)
            while self._one(reader):
                pass
            self._linger(reader)
        except (Cut, OSError):
            if self.on("cut-head-is-fatal") and reader.buffer:
                self.uploads.clear()
        finally:
            self.connections.discard(connection)
            if self.on("never-closes-on-eof"):
                time.sleep(3)
            reader.connection.close()

    def _linger(self, reader: Reader) -> None:
        """Closes in stages, so that the answer is not lost to a reset."""
        reader.connection.shutdown(socket.SHUT_WR)
        reader.connection.settimeout(0.5)
        read = 0
        while read < 4 * 2**20 and reader.more():
            read += len(reader.buffer)
            reader.buffer.clear()

    def _one(self, reader: Reader) -> bool:
        """Answers one request; False when the connection is to end."""
        head = reader.until(b"\r\n\r\n")
        body = None
        request = Request("", "", "", "HTTP/1.1", [])
        try:
            request = self._parse(head)
            body = Body(self, request, reader)
            reply = self._answer(request, body)
        except Refused as refused:
            reply = refused.reply
            if self.on("refuses-by-hanging-up") and body is not None and body.length > 100_000:
                return False
        unread = body is not None and not body.done and not self.on("body-read-as-request")
        both = body is not None and body.both
        asked = (request.get("Connection") or "").lower() == "close"
        if self.on("close-ignored"):
            asked = False
        close = reply.close or unread or both or asked or request.version == "HTTP/1.0"
        close = close or (self.on("one-request-per-connection"))
        self._send(reader.connection, request, reply, close=close)
        if self.on("body-read-as-request") and reply.close:
            return True
        return not close

    def _parse(self, head: bytes) -> Request:
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        words = first.split(" ")
        if len(words) != 3:
            raise Refused(400, close=True)
        fields = [self._field(line) for line in lines]
        names = [name.lower() for name, _ in fields]
        hosts = names.count("host")
        lenient = (self.on("no-host-taken") and not hosts) or (
            self.on("two-hosts-taken") and hosts > 1
        )
        if hosts != 1 and not lenient:
            raise Refused(400, close=True)
        return self._request(words, fields)

    def _field(self, line: str) -> tuple[str, str]:
        name, _, value = line.partition(":")
        if name != name.strip() and not self.on("space-before-colon-taken"):
            raise Refused(400, close=True)
        value = (
            value[1:] if self.on("whitespace-kept") and value[:2] == " " + " " else value.strip()
        )
        return name.strip(), value

    def _request(self, words: list[str], fields: list[tuple[str, str]]) -> Request:
        actual, target, version = words
        if target.startswith(("http://", "https://")) and not self.on("absolute-form-unknown"):
            target = "/" + target.split("/", 3)[3]
        request = Request(actual, actual, target, version, fields)
        override = request.get("X-HTTP-Method-Override")
        ignored = self.on("override-ignored") or (self.on(f"override-of-{actual.lower()}-ignored"))
        if override and not ignored:
            request.method = override
        if self.on("names-case-sensitive") and any(
            name.lower().startswith("upload-") and name != name.title() for name, _ in fields
        ):
            raise Refused(400)
        return request

    def _send(
        self, connection: socket.socket, request: Request, reply: Reply, *, close: bool
    ) -> None:
        reply.fields.insert(0, ("Date", formatdate(usegmt=True)))
        if request.method != "OPTIONS" or reply.status >= 400:
            reply.fields.append(("Tus-Resumable", "1.0.0"))
        if reply.status == 412:
            reply.fields.append(("Tus-Version", "1.0.0,0.2.2"))
        self._cors(request, reply)
        if reply.status != 204:
            reply.fields.append(("Content-Length", str(len(reply.body))))
        if close:
            reply.fields.append(("Connection", "close"))
        if self.rewrite:
            self.rewrite(request, reply)
        reason = REASONS.get(reply.status, "Other")
        lines = [f"HTTP/1.1 {reply.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in reply.fields]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        bare = request.method == "HEAD" and not self.on("head-with-content")
        connection.sendall(head + (b"" if bare else reply.body))

    def _cors(self, request: Request, reply: Reply) -> None:
        origin = request.get("Origin")
        if origin is None:
            return
        reply.fields += [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if request.get("Access-Control-Request-Method"):
            methods = "POST, HEAD, PATCH, DELETE, OPTIONS, GET"
            reply.fields.append(("Access-Control-Allow-Methods", methods))
            reply.fields.append(("Access-Control-Allow-Headers", ALLOWED))
        else:
            reply.fields.append(("Access-Control-Expose-Headers", EXPOSED))

    # -- the protocol -------------------------------------------------------------------------

    def _answer(self, request: Request, body: Body) -> Reply:
        if request.method == "OPTIONS":
            return self._options(request)
        old = request.get("Tus-Resumable") not in ("1.0.0", None)
        if old and not self.on(f"old-{request.method.lower()}-processed"):
            if self.on("412-but-processed"):
                with contextlib.suppress(Refused):
                    self._dispatch(request, body)
            raise Refused(412)
        if self.on("unknown-header-refused") and request.get("X-Tus-Conformance"):
            raise Refused(400)
        return self._dispatch(request, body)

    def _dispatch(self, request: Request, body: Body) -> Reply:
        if request.method == "POST":
            return self._post(request, body)
        handlers = {
            "HEAD": self._head,
            "GET": self._get,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        handler = handlers.get(request.method)
        if handler is None:
            raise Refused(405)
        return handler(request, body)

    def _options(self, request: Request) -> Reply:
        announced = ",".join(self.extensions)
        fields = [("Tus-Version", "1.0.0,0.2.2"), ("Tus-Max-Size", str(MAX_SIZE))]
        if announced or self.on("extension-list-empty"):
            fields.append(("Tus-Extension", announced))
        if "checksum" in self.extensions:
            fields.append(("Tus-Checksum-Algorithm", ",".join(ALGORITHMS)))
        return Reply(204, fields)

    def _find(self, request: Request) -> Upload:
        upload = self.uploads.get(request.target.rpartition("/")[2])
        if upload is None or not request.target.startswith("/base/files/"):
            raise Refused(404)
        if upload.deleted:
            raise Refused(410)
        late = upload.expires < time.time() and not upload.complete
        if late and not self.on("expired-stays"):
            raise Refused(400 if self.on("expired-400") else 410)
        return upload

    def _post(self, request: Request, body: Body) -> Reply:
        if request.target.rstrip("/") != "/base/files":
            raise Refused(404)
        if self.on("post-needs-length") and not body.chunked and not request.get("Content-Length"):
            raise Refused(411)
        upload = self._new(request)
        if self.on("creations-race"):
            upload.id = f"{len(self.uploads)}"
            time.sleep(0.01)
        fields = [("Location", f"{self.url}/{upload.id}"), self._expires(upload)]
        if not body.done:
            fields.append(self._first_bytes(request, body, upload))
        with self.store:
            self.uploads[upload.id] = upload
        return Reply(201, fields)

    def _first_bytes(self, request: Request, body: Body, upload: Upload) -> tuple[str, str]:
        """Creation With Upload: the bytes that came with POST."""
        typed = request.get("Content-Type") == OFFSET_TYPE
        if not typed and not self.on("post-type-ignored"):
            raise Refused(415, close=True)
        room = MAX_SIZE if upload.length is None else upload.length
        if not body.chunked and body.length > room and not self.on("post-beyond-length"):
            raise Refused(413, close=True)
        if self.on("post-bytes-ignored"):
            for _ in body.pieces():
                pass
            return "Upload-Offset", "0"
        if self.on("post-chunked-refused") and body.chunked:
            raise Refused(411, close=True)
        for piece in body.pieces():
            upload.data += piece
        if self.on("post-half-stored"):
            del upload.data[len(upload.data) // 2 + 1 :]
        if self.on("post-bytes-reversed"):
            upload.data.reverse()
        if self.on("post-body-loses-metadata"):
            upload.metadata = None
        return "Upload-Offset", str(len(upload.data))

    def _new(self, request: Request) -> Upload:
        concat = request.get("Upload-Concat")
        upload = Upload(secrets.token_hex(8), None, time.time() + self.lifetime, concat=concat)
        upload.metadata = self._metadata(request.get("Upload-Metadata"))
        if concat is not None and concat != "partial":
            upload.parts = self._parts(concat)
            if self.on("length-of-final-taken") and request.get("Upload-Length"):
                upload.parts = None
                upload.length = int(request.get("Upload-Length") or 0)
        if concat == "partial" and self.on("partial-not-told"):
            upload.concat = None
        if upload.parts is None and not (self.on("length-of-final-taken") and upload.length):
            upload.length = self._length(request)
        if upload.parts is not None and self.on("metadata-of-parts"):
            upload.metadata = upload.metadata or upload.parts[0].metadata
        if upload.parts is not None and self.on("metadata-of-final-lost"):
            upload.metadata = None
        return upload

    def _length(self, request: Request) -> int | None:
        length, defer = request.get("Upload-Length"), request.get("Upload-Defer-Length")
        if length is None and defer is None:
            if self.on("no-length-taken"):
                return None
            raise Refused(400)
        if length is None:
            if defer != "1" and not self.on("any-defer-value"):
                raise Refused(422 if self.on("defer-value-422") else 400)
            if self.on("defer-refused"):
                raise Refused(400)
            return None
        return self._checked_length(length)

    def _checked_length(self, text: str) -> int:
        if self.on("negative-length-taken") and text.startswith("-"):
            text = "0"
        if self.on("any-length-taken") and not re.fullmatch("-?[0-9]+", text):
            text = "10"
        if not re.fullmatch("[0-9]{1,30}", text):
            raise Refused(400)
        if int(text) == 0 and self.on("empty-file-refused"):
            raise Refused(400)
        if int(text) > MAX_SIZE and not self.on("max-size-ignored"):
            raise Refused(413)
        if self.on("length-as-float"):
            return int(float(text))
        if self.on("length-32-bit"):
            return int(text) & 0xFFFFFFFF
        return int(text)

    def _metadata(self, text: str | None) -> str | None:
        if text is None:
            return None
        keys = []
        for part in text.split(","):
            key, _, value = part.strip(" ").partition(" ")
            keys.append(key)
            try:
                base64.b64decode(value, validate=True)
            except binascii.Error:
                if not self.on("metadata-unchecked"):
                    raise Refused(400) from None
        if len(keys) != len(set(keys)) and not self.on("metadata-keys-twice"):
            raise Refused(400)
        if self.on("metadata-needs-values"):
            return ",".join(part for part in text.split(",") if part.strip().count(" "))
        if self.on("metadata-first-pair"):
            return text.split(",")[0]
        return text.replace("=", "") if self.on("metadata-padding-lost") else text

    def _parts(self, concat: str) -> list[Upload]:
        kind, _, listed = concat.partition(";")
        urls = listed.split()
        if kind != "final" or not urls:
            lenient = (self.on("any-concat-value") and kind not in ("final", "partial")) or (
                self.on("no-parts-taken") and kind == "final"
            )
            if lenient:
                return []
            raise Refused(400)
        if self.on("absolute-parts-refused") and urls[0].startswith("http"):
            raise Refused(400)
        if self.on("relative-parts-refused") and urls[0].startswith("/"):
            raise Refused(400)
        parts = [self.uploads.get(url.rpartition("/")[2]) for url in urls]
        found = [one for one in parts if one is not None and not one.deleted]
        if len(found) != len(urls) and not self.on("missing-part-taken"):
            raise Refused(400)
        self._check_parts(found)
        return sorted(found, key=lambda one: one.expires) if self.on("parts-sorted") else found

    def _check_parts(self, parts: list[Upload]) -> None:
        if len({one.id for one in parts}) < len(parts) and self.on("part-only-once"):
            raise Refused(400)
        if any(one.patches > 99 for one in parts) and self.on("part-in-one-final"):
            raise Refused(400)
        if self.on("part-in-one-final"):
            for one in parts:
                one.patches = 100
        if self.on("unfinished-refused") and not all(one.complete for one in parts):
            raise Refused(400)

    def _expires(self, upload: Upload) -> tuple[str, str]:
        return "Upload-Expires", formatdate(upload.expires, usegmt=True)

    def _head(self, request: Request, body: Body) -> Reply:
        upload = self._find(request)
        while self.on("head-waits-for-patch") and upload.owner is not None:
            time.sleep(0.01)
        fields = [("Cache-Control", "no-store"), self._expires(upload)]
        if upload.parts is None or upload.complete or self.on("final-offset-early"):
            fields.append(("Upload-Offset", str(self._offset(upload))))
        size = upload.size
        if size is None:
            fields.append(("Upload-Defer-Length", "1"))
        elif not (self.on("final-length-late") and not upload.complete and upload.parts):
            fields.append(("Upload-Length", str(size)))
        for name, value in (("Metadata", upload.metadata), ("Concat", upload.concat)):
            if value is not None:
                fields.append((f"Upload-{name}", value))
        if upload.metadata and self.on("metadata-smuggles"):
            fields += self._smuggled(upload.metadata)
        text = b"content" if self.on("head-with-content") else b""
        return Reply(200, fields, text)

    def _smuggled(self, metadata: str) -> list[tuple[str, str]]:
        """The decoded file name, as it is, in a header field."""
        value = metadata.split(",")[0].partition(" ")[2]
        name = base64.b64decode(value + "==").decode("latin-1")
        return [("Content-Disposition", f'attachment; filename="{name}"')]

    def _offset(self, upload: Upload) -> int:
        if self.on("final-offset-short") and upload.parts is not None:
            return len(upload.content) - 1
        if self.on("offset-as-announced") and upload.owner is not None:
            return upload.length or 0
        return len(upload.content)

    def _get(self, request: Request, body: Body) -> Reply:
        if self.on("get-after-delete"):
            upload = self.uploads.get(request.target.rpartition("/")[2])
            if upload is None:
                raise Refused(404)
        else:
            upload = self._find(request)
        return Reply(200, [("Content-Type", "application/octet-stream")], upload.content)

    def _delete(self, request: Request, body: Body) -> Reply:
        upload = self._find(request)
        if self.on("delete-locked") and upload.owner is not None:
            raise Refused(423)
        if self.on("delete-keeps"):
            return Reply(204)
        if self.on("delete-keeps-finished") and upload.complete:
            raise Refused(403)
        if self.on("delete-removes-all"):
            for one in self.uploads.values():
                one.deleted = True
        if self.on("put-is-delete-ignored") and request.actual == "PATCH":
            raise Refused(405)
        upload.deleted = True
        return Reply(204)

    # -- PATCH --------------------------------------------------------------------------------

    def _patch(self, request: Request, body: Body) -> Reply:
        try:
            upload = self._find(request)
            offset = self._checked_patch(request, body, upload)
        except Refused as refused:
            if self.on("refusal-waits-for-body"):
                body.expects = False
                for _ in body.pieces():
                    pass
            refused.reply.fields += self._expires_of(request)
            raise
        reply = self._append(request, body, upload, offset)
        if body.trailers and self.on("trailers-are-headers"):
            self._merge(request, body, upload)
        return reply

    def _merge(self, request: Request, body: Body, upload: Upload) -> None:
        for name, value in body.trailers:
            if name == "Upload-Length":
                upload.length = int(value)

    def _expires_of(self, request: Request) -> list[tuple[str, str]]:
        upload = self.uploads.get(request.target.rpartition("/")[2])
        return [] if upload is None else [self._expires(upload)]

    def _checked_patch(self, request: Request, body: Body, upload: Upload) -> int:
        """All that can be refused before the body is read; gives the offset."""
        if upload.parts is not None:
            if self.on("patch-of-final-modifies"):
                upload.parts[0].data += b"XXX"
            raise Refused(400 if self.on("patch-of-final-400") else 403)
        self._check_type(request)
        offset = self._patch_offset(request, body)
        if offset != len(upload.data):
            self._mismatch(request, body, upload, offset)
        self._set_length(request, upload, offset)
        self._check_checksum(request)
        room = MAX_SIZE if upload.length is None else upload.length - offset
        beyond = self.on("patch-beyond-length") or (self.on("length-below-offset") and room < 0)
        if not body.chunked and body.length > room and not beyond:
            raise Refused(413)
        if self.on("few-patches") and upload.patches >= 6:
            raise Refused(429)
        return len(upload.data) if self.on("mismatch-appends") else offset

    def _check_type(self, request: Request) -> None:
        kind = request.get("Content-Type")
        if kind is None and self.on("no-type-taken"):
            return
        if kind == "application/octet-stream" and self.on("wrong-type-taken"):
            return
        exact = self.on("type-case-sensitive")
        if (kind or "") != OFFSET_TYPE if exact else (kind or "").lower() != OFFSET_TYPE:
            raise Refused(415)

    def _patch_offset(self, request: Request, body: Body) -> int:
        text = request.get("Upload-Offset")
        if text is None and self.on("trailers-are-headers") and body.chunked:
            return 5
        if text is None and self.on("no-offset-is-zero"):
            return 0
        if self.on("negative-offset-taken"):
            text = (text or "").removeprefix("-")
        if self.on("any-offset-taken") and text is not None and not text.startswith("-"):
            text = (re.match("[0-9]*", text) or [""])[0] or "0"
        if not re.fullmatch("[0-9]{1,30}", text or ""):
            raise Refused(400)
        offset = int(text or "")
        for bits in (31, 32, 64):
            if self.on(f"offset-{bits}-bit"):
                offset &= 2**bits - 1
        for bits in (31, 32, 53, 63):
            if self.on(f"offset-{bits}-too-large") and abs(offset - 2**bits) <= 1:
                raise Refused(400)
        return offset

    def _mismatch(self, request: Request, body: Body, upload: Upload, offset: int) -> None:
        if self.on("mismatch-appends"):
            return
        if self.on("high-offset-padded") and offset > len(upload.data) and offset < 100:
            upload.data += bytes(offset - len(upload.data))
            return
        if self.on("repeat-acknowledged") and offset + body.length == len(upload.data):
            for _ in body.pieces():
                pass
            reply = Refused(204)
            reply.reply.fields.append(("Upload-Offset", str(len(upload.data))))
            raise reply
        if self.on("mismatch-stores"):
            upload.data += b"".join(body.pieces())
        if self.on("low-offset-truncates") and offset < len(upload.data):
            del upload.data[offset:]
        low = offset < len(upload.data)
        odd = self.on("low-offset-400") if low else self.on("high-offset-400")
        raise Refused(400 if odd else 409)

    def _set_length(self, request: Request, upload: Upload, offset: int) -> None:
        text = request.get("Upload-Length")
        if text is None or self.on("deferred-length-ignored"):
            return
        if self.on("deferred-length-unchecked") and not re.fullmatch("[0-9]+", text):
            return
        length = self._checked_length(text)
        if upload.length is not None and not self.on("length-changes"):
            if upload.length != length:
                raise Refused(400)
            return
        if length < offset and not self.on("length-below-offset"):
            raise Refused(400)
        upload.length = length

    def _check_checksum(self, request: Request) -> None:
        text = request.get("Upload-Checksum")
        if text is None or self.on("checksum-ignored"):
            return
        name, _, value = text.partition(" ")
        if name not in ALGORITHMS:
            if self.on("unknown-algorithm-taken") and name == "nosuchsum":
                return
            if not (self.on("malformed-checksum-taken") and name != "nosuchsum"):
                raise Refused(422 if self.on("unknown-algorithm-422") else 400)
            return
        if self.on("malformed-checksum-taken"):
            return
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Refused(400) from None
        if not value:
            raise Refused(400)

    def _append(self, request: Request, body: Body, upload: Upload, offset: int) -> Reply:
        token = object()
        while upload.owner is not None and self.on("hung-patch-blocks"):
            time.sleep(0.01)
        upload.owner = token
        if self.on("patches-meet"):
            time.sleep(0.05)
        try:
            self._receive(request, body, upload, token, offset)
        except Cut:
            self._after_cut(upload, offset)
            raise
        finally:
            if upload.owner is token:
                upload.owner = None
        if self.on("half-close-drops-all") and self._half_closed(body):
            del upload.data[offset:]
        upload.patches += 1
        upload.expires = time.time() + self.lifetime
        size = len(upload.data)
        told = size - offset if self.on("patch-tells-its-size") else size
        return Reply(204, [("Upload-Offset", str(told)), self._expires(upload)])

    def _half_closed(self, body: Body) -> bool:
        """True when the client has sent its last byte already."""
        connection = body.reader.connection
        connection.settimeout(0.02)
        try:
            return not connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        finally:
            connection.settimeout(None)

    def _after_cut(self, upload: Upload, offset: int) -> None:
        if self.on("cut-drops-tail"):
            del upload.data[offset:]
        if self.on("cut-loses-last-byte") and len(upload.data) > offset:
            del upload.data[-1:]
        if self.on("cut-counts-announced") and upload.length:
            upload.data += bytes(upload.length - len(upload.data))

    def _receive(
        self, request: Request, body: Body, upload: Upload, token: object, offset: int
    ) -> None:
        late = "upload-checksum" in (request.get("Trailer") or "").lower()
        checksum = None if self.on("checksum-ignored") else request.get("Upload-Checksum")
        buffered = late or checksum is not None or self.on("stores-at-the-end")
        if body.chunked and self.on("chunked-stored-at-the-end"):
            buffered = True
        chunk = bytearray()
        at = offset
        for piece in body.pieces():
            if self.on("slow-body-refused") and body.length == 16 and len(piece) == 1:
                raise Refused(408, close=True)
            if buffered:
                chunk += piece
            else:
                self._store(upload, token, piece, at)
                at += len(piece)
        if self.on("empty-patch-moves") and len(upload.data) == offset and not chunk:
            chunk += b"x"
        if late:
            checksum = self._trailer(body)
        if checksum and not self._matches(checksum, chunk, upload):
            if self.on("mismatch-stored"):
                self._store(upload, token, bytes(chunk), at)
            if self.on("mismatch-drops-all"):
                upload.data.clear()
            raise Refused(400 if self.on("mismatch-400") else 460)
        self._store(upload, token, bytes(chunk), at)

    def _trailer(self, body: Body) -> str | None:
        if self.on("trailer-ignored"):
            return None
        for name, value in body.trailers:
            same = name == "Upload-Checksum"
            if same or (name.lower() == "upload-checksum" and not self.on("trailer-case")):
                return value
        return None

    def _matches(self, checksum: str, chunk: bytearray, upload: Upload) -> bool:
        name, _, value = checksum.partition(" ")
        if name not in ALGORITHMS:
            taken = self.on("unknown-algorithm-taken") or self.on("malformed-checksum-taken")
            return taken or self.on("trailer-unknown-taken")
        if self.on("malformed-checksum-taken") and value in ("", "!!!", "YQ=="):
            return True
        data = bytes(upload.data) + bytes(chunk) if self.on("checksum-of-everything") else chunk
        if self.on("checksum-of-first-64k"):
            data = data[:65536]
        if self.on("checksum-not-chunked") and upload.length == 20:
            return True
        if name == "crc32" and self.on("crc32-little-endian"):
            return base64.b64decode(value) == zlib.crc32(data).to_bytes(4, "little")
        if name == "sha1" and self.on("sha1-fails"):
            return False
        digest = (
            zlib.crc32(data).to_bytes(4, "big")
            if name == "crc32"
            else hashlib.new(name, data, usedforsecurity=False).digest()
        )
        return base64.b64decode(value) == digest

    def _store(self, upload: Upload, token: object, piece: bytes, offset: int) -> None:
        if self.on("bytes-changed"):
            piece = piece.replace(b"\r", b"\n")
        with upload.lock:
            if upload.deleted and self.on("delete-comes-back"):
                upload.deleted = False
            if upload.deleted:
                raise Refused(410, close=True)
            if self.on("patches-meet"):
                upload.data[offset : offset + len(piece)] = piece
                return
            if upload.owner is not token:
                raise Refused(409, close=True)
            room = MAX_SIZE if upload.length is None else upload.length - len(upload.data)
            if self.on("patch-beyond-length") or self.on("chunked-beyond-length"):
                room = MAX_SIZE
            upload.data += piece[:room]
            if self.on("bytes-in-every-upload"):
                for other in list(self.uploads.values()):
                    other.data = upload.data if not other.data else other.data
        if piece and len(piece) > room:
            raise Refused(413, close=True)
