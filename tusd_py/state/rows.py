"""Records as rows of the table `uploads`."""

import json
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from itertools import compress
from operator import attrgetter, is_not, itemgetter
from typing import Any, NamedTuple

from tusd_py.protocol.concat import Concat, build_upload_concat, parse_upload_concat
from tusd_py.protocol.errors import StaleGeneration, UploadExists
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload

_COLUMNS = Upload._fields[: Upload._fields.index("paused")]
"""Those of the table `uploads`; what stands behind them is read from beside it."""

_PLACES = range(len(_COLUMNS))

SELECT = (
    f"SELECT {', '.join(_COLUMNS)}, COALESCE(paused, 0), "  # noqa: S608
    "COALESCE(MIN(max_speed, ceiling), max_speed, ceiling) "
    "FROM uploads LEFT JOIN controls ON upload_id = id"
)
_SELECT_ONE = f"{SELECT} WHERE id = ?"
_PUSH_FINALS = (
    "UPDATE uploads SET expires_at = MAX(expires_at, ?) "
    "WHERE id IN (SELECT final_id FROM part_refs WHERE part_id = ?)"
)


def load(connection: sqlite3.Connection, upload_id: str) -> Upload | None:
    """The record of an upload, None if there is none."""
    row = connection.execute(_SELECT_ONE, (upload_id,)).fetchone()
    return None if row is None else from_row(row)


def insert(connection: sqlite3.Connection, upload: Upload) -> Upload:
    """A new record.

    Raises:
        UploadExists: The id is taken.
    """
    statement = _insert(_differing(upload, _BLANK))
    try:
        connection.execute(statement.sql, statement.values(upload))
    except sqlite3.IntegrityError as error:
        raise UploadExists(upload.id) from error
    return upload


def update(
    connection: sqlite3.Connection,
    upload: Upload,
    *,
    before: Upload | None = None,
    as_read: bool = False,
) -> Upload:
    """Writes a record over its generation: the record with its new one.

    Args:
        connection: To the database.
        upload: What is to be known.
        before: The record as it was read, to write no more than what has changed; None for all.
        as_read: Whether it was read without controls, and must still be without.

    Raises:
        StaleGeneration: There is another one there.
    """
    committed = upload._replace(generation=upload.generation + 1)
    written = _differing(committed, _BLANK if before is None else before)
    statement = _update(written, before is None, as_read)
    values = statement.values(committed)
    values.append(upload.generation)
    if connection.execute(statement.sql, values).rowcount != 1:
        raise StaleGeneration(upload.id)
    if upload.is_partial and upload.is_unfinished:
        connection.execute(_PUSH_FINALS, (upload.expires_at, upload.id))
    return committed


Places = tuple[int, ...]
"""Of some columns among all of them."""


def _differing(upload: Upload, other: Upload) -> Places:
    """The columns in which two records differ, and perhaps some in which they do not."""
    return tuple(compress(_PLACES, map(is_not, upload, other)))


class _Statement(NamedTuple):
    """One that writes some columns of a record.

    Attributes:
        sql: Its text.
        pick: The values of the record that are bound.
        build: Which of these are others in the database, and what they are there.
    """

    sql: str
    pick: Callable[[Upload], tuple[Any, ...]]
    build: list[tuple[int, Callable[[Any], object]]]

    def values(self, upload: Upload) -> list[Any]:
        """What is bound."""
        values = list(self.pick(upload))
        for index, build in self.build:
            if values[index] is not None:
                values[index] = build(values[index])
        return values


def _statement(sql: str, places: Places) -> _Statement:
    build = [(places.index(place), build) for place, build in _BUILD if place in places]
    return _Statement(sql, itemgetter(*places), build)


@lru_cache(maxsize=256)
def _insert(given: Places) -> _Statement:
    values = ", ".join("?" if place in given else _BLANKS[place] for place in _PLACES)
    columns = ", ".join(_COLUMNS)
    return _statement(f"INSERT INTO uploads ({columns}) VALUES ({values})", given)  # noqa: S608


_NEVER_CHANGE = frozenset({"id", "created_at", "principal"})
"""An index that has them is left alone by updates, which nearly all commits are."""

_AS_READ = (
    "created_at = ? AND NOT EXISTS (SELECT 1 FROM controls WHERE upload_id = uploads.id "
    "AND (paused OR COALESCE(max_speed, ceiling) IS NOT NULL)) AND "
)
"""That nobody has put another record in its place, nor paused it, nor limited its speed."""


@lru_cache(maxsize=256)
def _update(given: Places, is_whole: bool, as_read: bool) -> _Statement:
    """With `is_whole` the columns that are not given are as in a blank record, else they stay."""
    may_change = [place for place in _PLACES if _COLUMNS[place] not in _NEVER_CHANGE]
    bound = [place for place in may_change if place in given]
    sets = [
        f"{_COLUMNS[place]} = {'?' if place in bound else _BLANKS[place]}"
        for place in (may_change if is_whole else bound)
    ]
    sql = (
        f"UPDATE uploads SET {', '.join(sets)} "  # noqa: S608
        f"WHERE id = ? AND {_AS_READ if as_read else ''}generation = ?"
    )
    keys = ("id", "created_at") if as_read else ("id",)
    return _statement(sql, (*bound, *map(_COLUMNS.index, keys)))


def _build_reply(reply: Reply) -> str:
    # Of the application: its headers may be any kind of mapping.
    return json.dumps({"status": reply.status, "headers": dict(reply.headers), "body": reply.body})


def from_row(row: tuple[Any, ...]) -> Upload:
    """A row of `SELECT` as a record."""
    values = list(row)
    for index, parse in _PARSE:
        values[index] = parse(values[index])
    return Upload._make(values)


def _build_parts(parts: tuple[str, ...]) -> str | None:
    return json.dumps(parts) if parts else None


def _parse_parts(value: str | None) -> tuple[str, ...]:
    return () if value is None else tuple(json.loads(value))


def _parse_concat(value: str | None) -> Concat | None:
    return None if value is None else parse_upload_concat(value)


def _parse_reply(value: str | None) -> Reply | None:
    return None if value is None else Reply(**json.loads(value))


_PHASES = {phase.value: phase for phase in Phase}
_TAILS = {tail.value: tail for tail in Tail}

_CONVERSIONS: dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]] = {
    "phase": (attrgetter("_value_"), _PHASES.__getitem__),
    "tail": (attrgetter("_value_"), _TAILS.__getitem__),
    "concat": (build_upload_concat, _parse_concat),
    "parts": (_build_parts, _parse_parts),
    "released": (int, bool),
    "paused": (int, bool),
    "reply": (_build_reply, _parse_reply),
}
"""Columns whose values are not those of the record: to the row, and back."""

_BUILD = [
    (_COLUMNS.index(name), pair[0]) for name, pair in _CONVERSIONS.items() if name in _COLUMNS
]
_PARSE = [(Upload._fields.index(name), pair[1]) for name, pair in _CONVERSIONS.items()]

_BLANK = Upload(id="", created_at=0.0)
_BLANKS = [
    "NULL" if value is None else repr(value)
    for value in _statement("", tuple(_PLACES)).values(_BLANK)
]
"""Most columns of most records, as SQL: to bind a value costs more, and a `None` most of all."""
