"""POST at the mutant server: creation, with bytes or without, and concatenation."""

import base64
import binascii
import secrets
import time

from mutant_messages import Body, Refused, Reply, Request
from mutant_store import MAX_SIZE, OFFSET_TYPE, Store, Upload


class Creating(Store):
    """The part of the server that makes uploads; `url` is that of their creation."""

    url: str

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
        if self.on("metadata-as-text"):
            return ",".join(self._as_text(part) for part in text.split(","))
        return text.replace("=", "") if self.on("metadata-padding-lost") else text

    def _as_text(self, part: str) -> str:
        """The pair after a decoding as UTF-8 that replaces what is none."""
        key, _, value = part.partition(" ")
        decoded = base64.b64decode(value).decode("utf-8", "replace")
        return f"{key} {base64.b64encode(decoded.encode()).decode()}" if value else part

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
