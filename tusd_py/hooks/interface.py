"""What an application may take part in: async functions with typed arguments.

Raising `Rejected` (public name: `Reject`) refuses; its status and body go to the client.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tusd_py.protocol.errors import TusError
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
        port: Of the peer, 0 if it is not known.
        sent_method: As in the request line.
        uri: The path as it was sent, with its query.
        header_lines: Names and values as they came, in order, repeated ones too.
    """

    method: str = ""
    path: str = ""
    # Not shown: both may hold secrets, and what is shown ends in a log.
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    client: str = ""
    port: int = 0
    sent_method: str = ""
    uri: str = ""
    header_lines: tuple[tuple[str, str], ...] = ()


NO_REQUEST = RequestInfo()
"""Where something happens by itself, or where nobody looks at the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Someone wants to do something; asked before any body is read.

    It is asked again, in the same words, when a body that took more than a second has brought the
    last byte of an upload, before that counts.

    Attributes:
        verb: `create`, `append`, `query`, `terminate`, `download`; for the parts of a final
            upload `concatenate`; for a stream of events `watch`; to pause an upload, by the API or
            a WebSocket, `control`. Of `tusd-py serve` alone: `list` for the uploads that somebody
            has, and `stats` for how the server is doing.
        upload_id: Of the upload, None for `create`, `list` and `stats`, and for `watch` of all.
    """

    verb: str
    upload_id: str | None
    request: RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadInfo:
    """An upload, as the application is told of it.

    Attributes:
        length: Bytes of the whole, None if that comes later.
        metadata: Decoded, as the application left it.
        offset: Bytes that are here.
        is_partial: Whether it is a part of another upload.
        is_final: Whether it is made of other uploads.
        parts: Of a final upload, the ids of its parts in order.
        location: The path of its file, or the URL where it lies in none: `s3://bucket/key`. Empty
            where there is none (yet).
        request: What it came with; `NO_REQUEST` after a crash, and for what happens by itself.
        principal: Whose it is, None for nobody's.
    """

    id: str
    length: int | None
    metadata: Mapping[str, bytes]
    offset: int = 0
    is_partial: bool = False
    is_final: bool = False
    parts: tuple[str, ...] = ()
    location: str = ""
    request: RequestInfo = NO_REQUEST
    principal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload(UploadInfo):
    """An upload that is about to be created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What `on_create` may change; None leaves it as it is.

    Attributes:
        id: The last segment of the URL: letters, digits, `-`, `_`, `.` and `~`, at most 128.
        metadata: In place of the client's; `HEAD` still repeats what the client sent.
        target: Where the finished file shall lie, a relative path.
        reply: What to add to the response that tells of the creation.
        max_speed: Bytes per second that the upload may have, at least 1,024.
    """

    id: str | None = None
    metadata: Mapping[str, bytes] | None = None
    target: str | None = None
    reply: Reply | None = None
    max_speed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(UploadInfo):
    """How far an upload is while bytes come in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedUpload(UploadInfo):
    """An upload whose bytes are all here.

    Attributes:
        created_at: Seconds since the epoch, UTC.
    """

    length: int
    created_at: float

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
class UploadEvent(UploadInfo):
    """Something that has happened to an upload, as it was then; told at least once, and in order.

    Attributes:
        event_id: The same when the event is repeated.
        phase: What the upload came to: `receiving` for a new one, `complete`, `terminated` or
            `expired`.
        at: When, in seconds since the epoch, UTC.
    """

    event_id: str
    phase: Phase
    at: float


class HookUnanswered(TusError):
    """The application could not be asked, or gave no answer that can be understood.

    Args:
        hook: Whom or what for, such as `pre-create`; the log has more.
    """

    code, status, section = "ERR_HOOK_FAILED", 500, ""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def __str__(self) -> str:
        return f"the application behind this server did not answer ({self.hook}); try again"


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
        on_created: After an upload was created; at least once.
        on_progress: About once a second while bytes come in; may be skipped. `Reject` ends the
            upload, which is terminated.
        on_finish: When all bytes are stored, before the client is told; may be repeated after a
            crash, until it returns. May add to the response; `Reject` fails the upload for good.
        on_finished: After an upload, also one that is a part of another, is complete; at least
            once.
        on_terminating: Before an upload is terminated by a `DELETE`. May add to the response;
            `Reject` keeps the upload.
        on_terminate: After an upload was terminated or has expired; at least once.
        progress_interval: Seconds between two calls of `on_progress` for one upload.
        drop_events: Whether an event that none of these is told of is nobody's, and dropped;
            otherwise it is kept for another process, or the next start.
    """

    authorize: Authorize | None = None
    new_id: Callable[[NewUpload], Awaitable[str]] | None = None
    on_create: Callable[[NewUpload], Awaitable[Changes | None]] | None = None
    on_created: Callable[[UploadEvent], Awaitable[None]] | None = None
    on_progress: Callable[[Progress], Awaitable[None]] | None = None
    on_finish: Callable[[FinishedUpload], Awaitable[Reply | None]] | None = None
    on_finished: Callable[[UploadEvent], Awaitable[None]] | None = None
    on_terminating: Callable[[UploadInfo], Awaitable[Reply | None]] | None = None
    on_terminate: Callable[[UploadEvent], Awaitable[None]] | None = None
    progress_interval: float = 1.0
    drop_events: bool = False

    @property
    def look_at_requests(self) -> bool:
        """Whether any function of the application is told of requests."""
        return any(
            (
                self.authorize,
                self.new_id,
                self.on_create,
                self.on_created,
                self.on_finish,
                self.on_finished,
                self.on_terminating,
                self.on_terminate,
                self.on_progress,
            )
        )

    @property
    def hear_events(self) -> bool:
        """Whether any of them is told of what has happened, by way of the outbox."""
        return any((self.on_created, self.on_finished, self.on_terminate))


def build_details(upload: UploadInfo) -> str:
    """What the outbox keeps of an upload beside what it has columns for, as JSON."""
    request = upload.request
    return json.dumps(
        {
            "length": upload.length,
            "is_partial": upload.is_partial,
            "is_final": upload.is_final,
            "parts": upload.parts,
            "location": upload.location,
            "request": {
                "method": request.method,
                "path": request.path,
                "headers": dict(request.headers),
                "client": request.client,
                "port": request.port,
                "sent_method": request.sent_method,
                "uri": request.uri,
                "header_lines": request.header_lines,
            },
        }
    )


def parse_details(text: str) -> dict[str, Any]:
    """The reverse of `build_details`: arguments for an `UploadInfo`."""
    found: dict[str, Any] = json.loads(text)
    request = found.pop("request", {})
    lines = tuple((name, value) for name, value in request.pop("header_lines", ()))
    return {
        "length": found.get("length"),
        "is_partial": found.get("is_partial", False),
        "is_final": found.get("is_final", False),
        "parts": tuple(found.get("parts", ())),
        "location": found.get("location", ""),
        "request": RequestInfo(header_lines=lines, **request),
    }
