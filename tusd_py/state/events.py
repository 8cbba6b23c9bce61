"""What has happened to uploads, as it was written down while somebody listened; see `events.sql`.

The rules:
- The transaction that changes an upload writes it down, so nothing is missed and nothing invented.
- Numbers only grow. Where nobody listened for so long that nothing was written down, the next who
  does begins a new stretch, and what was before that is forgotten: a number of then is not known.
"""

import sqlite3

from tusd_py.state.interface import Happened


def open_events(connection: sqlite3.Connection, until: float) -> None:
    """See `StateStore.open_events`."""
    if connection.execute("UPDATE listening SET until = MAX(until, ?)", (until,)).rowcount:
        return
    connection.execute("INSERT INTO listening VALUES (?)", (until,))
    begun = connection.execute(
        "INSERT INTO events (upload_id, kind, at) "
        "VALUES ('', '', (julianday('now') - 2440587.5) * 86400.0)"
    )
    connection.execute("DELETE FROM events WHERE number < ?", (begun.lastrowid,))


def trim_events(connection: sqlite3.Connection, now: float, since: float) -> None:
    """See `StateStore.trim_events`."""
    connection.execute("DELETE FROM listening WHERE until <= ?", (now,))
    # Everything up to there, whatever a clock said: what is left has no gaps. The last one stays,
    # as it says which number was the last.
    connection.execute(
        "DELETE FROM events WHERE number <= (SELECT MAX(number) FROM events WHERE at < ?) "
        "AND number < (SELECT MAX(number) FROM events)",
        (since,),
    )


def events_span(connection: sqlite3.Connection) -> tuple[int, int]:
    """See `StateStore.events_span`."""
    query = "SELECT COALESCE(MIN(number), 0), COALESCE(MAX(number), 0) FROM events"
    first, last = connection.execute(query).fetchone()
    return int(first), int(last)


def events_after(connection: sqlite3.Connection, number: int, limit: int) -> list[Happened]:
    """See `StateStore.events_after`."""
    query = (
        "SELECT number, upload_id, principal, kind, at FROM events "
        "WHERE number > ? ORDER BY number LIMIT ?"
    )
    return [Happened(*row) for row in connection.execute(query, (number, limit))]
