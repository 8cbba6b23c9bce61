"""What can go wrong, as one tree; each class is a stable code, an HTTP status and a section.

    TusError
      UnsupportedVersion              412  ERR_UNSUPPORTED_VERSION
      InvalidContentType              415  ERR_INVALID_CONTENT_TYPE
      InvalidHeader                   400  ERR_INVALID_HEADER
        InvalidUploadOffset                ERR_INVALID_OFFSET
        InvalidUploadLength                ERR_INVALID_UPLOAD_LENGTH
        InvalidUploadDeferLength           ERR_INVALID_UPLOAD_LENGTH_DEFER
        InvalidUploadMetadata              ERR_INVALID_METADATA
          MetadataTooLong                  ERR_INVALID_METADATA
        InvalidUploadChecksum              ERR_INVALID_CHECKSUM
        InvalidUploadConcat                ERR_INVALID_CONCAT
      InvalidQuestion                 400  ERR_INVALID_REQUEST
      UnsupportedAlgorithm            400  ERR_UNSUPPORTED_CHECKSUM_ALGORITHM
      InvalidPart                     400  ERR_INVALID_CONCAT
      MethodNotAllowed                405  ERR_METHOD_NOT_ALLOWED
      NotAuthenticated                401  ERR_NOT_AUTHENTICATED
      NotAllowed                      403  ERR_NOT_ALLOWED
      UploadNotFound                  404  ERR_UPLOAD_NOT_FOUND
      UploadGone                      410  ERR_UPLOAD_GONE
      UploadNotFinished               400  ERR_UPLOAD_NOT_FINISHED
      OffsetMismatch                  409  ERR_MISMATCHED_OFFSET
      UploadTooLarge                  413  ERR_MAX_SIZE_EXCEEDED
      LengthExceeded                  413  ERR_UPLOAD_SIZE_EXCEEDED
      FinalNotModifiable              403  ERR_MODIFY_FINAL
      ChecksumMismatch                460  ERR_CHECKSUM_MISMATCH
      UploadLocked                    423  ERR_UPLOAD_LOCKED
        UploadInterrupted                  ERR_UPLOAD_INTERRUPTED
        UploadPaused                       ERR_UPLOAD_PAUSED
        StaleGeneration                    ERR_UPLOAD_LOCKED
      Rejected                        any  ERR_UPLOAD_REJECTED
        UploadStopped                 any  ERR_UPLOAD_STOPPED
        TerminationRejected           any  ERR_UPLOAD_TERMINATION_REJECTED
      UploadExists                    409  ERR_UPLOAD_EXISTS
      TooManyRequests                 429  ERR_TOO_MANY_REQUESTS
      TooManyUploads                  429  ERR_TOO_MANY_UPLOADS
        TooManyUploadsInAll           503  ERR_TOO_MANY_UPLOADS
      NotReceiving                    409  ERR_UPLOAD_NOT_RECEIVING
      ReadTimeout                     503  ERR_READ_TIMEOUT
        ReadTooSlow                        ERR_READ_TIMEOUT
      ServerShutdown                  503  ERR_SERVER_SHUTDOWN
      StorageFull                     507  ERR_STORAGE_FULL
        FloorReached                       ERR_STORAGE_FULL
      StorageFailed                   500  ERR_STORAGE
        StorageBusy                   503  ERR_STORAGE_BUSY
      StoredBytesLost                 410  ERR_STORED_BYTES_LOST

The codes are tusd's where tusd has one, so that tooling made for it keeps working. The statuses
are those of the specification.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

Header = tuple[str, str]
"""A response header, name and value, as it goes over the wire."""


class TusError(Exception):
    """A request that cannot be served as asked; `str()` is the sentence a client may read.

    Attributes:
        code: Stable over releases, for programs.
        status: The HTTP status.
        section: Where the specification says so; empty where it is silent.
        limit: The name of the limit that refused it, for metrics; empty for none.
    """

    code: ClassVar[str]
    status: int
    section: ClassVar[str] = ""
    limit: ClassVar[str] = ""

    @property
    def headers(self) -> tuple[Header, ...]:
        """Response headers that belong to this error."""
        return ()


class UnsupportedVersion(TusError):
    """`Tus-Resumable` is missing, or names a version that is not spoken here."""

    code, status, section = "ERR_UNSUPPORTED_VERSION", 412, "Core Protocol, Tus-Resumable"

    def __init__(self, version: str | None, supported: str) -> None:
        self.version = version
        self.supported = supported

    def __str__(self) -> str:
        said = f"got {self.version[:40]!r}" if self.version is not None else "the header is missing"
        return f"send the header 'Tus-Resumable: {self.supported}' ({said})"

    @property
    def headers(self) -> tuple[Header, ...]:
        """The versions that are spoken: "MUST include the Tus-Version header"."""
        return (("Tus-Version", self.supported),)


class InvalidContentType(TusError):
    """The body of a `PATCH`, or of a `POST` that has one, is not labelled as upload data."""

    code, status, section = "ERR_INVALID_CONTENT_TYPE", 415, "Core Protocol, PATCH"

    def __init__(self, content_type: str | None) -> None:
        self.content_type = content_type

    def __str__(self) -> str:
        said = f"got {self.content_type[:80]!r}" if self.content_type else "the header is missing"
        return f"send 'Content-Type: application/offset+octet-stream' ({said})"


class InvalidHeader(TusError):
    """A header that cannot be read."""

    code, status, section = "ERR_INVALID_HEADER", 400, ""

    def __init__(self, header: str, problem: str, value: str | None = None) -> None:
        self.header = header
        self.problem = problem
        self.value = value

    def __str__(self) -> str:
        said = "" if self.value is None else f" (got {self.value[:80]!r})"
        return f"{self.header} {self.problem}{said}"


class InvalidUploadOffset(InvalidHeader):
    """`Upload-Offset` is missing or not a non-negative integer."""

    code, section = "ERR_INVALID_OFFSET", "Core Protocol, Upload-Offset"


class InvalidUploadLength(InvalidHeader):
    """`Upload-Length` is missing, not a non-negative integer, or contradicts what is known."""

    code, section = "ERR_INVALID_UPLOAD_LENGTH", "Core Protocol, Upload-Length"


class InvalidUploadDeferLength(InvalidHeader):
    """`Upload-Defer-Length` is not `1`, or stands beside a length."""

    code, section = "ERR_INVALID_UPLOAD_LENGTH_DEFER", "Creation, Upload-Defer-Length"


class InvalidUploadMetadata(InvalidHeader):
    """`Upload-Metadata` breaks its grammar."""

    code, section = "ERR_INVALID_METADATA", "Creation, Upload-Metadata"


class MetadataTooLong(InvalidUploadMetadata):
    """`Upload-Metadata` is longer than allowed."""

    limit = "metadata-size"

    def __init__(self, most: int) -> None:
        super().__init__("Upload-Metadata", f"is longer than {most} characters")


class InvalidUploadChecksum(InvalidHeader):
    """`Upload-Checksum` is not an algorithm, a space and a Base64 digest."""

    code, section = "ERR_INVALID_CHECKSUM", "Checksum, Upload-Checksum"


class InvalidUploadConcat(InvalidHeader):
    """`Upload-Concat` is neither `partial` nor `final;` and a list of URLs."""

    code, section = "ERR_INVALID_CONCAT", "Concatenation, Upload-Concat"


class InvalidQuestion(TusError):
    """A request beside tus, for a page or a program, that cannot be read."""

    code, status = "ERR_INVALID_REQUEST", 400

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class UnsupportedAlgorithm(TusError):
    """`Upload-Checksum` names an algorithm that is not offered."""

    code, status, section = "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM", 400, "Checksum"

    def __init__(self, algorithm: str, supported: str) -> None:
        self.algorithm = algorithm
        self.supported = supported

    def __str__(self) -> str:
        return f"the checksum algorithm {self.algorithm[:40]!r} is not one of {self.supported}"


class InvalidPart(TusError):
    """A final upload names something that cannot be a part of it."""

    code, status, section = "ERR_INVALID_CONCAT", 400, "Concatenation"

    def __init__(self, part: str, problem: str) -> None:
        self.part = part
        self.problem = problem

    def __str__(self) -> str:
        return f"the part {self.part[:200]!r} {self.problem}"


class MethodNotAllowed(TusError):
    """The method means nothing at this URL."""

    code, status, section = "ERR_METHOD_NOT_ALLOWED", 405, ""

    def __init__(self, method: str, allowed: str) -> None:
        self.method = method
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.method[:40]!r} is not possible here; use one of {self.allowed}"

    @property
    def headers(self) -> tuple[Header, ...]:
        """What is possible (RFC 9110, 15.5.6)."""
        return (("Allow", self.allowed),)


class NotAuthenticated(TusError):
    """Nobody knows who asks: there are no credentials, or they are not good, or not any more."""

    code, status, section = "ERR_NOT_AUTHENTICATED", 401, ""

    def __init__(self, why: str, challenge: str = "Bearer") -> None:
        self.why = why
        self.challenge = challenge

    def __str__(self) -> str:
        return self.why

    @property
    def headers(self) -> tuple[Header, ...]:
        """What credentials there are (RFC 9110, 11.6.1: a 401 "MUST send" it)."""
        return (("WWW-Authenticate", self.challenge),)


class NotAllowed(TusError):
    """It is known who asks, and this is not allowed to it."""

    code, status, section = "ERR_NOT_ALLOWED", 403, ""

    def __init__(self, why: str) -> None:
        self.why = why

    def __str__(self) -> str:
        return self.why


class UploadNotFound(TusError):
    """No upload has this id, or its file is not here any more."""

    code, status, section = "ERR_UPLOAD_NOT_FOUND", 404, "Core Protocol, HEAD"

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id

    def __str__(self) -> str:
        return f"there is no upload {self.upload_id[:140]!r} here; create one with POST"


class UploadGone(TusError):
    """The upload was here, and was terminated or has expired."""

    code, status, section = "ERR_UPLOAD_GONE", 410, "Expiration, Upload-Expires"

    def __init__(self, upload_id: str, how: str) -> None:
        self.upload_id = upload_id
        self.how = how

    def __str__(self) -> str:
        return f"the upload {self.upload_id!r} {self.how}; create a new one with POST"


class UploadNotFinished(TusError):
    """Only a finished upload can be downloaded or taken."""

    code, status, section = "ERR_UPLOAD_NOT_FINISHED", 400, ""

    def __init__(self, upload_id: str, upload_offset: int, upload_length: int | None) -> None:
        self.upload_id = upload_id
        self.upload_offset = upload_offset
        self.upload_length = upload_length

    def __str__(self) -> str:
        of = "an unknown number of" if self.upload_length is None else self.upload_length
        return f"{self.upload_offset} of {of} bytes are here; finish the upload first"


class OffsetMismatch(TusError):
    """`Upload-Offset` is not where the upload stands."""

    code, status, section = "ERR_MISMATCHED_OFFSET", 409, "Core Protocol, PATCH"

    def __init__(self, sent: int, expected: int | None) -> None:
        self.sent = sent
        self.expected = expected

    def __str__(self) -> str:
        return f"Upload-Offset is {self.sent}, but the upload stands elsewhere; ask with HEAD"


class UploadTooLarge(TusError):
    """The upload is larger than this server takes."""

    code, status, section = "ERR_MAX_SIZE_EXCEEDED", 413, "Creation, POST"
    limit = "size"

    def __init__(self, size: int, max_size: int) -> None:
        self.size = size
        self.max_size = max_size

    def __str__(self) -> str:
        return f"{self.size} bytes are more than the {self.max_size} that this server takes"


class LengthExceeded(TusError):
    """The body reaches beyond the upload's length; none of it was kept."""

    code, status, section = "ERR_UPLOAD_SIZE_EXCEEDED", 413, "Core Protocol, Upload-Length"

    def __init__(self, upload_length: int) -> None:
        self.upload_length = upload_length

    def __str__(self) -> str:
        return f"the body reaches beyond the upload's {self.upload_length} bytes; nothing was kept"


class FinalNotModifiable(TusError):
    """A final upload is made of its parts and takes no bytes of its own."""

    code, status, section = "ERR_MODIFY_FINAL", 403, "Concatenation"

    def __str__(self) -> str:
        return "a final upload takes no bytes; send them to its partial uploads"


class ChecksumMismatch(TusError):
    """The body is not what its checksum says; it was discarded."""

    code, status, section = "ERR_CHECKSUM_MISMATCH", 460, "Checksum"

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm

    def __str__(self) -> str:
        return f"the {self.algorithm} of the body differs; it was discarded, send it again"


class UploadLocked(TusError):
    """Another request, or another process, is at work on this upload."""

    code, status, section = "ERR_UPLOAD_LOCKED", 423, ""

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id

    def __str__(self) -> str:
        return f"the upload {self.upload_id!r} is busy; try again in a moment"

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back, in seconds."""
        return (("Retry-After", "1"),)


class UploadInterrupted(UploadLocked):
    """This request was stopped in favour of a newer one; what came before that is kept."""

    code = "ERR_UPLOAD_INTERRUPTED"

    def __str__(self) -> str:
        return "a newer request for this upload took over; ask with HEAD where it stands"


class UploadPaused(UploadLocked):
    """Somebody wants no more bytes of this upload for now; 423, so that clients try again."""

    code = "ERR_UPLOAD_PAUSED"

    def __str__(self) -> str:
        return f"the upload {self.upload_id!r} is paused; what came is kept, try again later"

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to look again, in seconds."""
        return (("Retry-After", "5"),)


class StaleGeneration(UploadLocked):
    """The record was changed by someone else since it was read: nothing was written."""


class Rejected(TusError):
    """The application said no."""

    code, section = "ERR_UPLOAD_REJECTED", ""
    says = "the server's application does not take this upload"

    def __init__(self, status: int, body: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.extra = dict(headers or {})

    def __str__(self) -> str:
        return self.body or self.says

    @property
    def headers(self) -> tuple[Header, ...]:
        """What the application adds."""
        return tuple(self.extra.items())


class UploadStopped(Rejected):
    """The application wants no more bytes of an upload, which is terminated."""

    code = "ERR_UPLOAD_STOPPED"
    says = "the server's application has stopped this upload"


class TerminationRejected(Rejected):
    """The application keeps an upload."""

    code = "ERR_UPLOAD_TERMINATION_REJECTED"
    says = "the server's application keeps this upload"


class UploadExists(TusError):
    """The application chose an id that is taken."""

    code, status, section = "ERR_UPLOAD_EXISTS", 409, ""

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id

    def __str__(self) -> str:
        return f"there is an upload {self.upload_id!r} already"


class TooManyRequests(TusError):
    """A client asks too often."""

    code, status, section = "ERR_TOO_MANY_REQUESTS", 429, ""
    limit = "requests"

    def __init__(self, per_second: float, seconds: float) -> None:
        self.per_second = per_second
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"you send more than {self.per_second:g} requests per second; "
            "wait a moment, and go on where HEAD says"
        )

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back, in seconds."""
        return (("Retry-After", str(math.ceil(self.seconds))),)


class TooManyUploads(TusError):
    """A client has as many unfinished uploads as it may have."""

    code, status, section = "ERR_TOO_MANY_UPLOADS", 429, ""
    limit = "open-uploads-per-client"

    def __init__(self, most: int) -> None:
        self.most = most

    def __str__(self) -> str:
        return (
            f"you have {self.most} unfinished uploads, which is the most there may be for one "
            "client; finish or terminate one, and try again"
        )

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back, in seconds."""
        return (("Retry-After", "60"),)


class TooManyUploadsInAll(TooManyUploads):
    """All clients together have. 503 and not 429: it is not for this client to mend."""

    status = 503
    limit = "open-uploads"

    def __str__(self) -> str:
        return (
            f"the server has {self.most} unfinished uploads, and takes no more until one of them "
            "is finished or expires; try again later"
        )


class NotReceiving(TusError):
    """An upload that takes no bytes, or none any more, cannot be paused, go on or be limited."""

    code, status, section = "ERR_UPLOAD_NOT_RECEIVING", 409, ""

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id

    def __str__(self) -> str:
        return f"the upload {self.upload_id!r} takes no bytes any more"


class ReadTimeout(TusError):
    """No byte came for too long. 503 and not 408: tus-js-client gives up on a 4xx."""

    code, status, section = "ERR_READ_TIMEOUT", 503, "Core Protocol, PATCH"
    limit = "network-timeout"

    def __str__(self) -> str:
        return "no data came for too long; what came is kept, ask with HEAD where it stands"

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back; a timeout "SHOULD be handled by closing" the connection."""
        return (("Retry-After", "1"), ("Connection", "close"))


class ReadTooSlow(ReadTimeout):
    """Too few bytes came, for too long."""

    limit = "slowest-speed"

    def __str__(self) -> str:
        return "the data came too slowly; what came is kept, ask with HEAD where it stands"


class ServerShutdown(TusError):
    """The server is about to end; what came is kept."""

    code, status, section = "ERR_SERVER_SHUTDOWN", 503, ""

    def __str__(self) -> str:
        return "the server is shutting down; what came is kept, go on when it is back"

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back, in seconds, on a new connection."""
        return (("Retry-After", "5"), ("Connection", "close"))


class StorageFull(TusError):
    """The disk, or a quota on it, is full; what was stored before is kept."""

    code, status, section = "ERR_STORAGE_FULL", 507, ""

    def __str__(self) -> str:
        return "the server has no room left; what came before is kept, try again later"

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back, in seconds."""
        return (("Retry-After", "60"),)


class FloorReached(StorageFull):
    """The disk has room, but not so much that what is to be kept free stays free."""

    limit = "free-disk"

    def __init__(self, min_free_disk: int) -> None:
        self.min_free_disk = min_free_disk

    def __str__(self) -> str:
        return (
            f"the server keeps {self.min_free_disk} bytes of its disk free, and there is no room "
            "for this beside them; what came before is kept, try again later"
        )


class StorageFailed(TusError):
    """The storage reported an error; the upload stands where HEAD says."""

    code, status, section = "ERR_STORAGE", 500, ""

    def __str__(self) -> str:
        return "the server could not store the data; ask with HEAD where the upload stands"


class StorageBusy(StorageFailed):
    """The server has as many files open as it may, or a bucket's store asks for less; it passes."""

    code, status = "ERR_STORAGE_BUSY", 503

    def __str__(self) -> str:
        return "the server cannot store more just now; what came is kept, try again in a moment"

    @property
    def headers(self) -> tuple[Header, ...]:
        """When to come back, in seconds."""
        return (("Retry-After", "5"),)


class StoredBytesLost(TusError):
    """Stored bytes are not there any more: someone else removed or cut the file."""

    code, status, section = "ERR_STORED_BYTES_LOST", 410, "Core Protocol, HEAD"

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id

    def __str__(self) -> str:
        return f"bytes of the upload {self.upload_id!r} were lost on the server; start a new one"
