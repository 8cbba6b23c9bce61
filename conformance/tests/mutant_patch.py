"""PATCH at the mutant server: offsets, bytes, checksums."""

import base64
import binascii
import hashlib
import re
import socket
import time
import zlib

from mutant_messages import Body, Cut, Refused, Reply, Request
from mutant_store import ALGORITHMS, MAX_SIZE, OFFSET_TYPE, Store, Upload


class Patching(Store):
    """The part of the server that takes bytes."""

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
