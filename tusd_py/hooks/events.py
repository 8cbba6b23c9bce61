"""What happened: for metrics at once, for the application by way of the outbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tusd_py.body import EndedBy, Reason
from tusd_py.protocol.upload import Phase, Upload


class UploadCreated(NamedTuple):
    """An upload has a URL."""

    upload_id: str


class BytesReceived(NamedTuple):
    """Bytes were stored and count; the record is the one that says so."""

    upload: Upload
    count: int  # type: ignore[assignment]  # not that of a tuple, as nobody counts in this one


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesDropped:
    """Bytes were stored, and do not count, say those of a wrong checksum."""

    count: int


class UploadFinished(NamedTuple):
    """An upload is complete."""

    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadBuried:
    """An upload was terminated, or has expired and was removed."""

    upload_id: str
    phase: Phase


class RequestEnded(NamedTuple):
    """A request was answered.

    Attributes:
        method: After `X-HTTP-Method-Override`, one of those that are known here, or `OTHER`.
        status: Of the response.
        code: Of the error, empty if there was none.
        seconds: From the head of the request to the end of the response.
        is_stream: Whether that was a stream of events, which lasts as long as somebody listens.
    """

    method: str
    status: int
    code: str
    seconds: float
    is_stream: bool = False


LIMITS = (
    "open-uploads",
    "open-uploads-per-client",
    "connections",
    "connections-per-address",
    "head-time",
    "head-size",
    "metadata-size",
    "size",
    "free-disk",
    "network-timeout",
    "slowest-speed",
    "slowest-download",
    "requests",
)
"""What a client can be refused by, or cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached:
    """A client was refused by one of `LIMITS`."""

    limit: str


CUTS = tuple(
    each.value.replace(" ", "-")
    for each in (*Reason, *EndedBy)
    if each not in (EndedBy.END, EndedBy.INTERRUPTED)
)
"""Why a body can end before its last byte; `contended`: a newer request wants the upload."""


class AppendCut(NamedTuple):
    """A body ended before its last byte; what came of it counts, or is told by `BytesDropped`.

    Attributes:
        why: One of `CUTS`.
    """

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendsSeen:
    """How many uploads bytes come for now, but for small ones that are here at once."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsSeen:
    """How many uploads are open, of all processes on the same state, each of which tells it."""

    count: int


class Synced(NamedTuple):
    """Bytes were synced to the disk, with its thread's wait; of a small upload, written too."""

    seconds: float


class Committed(NamedTuple):
    """A record was committed, with its thread's wait; not by the event loop, which is quick."""

    seconds: float


class HeldBack(NamedTuple):
    """Bytes waited for a limit of speed; told a few times a second, added up."""

    seconds: float


class Step(NamedTuple):
    """A part of a request has ended; told only where requests are traced.

    Attributes:
        name: Such as `lock`, for the wait for the lock of an upload.
        seconds: How long it took.
    """

    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRecovered:
    """An upload was finished, or removed, whose end an earlier process or attempt had begun."""

    upload_id: str


class RecordRebuilt(NamedTuple):
    """A record that was lost with its state directory was made anew from what is stored."""

    upload_id: str


class SyncLost(NamedTuple):
    """The disk failed to sync: an upload went back to what was synced before."""

    upload_id: str


class StoreCalled(NamedTuple):
    """An S3 store was asked for something, with all attempts.

    Attributes:
        operation: S3's name for it, such as `UploadPart`.
        status: Of the answer, 0 without one.
        retries: How often it was asked again, as far as that is known.
        seconds: Until the head of the last answer.
    """

    operation: str
    status: int
    retries: int
    seconds: float


TUSD_HOOKS = (
    "pre-create",
    "post-create",
    "post-receive",
    "pre-finish",
    "post-finish",
    "pre-terminate",
    "post-terminate",
)
"""tusd's names of what an application is asked (`pre-`) or told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCalled:
    """The application was asked or told something, by HTTP or by a command.

    Attributes:
        hook: tusd's name for it, such as `pre-create`.
        failed: Whether there was no answer, or none that can be understood.
    """

    hook: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSeen:
    """How much of the outbox there is to tell.

    Attributes:
        waiting: Events that are still to be told.
        oldest_at: When the oldest of them happened, in seconds since the epoch; None without any.
        dead: Events that were given up.
    """

    waiting: int
    oldest_at: float | None
    dead: int


Observed = (
    UploadCreated
    | BytesReceived
    | BytesDropped
    | UploadFinished
    | UploadBuried
    | RequestEnded
    | LimitReached
    | HookCalled
    | OutboxSeen
    | AppendCut
    | AppendsSeen
    | UploadsSeen
    | Synced
    | Committed
    | HeldBack
    | Step
    | UploadRecovered
    | RecordRebuilt
    | SyncLost
    | StoreCalled
)
Observer = Callable[[Observed], None]
"""Called on the event loop; must be quick and must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """Something that the application is told at least once, in order for each upload.

    Attributes:
        upload_id: Whose event.
        phase: What the upload came to: `receiving` for a new one, `complete`, `terminated` or
            `expired`.
        at: Seconds since the epoch, UTC.
        upload_offset: Bytes that there were.
        metadata: In the format of `Upload-Metadata`.
        details: What else is told, see `hooks.interface.build_details`.
    """

    upload_id: str
    phase: Phase
    at: float
    upload_offset: int
    metadata: str
    details: str = "{}"
