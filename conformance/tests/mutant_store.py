"""The uploads of the mutant server, and what POST, PATCH and HEAD do with them alike."""

import re
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate

from mutant_messages import Refused, Request

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


class Store:
    """All uploads, in memory, and the one sentence that is broken.

    Args:
        fault: That sentence; empty for none.
        lifetime: Seconds until an unfinished upload expires.
    """

    def __init__(self, fault: str, lifetime: float) -> None:
        self.fault = fault
        self.lifetime = lifetime
        self.uploads: dict[str, Upload] = {}
        self.store = threading.Lock()

    def on(self, fault: str) -> bool:
        return self.fault == fault

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

    def _expires(self, upload: Upload) -> tuple[str, str]:
        return "Upload-Expires", formatdate(upload.expires, usegmt=True)

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
