"""Records as rows of the table `uploads`."""

import json
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from operator import attrgetter
from typing import Any

from tusd_py.protocol.concat import Concat, build_upload_concat, parse_upload_concat
from tusd_py.protocol.errors import StaleGeneration, UploadExists
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload

_COLUMNS = Upload._fields[: Upload._fields.index("paused")]
"""Those of the table `uploads`; what stands behind them is read from beside it."""

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
    try:
        nulls, values = to_row(upload)
        connection.execute(_insert(nulls), values)
    except sqlite3.IntegrityError as error:
        raise UploadExists(upload.id) from error
    return upload


def update(connection: sqlite3.Connection, upload: Upload, *, as_read: bool = False) -> Upload:
    """Writes a record over its generation: the record with its new one.

    Args:
        connection: To the database.
        upload: What is to be known.
        as_read: Whether it was read without controls, and must still be without.

    Raises:
        StaleGeneration: There is another one there.
    """
    committed = upload._replace(generation=upload.generation + 1)
    nulls, values = to_row(committed)
    values.append(upload.generation)
    if connection.execute(_update(nulls, as_read), values).rowcount != 1:
        raise StaleGeneration(upload.id)
    if upload.is_partial and upload.is_unfinished:
        connection.execute(_PUSH_FINALS, (upload.expires_at, upload.id))
    return committed


Nulls = tuple[bool, ...]
"""Which columns of a row are NULL, in their order."""


def to_row(upload: Upload) -> tuple[Nulls, list[Any]]:
    """A record as a row: its NULLs, and the values of the other columns in their order.

    To bind a `None` costs more than all the other values: Python looks for an adapter each time.
    """
    row: list[Any] = list(upload[: len(_COLUMNS)])
    for index, build in _BUILD:
        if row[index] is not None:
            row[index] = build(row[index])
    return tuple([value is None for value in row]), [value for value in row if value is not None]


@lru_cache(maxsize=256)
def _insert(nulls: Nulls) -> str:
    values = ", ".join(map(_bound, nulls))
    return f"INSERT INTO uploads ({', '.join(_COLUMNS)}) VALUES ({values})"  # noqa: S608


_NEVER_CHANGE = frozenset({"id", "created_at", "principal"})
"""An index that has them is left alone by updates, which nearly all commits are."""


_AS_READ = (
    "AND created_at = {created_at} AND NOT EXISTS (SELECT 1 FROM controls "
    "WHERE upload_id = {id} AND (paused OR COALESCE(max_speed, ceiling) IS NOT NULL))"
)
"""That nobody has put another record in its place, nor paused it, nor limited its speed."""


@lru_cache(maxsize=256)
def _update(nulls: Nulls, as_read: bool) -> str:
    numbers = count(1)
    places = {
        name: "NULL" if is_null else f"?{next(numbers)}"
        for name, is_null in zip(_COLUMNS, nulls, strict=True)
    }
    values = ", ".join(f"{name} = {at}" for name, at in places.items() if name not in _NEVER_CHANGE)
    generation = f"?{next(numbers)}"
    return (
        f"UPDATE uploads SET {values} "  # noqa: S608
        f"WHERE id = {places['id']} AND generation = {generation} "
        f"{_AS_READ.format_map(places) if as_read else ''}"
    )


def _bound(is_null: bool) -> str:
    return "NULL" if is_null else "?"


def _build_reply(reply: Reply) -> str:
    # Of the application: its headers may be any kind of mapping.
    return json.dumps({"status": reply.status, "headers": dict(reply.headers), "body": reply.body})


def from_row(row: tuple[Any, ...]) -> Upload:
    """The reverse of `to_row`."""
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
