"""What the engine asks of a place that keeps records.

Only `commit` publishes an offset: a compare-and-set on the generation that was read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tusd_py.hooks.events import OutboxEvent
from tusd_py.protocol.upload import Phase, Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvent:
    """An event in the outbox.

    Attributes:
        number: The order of all events; part of the event's id.
        attempts: How often it was tried.
    """

    number: int
    event: OutboxEvent
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounts:
    """How many events the outbox has; `oldest_at` of those that wait, in seconds since the epoch,
    None if none does; `dead` were given up.
    """

    waiting: int
    oldest_at: float | None
    dead: int


class Owners(NamedTuple):
    """Whose uploads are asked for: nobody's are always among them.

    Attributes:
        principal: One owner.
        has_all: Those of all owners, instead of that one's.
    """

    principal: str = ""
    has_all: bool = False


class Page(NamedTuple):
    """Some of the uploads, and where the next page begins; None behind the last."""

    uploads: list[Upload]
    next: tuple[float, str] | None


class Happened(NamedTuple):
    """Something that has happened to an upload.

    Attributes:
        number: Its place among all that happened.
        principal: Whose the upload is, None for nobody's.
        kind: `created`, `finished`, `failed`, `terminated`, `expired`, `paused` or `resumed`; empty
            where a stretch begins in which events were written down.
        at: Seconds since the epoch, UTC.
    """

    number: int
    upload_id: str
    principal: str | None
    kind: str
    at: float


class NotNow(Exception):
    """What was to be done at once would have to wait."""


class StateStore(Protocol):
    """Records of uploads, and the outbox. Every method is atomic, also when it is cancelled."""

    async def open(self) -> str | None:
        """Makes the store ready: the instance that it is tied to, None if it is new."""
        ...

    @property
    def is_short(self) -> bool:
        """Whether there was no room for a commit, and there still is too little: what is left is
        for the uploads that are known, to end or to go, and nothing new should be taken.
        """
        ...

    async def tend(self) -> None:
        """Does what is due now and then: makes a reserve anew for when there is no room."""
        ...

    async def probe(self) -> None:
        """Commits something that means nothing: whether records can be written now.

        Raises:
            StorageFull: There is no room.
            StorageFailed: It cannot be written for another reason, which is the cause.
        """
        ...

    async def instance(self) -> str | None:
        """The instance that the store is tied to now."""
        ...

    async def tie(self, instance: str) -> None:
        """Ties a new store to where the bytes lie."""
        ...

    async def listen(self) -> None:
        """Notes that an application is told of events, so that every process enqueues them."""
        ...

    async def has_listener(self) -> bool:
        """Whether `listen` was ever called on this store."""
        ...

    async def tell_whole(self) -> None:
        """Notes that there is a record of every upload that storage knows."""
        ...

    async def is_whole(self) -> bool:
        """Whether `tell_whole` was ever called on this store."""
        ...

    async def close(self) -> None:
        """Ends what is under way and closes the store."""
        ...

    async def insert(
        self, upload: Upload, *, events: Sequence[OutboxEvent] = (), durable: bool = False
    ) -> Upload:
        """A new record; if it waits for its parts, they are referred to from now on.

        Args:
            upload: What is to be known.
            events: To be delivered, in this order.
            durable: Whether this must outlive a loss of power when it returns.

        Raises:
            UploadExists: The id is taken.
            InvalidPart: A part went away meanwhile.
        """
        ...

    async def load(self, upload_id: str) -> Upload | None:
        """The record as it was last committed, None if there is none."""
        ...

    async def load_many(self, upload_ids: Sequence[str]) -> dict[str, Upload]:
        """Those of the records that there are, from one moment."""
        ...

    async def commit(
        self,
        upload: Upload,
        *,
        events: Sequence[OutboxEvent] = (),
        durable: bool = False,
        unless_referred: bool = False,
    ) -> Upload:
        """Writes a record over the generation that it was read with, and events beside it.

        An unfinished part takes the unfinished final uploads that refer to it along: they expire
        no sooner than it does.

        Args:
            upload: What is to be known from now on; when it was created, and whose it is, stays.
            events: To be delivered, in this order.
            durable: Whether this must outlive a loss of power when it returns.
            unless_referred: Whether to refuse while an unfinished final upload refers to this one.

        Returns:
            The record with its new generation.

        Raises:
            StaleGeneration: Someone else committed meanwhile, or the record is referred to.
        """
        ...

    async def set_paused(self, upload_id: str, *, paused: bool) -> None:
        """Says whether bytes of an upload are wanted now, whoever holds its lock; nothing happens
        if there is none that takes any.
        """
        ...

    async def set_max_speed(self, upload_id: str, max_speed: int | None) -> None:
        """Likewise says how many bytes per second are wanted, None for no limit."""
        ...

    async def set_speed_ceiling(self, upload_id: str, ceiling: int) -> None:
        """Likewise says how many there may be, whatever is wanted."""
        ...

    def load_now(self, upload_id: str) -> Upload | None:
        """As `load`, at once and on the event loop: for when the disk is known to be quick.

        Raises:
            NotNow: It cannot be told without waiting, or failed.
        """
        ...

    def take_remembered(self, upload_id: str) -> Upload | None:
        """The record as `commit_now` left it, if that is at hand: each time it is so once.

        Somebody else may have changed it since; a `commit_now` of what is made of it fails then.
        So it can be told to nobody, and nothing be refused for what it says.
        """
        ...

    def commit_now(
        self,
        upload: Upload,
        *,
        is_new: bool,
        before: Upload | None = None,
        durable: bool = False,
    ) -> Upload:
        """As `commit`, or `insert`, at once and on the event loop, for an upload that has no parts
        and is none; or not at all.

        Args:
            upload: What is to be known.
            is_new: Whether there is no record yet.
            before: The record as it was read, if only what has changed is to be written; that is
                less than half of the work. None for all of it.
            durable: As for `commit`; then syncing must be known to be quick too.

        Raises:
            NotNow: Nothing was committed; do so with `commit` or `insert`. So it is too where
                somebody has paused it, or limited its speed, since it was read.
            UploadExists: As for `insert`.
            StaleGeneration: As for `commit`.
        """
        ...

    async def delete(self, upload: Upload) -> None:
        """Forgets a record of this generation; nothing happens if it has changed."""
        ...

    async def expired(
        self, now: float, after: tuple[float, str], limit: int
    ) -> list[tuple[float, str]]:
        """`expires_at` and id of records whose time has passed, tombstones included, in that order
        and behind `after`.
        """
        ...

    async def with_phase(self, phase: Phase, after: str, limit: int) -> list[Upload]:
        """Records in a phase, by id, behind `after`."""
        ...

    async def unreleased(self, after: str, limit: int) -> list[Upload]:
        """Tombstones whose bytes storage still has, by id, behind `after`."""
        ...

    async def finals_waiting_for(self, part_id: str) -> list[str]:
        """Ids of the unfinished final uploads that refer to a part."""
        ...

    async def waiting_finals(self) -> list[str]:
        """Ids of all unfinished final uploads."""
        ...

    async def known(self, upload_ids: Sequence[str]) -> set[str]:
        """Those of the ids that have a record, tombstones included."""
        ...

    async def page(self, after: str, limit: int) -> list[Upload]:
        """Records by id, behind `after`."""
        ...

    async def newest(
        self,
        owners: Owners,
        wanted: Callable[[Upload], bool],
        after: tuple[float, str] | None,
        limit: int,
    ) -> Page:
        """Records by the time of their creation, the newest first.

        Args:
            owners: Whose.
            wanted: Called in a thread: whether a record is asked for. So many are looked at that
                this does not take long; a page may have fewer than there are, or none.
            after: `Page.next` of the page before, None for the first.
            limit: Most of a page.
        """
        ...

    async def count_open(self, now: float) -> dict[str, int]:
        """How many uploads are neither complete nor gone, nor have expired, by `Upload.made_by`."""
        ...

    async def open_events(self, until: float) -> None:
        """Lets what happens to uploads be written down, by every process, at least for a time.

        Args:
            until: In seconds since the epoch.
        """
        ...

    async def trim_events(self, now: float, since: float) -> None:
        """Ends that where its time is over, and forgets what happened before `since`."""
        ...

    async def events_span(self) -> tuple[int, int]:
        """The first and the last number of what is written down; zeros if nothing ever was."""
        ...

    async def events_after(self, number: int, limit: int) -> list[Happened]:
        """What has happened behind a number, in order."""
        ...

    async def due_events(self, now: float, limit: int) -> list[PendingEvent]:
        """The oldest event of each upload that has one to deliver now, in order."""
        ...

    async def next_event_at(self) -> float | None:
        """When the next event is due, in seconds since the epoch; None if none waits."""
        ...

    async def count_events(self) -> EventCounts:
        """How much there is in the outbox."""
        ...

    async def event_delivered(self, number: int) -> None:
        """Takes an event out of the outbox."""
        ...

    async def event_failed(self, number: int, retry_at: float | None) -> None:
        """Counts an attempt; with no `retry_at` the event is kept as a dead letter."""
        ...
