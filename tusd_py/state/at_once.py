"""Reads and commits that are done at once, on the thread that opened this: the event loop's.

The rules:
- Nothing here waits: where another connection writes just now, it is left to the threads.
- A commit is one statement, in a transaction of its own.
- What was committed here last of an upload that still takes bytes is remembered: mostly, the next
  to ask for it is its own client. Somebody else may have changed it since, so it is good for a
  commit alone, which fails then.
- The log is never carried over to the database here, which syncs both; see `wants_checkpoint`.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path

from tusd_py.protocol.errors import StaleGeneration
from tusd_py.protocol.upload import Phase, Upload
from tusd_py.state.interface import NotNow
from tusd_py.state.rows import insert, load, update

_CHECKPOINT_EVERY = 250
"""Commits; each is about four pages of the log, and SQLite's own default is 1,000 pages."""

_RESTART_WITHIN = 100
"""Milliseconds that all commits may have to wait for somebody who reads."""

_MOST_REMEMBERED = 256
"""Records; each takes a KiB, and its metadata, which may have 16."""


class AtOnce:
    """A connection of one thread to a database that others have made."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._durable = False
        self._commits = 0
        self._remembered: dict[str, Upload] = {}

    def open(self, path: Path) -> None:
        """Connects; from now on this belongs to the thread that it was called from."""
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        self._connection.execute("PRAGMA wal_autocheckpoint=0")
        self._set_durable(self._connection, False)

    def close(self) -> None:
        """Disconnects; nothing can be done at once any more."""
        self._remembered.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            # Of a thread that has ended, say; its last reference closes it then.
            with suppress(sqlite3.ProgrammingError):
                connection.close()

    @property
    def wants_checkpoint(self) -> bool:
        """Whether it is time for somebody else to carry the log over, now and then."""
        return self._commits % _CHECKPOINT_EVERY == 0

    def load(self, upload_id: str) -> Upload | None:
        """See `StateStore.load_now`."""
        if self._connection is None:
            raise NotNow
        try:
            return load(self._connection, upload_id)
        except sqlite3.Error as error:
            raise NotNow from error

    def take_remembered(self, upload_id: str) -> Upload | None:
        """See `StateStore.take_remembered`."""
        return self._remembered.pop(upload_id, None)

    def commit(
        self, upload: Upload, *, is_new: bool, before: Upload | None, durable: bool
    ) -> Upload:
        """See `StateStore.commit_now`."""
        if self._connection is None or upload.concat is not None:
            raise NotNow
        try:
            if durable is not self._durable:
                self._set_durable(self._connection, durable)
            if is_new:
                committed = insert(self._connection, upload)
            else:
                committed = self._update(self._connection, upload, before)
        except sqlite3.Error as error:
            raise NotNow from error
        self._commits += 1
        self._remember(committed)
        return committed

    def _update(
        self, connection: sqlite3.Connection, upload: Upload, before: Upload | None
    ) -> Upload:
        try:
            as_read = not upload.paused and upload.max_speed is None
            # Elsewhere it is not looked at whether the record is still the one that was read.
            known = before if as_read else None
            return update(connection, upload, before=known, as_read=as_read)
        except StaleGeneration:
            found = load(connection, upload.id)
            if found is None or found.generation != upload.generation:
                raise
            # Its controls are others, or it is another of the same name.
            raise NotNow from None

    def _remember(self, upload: Upload) -> None:
        self._remembered.pop(upload.id, None)
        if upload.phase is Phase.RECEIVING:
            self._remembered[upload.id] = upload
            if len(self._remembered) > _MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]

    def _set_durable(self, connection: sqlite3.Connection, durable: bool) -> None:
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._durable = durable


def checkpoint(connection: sqlite3.Connection) -> None:
    """Carries the log over to the database, so that it begins anew.

    The first does most of it and is in nobody's way. Commits that come meanwhile would keep the log
    growing for ever, so they wait while the second does the rest: not for long where somebody else
    reads all the time, as the next one may do it.
    """
    connection.execute(f"PRAGMA busy_timeout={_RESTART_WITHIN}")
    for mode in ("PASSIVE", "RESTART"):
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
