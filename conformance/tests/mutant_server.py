"""A small tus server that keeps every sentence, and breaks one when it is told to.

Threads, blocking sockets, everything in memory, loopback only. It is written to be read beside
the cases: what a case demands stands here once, and next to it a call of `self.on`, the fault that
takes it away. Faults that only change an answer's head are rewrites; they stand in `rewrites.py`.

Here are the connections, OPTIONS, HEAD, GET and DELETE; `mutant_post` and `mutant_patch` have the
two methods that write, `mutant_store` the uploads, `mutant_messages` what is sent and received.
"""

import base64
import contextlib
import socket
import ssl
import threading
import time
from email.utils import formatdate

from mutant_messages import Body, Cut, Reader, Refused, Reply, Request, Rewrite
from mutant_patch import Patching
from mutant_post import Creating
from mutant_store import ALGORITHMS, EXTENSIONS, MAX_SIZE, Upload

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


class MutantServer(Creating, Patching):
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
        super().__init__(fault, lifetime)
        self.rewrite = rewrite
        self.extensions = extensions
        self.tls = tls
        self.connections: set[socket.socket] = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/base/files"

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
            body = Body(self.on, request, reader)
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

    def _head(self, request: Request, body: Body) -> Reply:
        upload = self._find(request)
        if upload.metadata is None and self.on("head-needs-metadata"):
            raise Refused(400)
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
