"""What happened: for metrics at once, for the application by way of the outbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tusd_py.protocol.upload import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCreated:
    """An upload has a URL."""

    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesReceived:
    """Bytes were stored and count."""

    upload_id: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFinished:
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
    """

    method: str
    status: int
    code: str
    seconds: float


Observed = UploadCreated | BytesReceived | UploadFinished | UploadBuried | RequestEnded
Observer = Callable[[Observed], None]
"""Called on the event loop; must be quick and must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """Something that the application is told at least once, in order for each upload.

    Attributes:
        upload_id: Whose event.
        phase: `terminated` or `expired`.
        at: Seconds since the epoch, UTC.
        upload_offset: Bytes that there were.
        metadata: In the format of `Upload-Metadata`.
    """

    upload_id: str
    phase: Phase
    at: float
    upload_offset: int
    metadata: str
