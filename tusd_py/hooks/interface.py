"""What an application may take part in: async functions with typed arguments.

Raising `Rejected` (public name: `Reject`) refuses; its status and body go to the client.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Phase, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The request that something came with.

    Attributes:
        method: After `X-HTTP-Method-Override`.
        path: Of the URL, decoded.
        query: Of the URL, as it was sent, without its question mark.
        headers: By lower-case name; a repeated one joined by commas.
        client: The address of the peer, empty if it is not known.
    """

    method: str = ""
    path: str = ""
    # Not shown: both may hold secrets, and what is shown ends in a log.
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Someone wants to do something; asked before any body is read.

    It is asked again, in the same words, when a body that took more than a second has brought the
    last byte of an upload, before that counts.

    Attributes:
        verb: `create`, `append`, `query`, `terminate`, `download`; for the parts of a final
            upload `concatenate`.
        upload_id: Of the upload, None for `create`.
    """

    verb: str
    upload_id: str | None
    request: RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """An upload that is about to be created; `length` in bytes, None if it comes later.

    `principal` is whose it will be, None for nobody's.
    """

    id: str
    length: int | None
    metadata: Mapping[str, bytes]
    is_partial: bool
    is_final: bool
    request: RequestInfo
    principal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What `on_create` may change; None leaves it as it is.

    Attributes:
        id: The last segment of the URL: letters, digits, `-`, `_`, `.` and `~`, at most 128.
        metadata: In place of the client's; `HEAD` still repeats what the client sent.
        target: Where the finished file shall lie, a relative path.
    """

    id: str | None = None
    metadata: Mapping[str, bytes] | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an upload is, in bytes, while bytes come in."""

    upload_id: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedUpload:
    """An upload whose bytes are all here.

    Attributes:
        length: Bytes.
        metadata: Decoded.
        location: The path of its file, or the URL where it lies in none: `s3://bucket/key`.
        created_at: Seconds since the epoch, UTC.
        principal: Whose it is, None for nobody's.
    """

    id: str
    length: int
    metadata: Mapping[str, bytes]
    location: str
    created_at: float
    principal: str | None = None

    @property
    def path(self) -> Path:
        """The file; it stays there unless `TusApp.take` moves it.

        Raises:
            ValueError: The upload lies in no file.
        """
        if "://" in self.location:
            raise ValueError(f"{self.location} is no file; use `location`")
        return Path(self.location)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedUpload:
    """An upload that was terminated or has expired.

    Attributes:
        event_id: The same when the event is repeated.
        phase: `terminated` or `expired`.
        at: When, in seconds since the epoch, UTC.
        offset: Bytes that there were.
    """

    event_id: str
    id: str
    phase: Phase
    at: float
    offset: int
    metadata: Mapping[str, bytes]


Authorize = Callable[[Access], Awaitable[Grant | str | None]]
"""Says who asks, or refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The functions of the application; None where it takes no part.

    Attributes:
        authorize: Before anything else, on every request; raise `Reject(401, ...)` to refuse. What
            it returns says who asks: a name, a `Grant`, or None for nobody in particular.
        new_id: Chooses the id of an upload instead of 128 random bits.
        on_create: May change a new upload, or refuse it.
        on_progress: About once a second while bytes come in; may be skipped.
        on_finish: When all bytes are stored, before the client is told; may be repeated after a
            crash, until it returns. May add to the response; `Reject` fails the upload for good.
        on_terminate: After an upload was terminated or has expired; at least once.
    """

    authorize: Authorize | None = None
    new_id: Callable[[NewUpload], Awaitable[str]] | None = None
    on_create: Callable[[NewUpload], Awaitable[Changes | None]] | None = None
    on_progress: Callable[[Progress], Awaitable[None]] | None = None
    on_finish: Callable[[FinishedUpload], Awaitable[Reply | None]] | None = None
    on_terminate: Callable[[EndedUpload], Awaitable[None]] | None = None
