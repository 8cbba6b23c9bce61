"""Uploads from the newest on, as a page for people asks for them."""

import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from tusd_py.protocol.upload import Upload
from tusd_py.state.interface import Owners, Page
from tusd_py.state.rows import SELECT, from_row

_MOST_EXAMINED = 2000
"""Records that are looked at for one page, so that nobody else waits for long."""


def newest(
    connection: sqlite3.Connection,
    owners: Owners,
    wanted: Callable[[Upload], bool],
    after: tuple[float, str] | None,
    limit: int,
) -> Page:
    """See `StateStore.newest`."""
    found: list[Upload] = []
    last: Upload | None = None
    for last in islice(_merged(connection, owners, after), _MOST_EXAMINED):
        if wanted(last):
            found.append(last)
        if len(found) == limit:
            break
    else:
        seen = last is not None and _has_more(connection, owners, _place(last))
        return Page(found, _place(last) if last is not None and seen else None)
    return Page(found, _place(last))


def _place(upload: Upload) -> tuple[float, str]:
    return upload.created_at, upload.id


def _has_more(connection: sqlite3.Connection, owners: Owners, after: tuple[float, str]) -> bool:
    return next(_merged(connection, owners, after), None) is not None


def _merged(
    connection: sqlite3.Connection, owners: Owners, after: tuple[float, str] | None
) -> Iterator[Upload]:
    # Two walks along two indexes, where one for either condition would have to sort.
    nobodys = _uploads(connection, "principal IS NULL", (), after)
    if owners.has_all:
        theirs = _uploads(connection, "principal IS NOT NULL", (), after)
    else:
        theirs = _uploads(connection, "principal = ?", (owners.principal,), after)
    return heapq.merge(theirs, nobodys, key=_place, reverse=True)


def _uploads(
    connection: sqlite3.Connection,
    condition: str,
    values: tuple[str, ...],
    after: tuple[float, str] | None,
) -> Iterator[Upload]:
    query = f"{SELECT} WHERE {condition} {{}} ORDER BY created_at DESC, id DESC"
    behind = "" if after is None else "AND (created_at, id) < (?, ?)"
    rows: Iterable[tuple[object, ...]] = connection.execute(
        query.format(behind), (*values, *(after or ()))
    )
    return map(from_row, rows)
