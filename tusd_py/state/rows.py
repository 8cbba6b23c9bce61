"""Records as rows of the table `uploads`."""

import json
import sqlite3
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from tusd_py.protocol.concat import Concat, build_upload_concat, parse_upload_concat
from tusd_py.protocol.errors import StaleGeneration, UploadExists
from tusd_py.protocol.upload import FIELDS, Phase, Reply, Tail, Upload, changed, made_of, values_of

SELECT = f"SELECT {', '.join(FIELDS)} FROM uploads"  # noqa: S608
_SELECT_ONE = f"{SELECT} WHERE id = ?"
_INSERT = f"INSERT INTO uploads ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})"  # noqa: S608
_UPDATE = (
    f"UPDATE uploads SET {', '.join(f'{name} = ?' for name in FIELDS)} "  # noqa: S608
    "WHERE id = ? AND generation = ?"
)
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
        connection.execute(_INSERT, to_row(upload))
    except sqlite3.IntegrityError as error:
        raise UploadExists(upload.id) from error
    return upload


def update(connection: sqlite3.Connection, upload: Upload) -> Upload:
    """Writes a record over its generation: the record with its new one.

    Raises:
        StaleGeneration: There is another one there.
    """
    committed = changed(upload, generation=upload.generation + 1)
    row = (*to_row(committed), upload.id, upload.generation)
    if connection.execute(_UPDATE, row).rowcount != 1:
        raise StaleGeneration(upload.id)
    if upload.is_partial and upload.is_unfinished:
        connection.execute(_PUSH_FINALS, (upload.expires_at, upload.id))
    return committed


def to_row(upload: Upload) -> tuple[Any, ...]:
    """A record as the values of its row, in the order of the columns."""
    values = list(values_of(upload))
    for index, build in _BUILD:
        if values[index] is not None:
            values[index] = build(values[index])
    return tuple(values)


def _build_reply(reply: Reply) -> str:
    # Of the application: its headers may be any kind of mapping.
    return json.dumps({"status": reply.status, "headers": dict(reply.headers), "body": reply.body})


def from_row(row: tuple[Any, ...]) -> Upload:
    """The reverse of `to_row`."""
    values = list(row)
    for index, parse in _PARSE:
        values[index] = parse(values[index])
    return made_of(values)


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
    "phase": (attrgetter("value"), _PHASES.__getitem__),
    "tail": (attrgetter("value"), _TAILS.__getitem__),
    "concat": (build_upload_concat, _parse_concat),
    "parts": (_build_parts, _parse_parts),
    "released": (int, bool),
    "reply": (_build_reply, _parse_reply),
}
"""Columns whose values are not those of the record: to the row, and back."""

_BUILD = [(FIELDS.index(name), pair[0]) for name, pair in _CONVERSIONS.items()]
_PARSE = [(FIELDS.index(name), pair[1]) for name, pair in _CONVERSIONS.items()]
