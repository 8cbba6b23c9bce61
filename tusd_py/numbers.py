"""Numbers with names, which several processes write down side by side, and each can read of all.

The rules:
- A process writes to its own row alone: nobody waits for a lock, and to add costs what it costs in
  a list. A number has eight bytes and is never seen half-written.
- The rows lie in memory that the workers inherit from their parent. What a worker has counted stays
  when it is killed, and whoever takes its place goes on from there: no counter ever goes down.
- A name and the room for its numbers are written before the count of names tells of them.
"""

import logging
import mmap
import struct
from collections.abc import MutableSequence
from typing import cast

logger = logging.getLogger("tusd_py")

Name = tuple[str, ...]
"""Such as `("errors", "409", "ERR_MISMATCHED_OFFSET")`."""

_MOST_NAMES = 1024
_MOST_VALUES = 2048
_SPARE = 16
"""Numbers at the end of a row that nobody reads; for a name that finds no room."""

_LONGEST = 62
_ENTRY = struct.Struct(f"<H{_LONGEST}s")
_ROW = (1 + _MOST_VALUES) * 8 + _MOST_NAMES * _ENTRY.size


class Numbers:
    """The numbers of a process that is alone.

    Attributes:
        values: All of them, to be read and written at the places that `find` tells.
    """

    def __init__(self) -> None:
        self.values: MutableSequence[float] = []
        self._places: dict[Name, tuple[int, int]] = {}

    def find(self, *name: str, count: int = 1) -> int:
        """The place of the first number of a name; new ones are zero.

        Args:
            name: Whose.
            count: How many there are, one behind the other; always the same for a name.
        """
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = (self._add(name, count), count)
        return place[0]

    def rows(self) -> list[dict[Name, list[float]]]:
        """The numbers of each process by name."""
        return [
            {
                name: list(self.values[first : first + count])
                for name, (first, count) in self._places.items()
            }
        ]

    def _add(self, name: Name, count: int) -> int:
        first = len(self.values)
        self.values.extend([0.0] * count)
        return first


class Board:
    """Rows for some processes, in memory that those have which are forked from this one.

    Args:
        rows: How many.
    """

    def __init__(self, rows: int) -> None:
        self._memory = mmap.mmap(-1, rows * _ROW)
        whole = memoryview(self._memory)
        self._rows = [whole[at : at + _ROW] for at in range(0, rows * _ROW, _ROW)]

    def take(self, row: int) -> Numbers:
        """The numbers of the process that has this row from now on, as an earlier one left them."""
        return _Shared(self._rows, row)


class _Shared(Numbers):
    def __init__(self, rows: list[memoryview], row: int) -> None:
        super().__init__()
        self._rows = rows
        self._entries = rows[row][-_MOST_NAMES * _ENTRY.size :]
        numbers = rows[row][: -_MOST_NAMES * _ENTRY.size].cast("d")
        self._known, self.values = numbers[:1], cast("MutableSequence[float]", numbers[1:])
        self._places = _places(rows[row])
        self._used = sum(count for _, count in self._places.values())

    def rows(self) -> list[dict[Name, list[float]]]:
        """See `Numbers.rows`."""
        return [_read(row) for row in self._rows]

    def _add(self, name: Name, count: int) -> int:
        number, first, text = int(self._known[0]), self._used, "\t".join(name).encode()
        has_room = number < _MOST_NAMES and first + count <= _MOST_VALUES - _SPARE
        if not has_room or len(text) > _LONGEST:
            logger.warning("%s is not counted: there is no room for it", " ".join(name))
            return _MOST_VALUES - _SPARE
        _ENTRY.pack_into(self._entries, number * _ENTRY.size, count, text)
        self._used += count
        self._known[0] = number + 1
        return first


def _places(row: memoryview) -> dict[Name, tuple[int, int]]:
    known = int(row[:8].cast("d")[0])
    entries = row[-_MOST_NAMES * _ENTRY.size :]
    places: dict[Name, tuple[int, int]] = {}
    first = 0
    for number in range(known):
        count, text = _ENTRY.unpack_from(entries, number * _ENTRY.size)
        places[tuple(text.rstrip(b"\0").decode().split("\t"))] = (first, count)
        first += count
    return places


def _read(row: memoryview) -> dict[Name, list[float]]:
    values = row[8 : 8 + _MOST_VALUES * 8].cast("d")
    return {
        name: [float(each) for each in values[first : first + count]]
        for name, (first, count) in _places(row).items()
    }
