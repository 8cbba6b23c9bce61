"""Records in a SQLite file beside the bytes: write-ahead log, one row for each upload."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tusd_py.hooks.events import OutboxEvent
from tusd_py.protocol.errors import InvalidPart, StaleGeneration, StorageFull
from tusd_py.protocol.upload import GONE, Phase, Upload
from tusd_py.state.at_once import AtOnce, checkpoint
from tusd_py.state.ballast import Ballast
from tusd_py.state.events import events_after, events_span, open_events, trim_events
from tusd_py.state.interface import EventCounts, Happened, Owners, Page, PendingEvent
from tusd_py.state.listing import newest
from tusd_py.state.rows import SELECT, from_row, insert, load, update
from tusd_py.state.worker import Worker

T = TypeVar("T")

MIGRATIONS: tuple[str, ...] = tuple(
    Path(__file__).with_name(f"{step}.sql").read_text("utf-8")
    for step in (
        "schema",
        "principal",
        "outbox_details",
        "client",
        "listing",
        "events",
        "controls",
        "speeds",
        "ceilings",
        "small_writes",
    )
)
"""Step n takes a database from version n to n + 1."""

_CAN_EXPIRE = (
    "(phase NOT IN ('complete', 'finishing') OR concat = 'partial') AND phase != 'finishing'"
)
"""As `Upload.may_expire`; the first half is the condition of the index."""

_IS_NEXT = (
    "dead = 0 AND number IN (SELECT MIN(number) FROM outbox WHERE dead = 0 GROUP BY upload_id)"
)
"""The oldest of each upload, so that order holds while one of them is retried."""


class NewerDatabase(Exception):
    """The database was made by a newer release."""


class SqliteState:
    """The state store of one host; several processes may share it.

    Args:
        path: The database file; its folder is made when needed. Not on a network file system.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Worker | None = None
        self._reader: Worker | None = None
        self._checkpoints: Worker | None = None
        self._now = AtOnce()
        self._ballast = Ballast(path.with_name("ballast"))

    async def open(self) -> str | None:
        """See `StateStore.open`.

        Raises:
            NewerDatabase: It was made by a newer release, and is left as it is.
            StorageFailed: It cannot be opened; its cause says why.
        """
        _make_folder(self.path.parent)
        self._writer = Worker(
            self._connect, writes=True, name="tusd-py-commits", ballast=self._ballast
        )
        self._reader = Worker(self._connect, writes=False, name="tusd-py-reads")
        try:
            await self._migrate()
            await asyncio.to_thread(self._ballast.build)
            self._now.open(self.path)
            return await self.instance()
        except BaseException:
            await self.close()
            raise

    async def _migrate(self) -> None:
        try:
            # Also where nothing is to be done: it tells whether the database can be written to.
            await self._write(_migrate, durable=True)
        except StorageFull:
            if not await self._read(_is_current):
                raise

    @property
    def is_short(self) -> bool:
        """See `StateStore.is_short`."""
        return self._ballast.is_short

    async def tend(self) -> None:
        """See `StateStore.tend`."""
        if self._ballast.is_out:
            await asyncio.to_thread(self._ballast.build)

    async def probe(self) -> None:
        """See `StateStore.probe`."""
        query = "INSERT OR REPLACE INTO meta VALUES ('probe', hex(randomblob(8)))"
        await self._write(lambda connection: connection.execute(query).close())

    async def instance(self) -> str | None:
        """See `StateStore.instance`."""
        return await self._meta("instance")

    async def tie(self, instance: str) -> None:
        """See `StateStore.tie`."""
        await self._set_meta("instance", instance)

    async def listen(self) -> None:
        """See `StateStore.listen`."""
        await self._set_meta("listener", "yes")

    async def has_listener(self) -> bool:
        """See `StateStore.has_listener`."""
        return await self._meta("listener") is not None

    async def tell_whole(self) -> None:
        """See `StateStore.tell_whole`."""
        await self._set_meta("whole", "yes")

    async def is_whole(self) -> bool:
        """See `StateStore.is_whole`."""
        return await self._meta("whole") is not None

    async def close(self) -> None:
        """See `StateStore.close`."""
        self._now.close()
        workers = (self._checkpoints, self._writer, self._reader)
        # Nothing is handed to a thread that has ended: nobody would ever answer.
        self._writer = self._reader = self._checkpoints = None
        for worker in workers:
            if worker is not None:
                await worker.close()

    async def insert(
        self, upload: Upload, *, events: Sequence[OutboxEvent] = (), durable: bool = False
    ) -> Upload:
        """See `StateStore.insert`."""

        def job(connection: sqlite3.Connection) -> Upload:
            insert(connection, upload)
            waits = upload.phase is Phase.RECEIVING
            for part_id in dict.fromkeys(upload.parts if waits else ()):
                part = load(connection, part_id)
                if part is None or part.phase in GONE:
                    raise InvalidPart(part_id, "does not exist here any more")
                connection.execute("INSERT INTO part_refs VALUES (?, ?)", (part_id, upload.id))
            _enqueue(connection, events)
            return upload

        return await self._write(job, durable=durable)

    async def load(self, upload_id: str) -> Upload | None:
        """See `StateStore.load`."""
        return await self._read(lambda connection: load(connection, upload_id))

    async def load_many(self, upload_ids: Sequence[str]) -> dict[str, Upload]:
        """See `StateStore.load_many`."""

        def job(connection: sqlite3.Connection) -> dict[str, Upload]:
            connection.execute("BEGIN")
            try:
                found = [load(connection, upload_id) for upload_id in dict.fromkeys(upload_ids)]
            finally:
                connection.execute("COMMIT")
            return {upload.id: upload for upload in found if upload is not None}

        return await self._read(job)

    async def commit(
        self,
        upload: Upload,
        *,
        events: Sequence[OutboxEvent] = (),
        durable: bool = False,
        unless_referred: bool = False,
    ) -> Upload:
        """See `StateStore.commit`."""

        def job(connection: sqlite3.Connection) -> Upload:
            if unless_referred and _is_referred(connection, upload.id):
                raise StaleGeneration(upload.id)
            committed = update(connection, upload)
            if upload.is_final and not upload.is_unfinished:
                connection.execute("DELETE FROM part_refs WHERE final_id = ?", (upload.id,))
            _enqueue(connection, events)
            return committed

        return await self._write(job, durable=durable)

    async def set_paused(self, upload_id: str, *, paused: bool) -> None:
        """See `StateStore.set_paused`."""
        query = (
            "INSERT INTO controls (upload_id, paused) "
            "SELECT id, ? FROM uploads WHERE id = ? AND phase = 'receiving' "
            "ON CONFLICT (upload_id) DO UPDATE SET paused = excluded.paused"
        )
        await self._control(query, paused, upload_id)

    async def set_max_speed(self, upload_id: str, max_speed: int | None) -> None:
        """See `StateStore.set_max_speed`."""
        query = (
            "INSERT INTO controls (upload_id, paused, max_speed) "
            "SELECT id, 0, ? FROM uploads WHERE id = ? AND phase = 'receiving' "
            "ON CONFLICT (upload_id) DO UPDATE SET max_speed = excluded.max_speed"
        )
        await self._control(query, max_speed, upload_id)

    async def set_speed_ceiling(self, upload_id: str, ceiling: int) -> None:
        """See `StateStore.set_speed_ceiling`."""
        query = (
            "INSERT INTO controls (upload_id, paused, ceiling) "
            "SELECT id, 0, ? FROM uploads WHERE id = ? AND phase = 'receiving' "
            "ON CONFLICT (upload_id) DO UPDATE SET ceiling = excluded.ceiling"
        )
        await self._control(query, ceiling, upload_id)

    async def _control(self, query: str, value: int | None, upload_id: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute(query, (value, upload_id))

        await self._write(job)

    def load_now(self, upload_id: str) -> Upload | None:
        """See `StateStore.load_now`."""
        return self._now.load(upload_id)

    def take_remembered(self, upload_id: str) -> Upload | None:
        """See `StateStore.take_remembered`."""
        return self._now.take_remembered(upload_id)

    def commit_now(
        self,
        upload: Upload,
        *,
        is_new: bool,
        before: Upload | None = None,
        durable: bool = False,
    ) -> Upload:
        """See `StateStore.commit_now`."""
        committed = self._now.commit(upload, is_new=is_new, before=before, durable=durable)
        if self._now.wants_checkpoint:
            self._checkpoint()
        return committed

    def _checkpoint(self) -> None:
        if self._checkpoints is None:
            self._checkpoints = Worker(self._connect, writes=False, name="tusd-py-checkpoints")
        self._checkpoints.submit(checkpoint)

    async def delete(self, upload: Upload) -> None:
        """See `StateStore.delete`."""

        def job(connection: sqlite3.Connection) -> None:
            key = (upload.id, upload.generation)
            gone = connection.execute("DELETE FROM uploads WHERE id = ? AND generation = ?", key)
            if gone.rowcount:
                connection.execute("DELETE FROM part_refs WHERE final_id = ?", (upload.id,))

        await self._write(job)

    async def expired(
        self, now: float, after: tuple[float, str], limit: int
    ) -> list[tuple[float, str]]:
        """See `StateStore.expired`."""
        # In the order of its index: in that of the ids it would read every record there is.
        query = (
            f"SELECT expires_at, id FROM uploads WHERE {_CAN_EXPIRE} AND expires_at <= ? "  # noqa: S608
            "AND (expires_at, id) > (?, ?) "
            "AND NOT EXISTS (SELECT 1 FROM part_refs WHERE part_id = uploads.id) "
            "ORDER BY expires_at, id LIMIT ?"
        )
        return await self._read(
            lambda connection: connection.execute(query, (now, *after, limit)).fetchall()
        )

    async def with_phase(self, phase: Phase, after: str, limit: int) -> list[Upload]:
        """See `StateStore.with_phase`."""
        query = f"{SELECT} WHERE phase = ? AND id > ? ORDER BY id LIMIT ?"
        return await self._uploads(query, (phase.value, after, limit))

    async def unreleased(self, after: str, limit: int) -> list[Upload]:
        """See `StateStore.unreleased`."""
        query = (
            f"{SELECT} WHERE phase IN ('terminated', 'expired') AND released = 0 AND id > ? "
            "ORDER BY id LIMIT ?"
        )
        return await self._uploads(query, (after, limit))

    async def finals_waiting_for(self, part_id: str) -> list[str]:
        """See `StateStore.finals_waiting_for`."""
        return await self._ids("SELECT final_id FROM part_refs WHERE part_id = ?", (part_id,))

    async def waiting_finals(self) -> list[str]:
        """See `StateStore.waiting_finals`."""
        return await self._ids("SELECT DISTINCT final_id FROM part_refs ORDER BY final_id", ())

    async def known(self, upload_ids: Sequence[str]) -> set[str]:
        """See `StateStore.known`."""
        query = "SELECT id FROM uploads WHERE id = ?"

        def job(connection: sqlite3.Connection) -> set[str]:
            rows = (connection.execute(query, (each,)).fetchone() for each in upload_ids)
            return {row[0] for row in rows if row is not None}

        return await self._read(job)

    async def page(self, after: str, limit: int) -> list[Upload]:
        """See `StateStore.page`."""
        return await self._uploads(f"{SELECT} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))

    async def newest(
        self,
        owners: Owners,
        wanted: Callable[[Upload], bool],
        after: tuple[float, str] | None,
        limit: int,
    ) -> Page:
        """See `StateStore.newest`."""
        return await self._read(lambda connection: newest(connection, owners, wanted, after, limit))

    async def count_open(self, now: float) -> dict[str, int]:
        """See `StateStore.count_open`."""
        # By the indexes of what can expire and of what is to be finished: they do not have the many
        # that are complete.
        who = "SELECT COALESCE(principal, client, '') AS who FROM uploads INDEXED BY"
        query = (
            f"SELECT who, COUNT(*) FROM ({who} uploads_by_expiry "  # noqa: S608
            "WHERE (phase NOT IN ('complete', 'finishing') OR concat = 'partial') "
            "AND phase = 'receiving' AND (expires_at IS NULL OR expires_at > ?) "
            f"UNION ALL {who} uploads_finishing WHERE phase = 'finishing') GROUP BY who"
        )
        return await self._read(lambda connection: dict(connection.execute(query, (now,))))

    async def open_events(self, until: float) -> None:
        """See `StateStore.open_events`."""
        await self._write(lambda connection: open_events(connection, until))

    async def trim_events(self, now: float, since: float) -> None:
        """See `StateStore.trim_events`."""
        await self._write(lambda connection: trim_events(connection, now, since))

    async def events_span(self) -> tuple[int, int]:
        """See `StateStore.events_span`."""
        return await self._read(events_span)

    async def events_after(self, number: int, limit: int) -> list[Happened]:
        """See `StateStore.events_after`."""
        return await self._read(lambda connection: events_after(connection, number, limit))

    async def due_events(self, now: float, limit: int) -> list[PendingEvent]:
        """See `StateStore.due_events`."""
        query = (
            "SELECT number, upload_id, phase, at, upload_offset, metadata, details, attempts "  # noqa: S608
            f"FROM outbox WHERE {_IS_NEXT} AND retry_at <= ? ORDER BY number LIMIT ?"
        )

        def job(connection: sqlite3.Connection) -> list[PendingEvent]:
            return [_to_event(row) for row in connection.execute(query, (now, limit))]

        return await self._read(job)

    async def next_event_at(self) -> float | None:
        """See `StateStore.next_event_at`."""

        def job(connection: sqlite3.Connection) -> float | None:
            query = f"SELECT MIN(retry_at) FROM outbox WHERE {_IS_NEXT}"  # noqa: S608
            (moment,) = connection.execute(query).fetchone()
            return None if moment is None else float(moment)

        return await self._read(job)

    async def count_events(self) -> EventCounts:
        """See `StateStore.count_events`."""
        query = (
            "SELECT COUNT(*) FILTER (WHERE dead = 0), MIN(at) FILTER (WHERE dead = 0), "
            "COUNT(*) FILTER (WHERE dead = 1) FROM outbox"
        )

        def job(connection: sqlite3.Connection) -> EventCounts:
            waiting, oldest_at, dead = connection.execute(query).fetchone()
            return EventCounts(waiting=waiting, oldest_at=oldest_at, dead=dead)

        return await self._read(job)

    async def event_delivered(self, number: int) -> None:
        """See `StateStore.event_delivered`."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM outbox WHERE number = ?", (number,))

        await self._write(job)

    async def event_failed(self, number: int, retry_at: float | None) -> None:
        """See `StateStore.event_failed`."""
        query = (
            "UPDATE outbox SET attempts = attempts + 1, retry_at = COALESCE(?, retry_at), "
            "dead = ? WHERE number = ?"
        )

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(query, (retry_at, retry_at is None, number))

        await self._write(job)

    async def backup(self, to: Path) -> None:
        """Copies the database, consistent as of one moment, while it is in use.

        Args:
            to: The new file; it must not exist.
        """

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("VACUUM INTO ?", (str(to),))

        await self._read(job)

    async def _meta(self, key: str) -> str | None:
        found = await self._ids("SELECT value FROM meta WHERE key = ?", (key,))
        return found[0] if found else None

    async def _set_meta(self, key: str, value: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))

        await self._write(job, durable=True)

    async def _ids(self, query: str, values: tuple[Any, ...]) -> list[str]:
        return await self._read(
            lambda connection: [str(row[0]) for row in connection.execute(query, values)]
        )

    async def _uploads(self, query: str, values: tuple[Any, ...]) -> list[Upload]:
        return await self._read(
            lambda connection: [from_row(row) for row in connection.execute(query, values)]
        )

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        assert self._reader is not None, "the state store is not open"
        return await self._reader.run(job)

    async def _write(self, job: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        assert self._writer is not None, "the state store is not open"
        return await self._writer.run(job, durable=durable)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=30.0, cached_statements=64
        )
        try:
            # Of several that make a new file this way at once, SQLite lets all but one fail, and
            # does not wait for the busy time-out.
            with _alone_in(self.path.parent):
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection


def _make_folder(folder: Path) -> None:
    """Makes a folder that outlives a loss of power, as its own entries do by SQLite's care."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Holds a lock on the folder itself, which has nothing to do with SQLite's own."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise NewerDatabase(
            f"the state has version {version}, made by a newer tusd-py; "
            f"this one knows version {len(MIGRATIONS)}: install the newer release again"
        )
    for step in MIGRATIONS[version:]:
        for statement in _statements(step):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")


def _is_current(connection: sqlite3.Connection) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version == len(MIGRATIONS))


def _statements(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit the transaction it runs in."""
    statements, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements


def _is_referred(connection: sqlite3.Connection, upload_id: str) -> bool:
    query = "SELECT 1 FROM part_refs WHERE part_id = ? LIMIT 1"
    return connection.execute(query, (upload_id,)).fetchone() is not None


def _enqueue(connection: sqlite3.Connection, events: Sequence[OutboxEvent]) -> None:
    connection.executemany(
        "INSERT INTO outbox (upload_id, phase, at, upload_offset, metadata, details) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (e.upload_id, e.phase.value, e.at, e.upload_offset, e.metadata, e.details)
            for e in events
        ],
    )


def _to_event(row: tuple[Any, ...]) -> PendingEvent:
    number, upload_id, phase, at, upload_offset, metadata, details, attempts = row
    event = OutboxEvent(
        upload_id=upload_id,
        phase=Phase(phase),
        at=at,
        upload_offset=upload_offset,
        metadata=metadata,
        details=details,
    )
    return PendingEvent(number=number, event=event, attempts=attempts)
