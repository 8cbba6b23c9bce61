"""What is known of one upload, and how that may change.

The rules:
- `upload_offset` is a promise: it never goes down, but to `synced_offset` after a loss of power or
  a failed sync.
- `complete` is a phase, not `upload_offset == upload_length`: a dialect may complete explicitly,
  and finishing takes time and can fail.
- `generation` counts the commits; a commit succeeds only on the generation that was read.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tusd_py.protocol.concat import Concat, Final, Partial
from tusd_py.protocol.metadata import parse_upload_metadata


class Phase(enum.StrEnum):
    """`receiving -> finishing -> complete | failed`; `terminated` and `expired` are tombstones."""

    RECEIVING = "receiving"
    FINISHING = "finishing"
    COMPLETE = "complete"
    FAILED = "failed"
    TERMINATED = "terminated"
    EXPIRED = "expired"


GONE = frozenset({Phase.TERMINATED, Phase.EXPIRED})
"""The phases in which an upload is only remembered, so that its URL can say what became of it."""


SLOWEST = 1024
"""Bytes per second, the least that a speed can be limited to."""


class Tail(enum.StrEnum):
    """Whether bytes that lie in storage beyond `upload_offset` count."""

    OPEN = "open"
    """They came in order from a plain append: they count after a killed process."""

    SEALED = "sealed"
    """They were never verified: they are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the application adds to the response that finishes an upload, or refuses it.

    Attributes:
        status: The HTTP status instead of the usual one, or None.
        headers: Further response headers.
        body: Text for the client.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


class Upload(NamedTuple):
    """One upload, as it was last committed.

    Attributes:
        id: The last segment of its URL.
        created_at: Seconds since the epoch, UTC.
        generation: How often the record was committed.
        phase: Where it stands between its first and its last byte, and after.
        upload_offset: Bytes that were acknowledged, or can be.
        upload_length: Bytes of the whole, or None while that is not known.
        upload_metadata: The header as the client sent it; None if it sent none.
        changed_metadata: What the application put in its place, in the header's format, or None.
        concat: Whether this is a part of another upload, or made of others.
        parts: For a final upload, the ids of its parts in order.
        expires_at: Seconds since the epoch, UTC, or None for never.
        tail: Whether bytes beyond the offset count.
        synced_offset: Bytes that outlive a loss of power; at most what was synced to the disk.
        placement: Where storage put it, in storage's own words; empty before the first byte.
        target: Where the application wants the finished file, relative to where those lie, or None.
        path: Where the finished file lies, in storage's own words; None before, and once taken.
        released: Whether storage has let go of the bytes of a tombstone.
        reply: What the application said at the finish.
        principal: Whose it is, None where nobody was asked; see `grant`.
        client: The address that it was made from, where a limit holds for each and there is no
            principal; None otherwise.
        paused: Whether somebody wants no more bytes of it for now. It is read with the record, and
            not written with it.
        max_speed: Bytes per second that somebody allows it, never more than the application does;
            None for no limit of its own; likewise.
    """

    id: str
    created_at: float
    generation: int = 0
    phase: Phase = Phase.RECEIVING
    upload_offset: int = 0
    upload_length: int | None = None
    upload_metadata: str | None = None
    changed_metadata: str | None = None
    concat: Concat | None = None
    parts: tuple[str, ...] = ()
    expires_at: float | None = None
    tail: Tail = Tail.OPEN
    synced_offset: int = 0
    placement: str = ""
    target: str | None = None
    path: str | None = None
    released: bool = False
    reply: Reply | None = None
    principal: str | None = None
    client: str | None = None
    paused: bool = False
    max_speed: int | None = None

    @property
    def metadata(self) -> dict[str, bytes]:
        """The decoded metadata, as the application left it."""
        header = self.changed_metadata
        return parse_upload_metadata((self.upload_metadata if header is None else header) or "")

    @property
    def made_by(self) -> str:
        """Whom it counts for; empty for nobody in particular."""
        return self.principal or self.client or ""

    @property
    def is_partial(self) -> bool:
        """Whether it is a chunk to be concatenated later."""
        return isinstance(self.concat, Partial)

    @property
    def is_final(self) -> bool:
        """Whether it is made of other uploads."""
        return isinstance(self.concat, Final)

    @property
    def is_unfinished(self) -> bool:
        """Whether it still takes bytes, or waits for its parts or its finish."""
        return self.phase in (Phase.RECEIVING, Phase.FINISHING)

    @property
    def may_expire(self) -> bool:
        """Whether its time can run out. A finished file stays; a finished part is no file yet."""
        stays = self.phase is Phase.FINISHING or (
            self.phase is Phase.COMPLETE and not self.is_partial
        )
        return self.expires_at is not None and not stays

    def has_expired(self, now: float) -> bool:
        """Whether its time has run out, swept or not."""
        return self.expires_at is not None and self.expires_at <= now and self.may_expire


def received(upload: Upload, upload_offset: int) -> Upload:
    """After bytes were stored up to `upload_offset`; the last byte begins the finish."""
    done = upload.phase is Phase.RECEIVING and upload_offset == upload.upload_length
    return upload._replace(
        upload_offset=upload_offset,
        phase=Phase.FINISHING if done else upload.phase,
        tail=Tail.OPEN,
    )


def synced(upload: Upload) -> Upload:
    """After storage has synced everything up to the offset."""
    return upload._replace(synced_offset=upload.upload_offset)


def disassembled(final: Upload) -> Upload:
    """After what was made of the parts was lost before the finish: it is made of them again."""
    return final._replace(upload_offset=0, synced_offset=0, phase=Phase.RECEIVING, tail=Tail.SEALED)


def completed(upload: Upload, path: str | None, reply: Reply | None) -> Upload:
    """After the finish succeeded."""
    return upload._replace(phase=Phase.COMPLETE, path=path, reply=reply)


def failed(upload: Upload, reply: Reply, expires_at: float | None) -> Upload:
    """After the finish was refused for good; `reply` is kept for whoever asks again."""
    return upload._replace(phase=Phase.FAILED, reply=reply, expires_at=expires_at)


def buried(upload: Upload, phase: Phase, until: float) -> Upload:
    """A tombstone, remembered until `until`, whose bytes storage still has to let go."""
    return upload._replace(phase=phase, expires_at=until, released=False)
