"""What a bucket alone tells of an unfinished upload; nothing here talks to a store.

The rules:
- The piece or the mark with the highest number has the last word. It says which parts and which
  pieces count, as of the moment when it was stored; a piece counts itself.
- Behind that, parts count as long as each has the number after the one before it: they came in
  order from a plain append. So long appends leave no notes, and small ones have them on their
  pieces, at no further call. The first of these parts has taken the tail in.
- Where that would not be so, a mark is stored first. Before a part whose number does not follow, it
  says with which number it goes on. Before bytes that are still to be verified, and before a number
  that the bucket may have another part for, it says that nothing counts before another mark does.
- A mark is told all parts in its body; a piece, whose metadata is short, goes back to a mark.
- Under a key that the application chose there may be multipart uploads of others. There a mark says
  which one it is, before the first part.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tusd_py.storage.s3_placement import Part

NOTE = "tusd-py-note"
"""The metadata of a piece that has its note."""

IS_MARK = "mark"
"""The note of a mark."""

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What counts.

    Attributes:
        runs: Of numbers of parts; see `Chain`.
        pieces: Their numbers.
        expects: The number of the part that counts without another word, 0 for none.
        multipart: The id of the multipart upload, None if there was none yet.
    """

    runs: Runs = ()
    pieces: tuple[int, ...] = ()
    expects: int = 1
    multipart: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What counts as of a piece.

    Attributes:
        mark: What it goes back to: a number, 0 for the beginning.
        is_sealed: Whether only what the mark says counts, and this piece does not.
        last: The last part.
        pieces: Those before this one.
        expects: See `Mark`.
    """

    mark: int
    is_sealed: bool = False
    last: int = 0
    pieces: tuple[int, ...] = ()
    expects: int = 0

    def after(self, mark: Mark, number: int) -> Mark:
        """What counts.

        Args:
            mark: Which this goes back to.
            number: Of the piece.
        """
        if self.is_sealed:
            return mark
        runs = mark.runs
        if 0 < mark.expects <= self.last:
            runs = (*runs, (mark.expects, self.last))
        pieces = (*self.pieces, number)
        return replace(mark, runs=runs, pieces=pieces, expects=self.expects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What counts, with all that followed; `expects` as in `Mark`."""

    parts: tuple[Part, ...]
    pieces: tuple[Part, ...]
    expects: int


def follow(told: Mark, parts: Mapping[int, Part], pieces: Mapping[int, int]) -> Standing:
    """What counts now.

    Args:
        told: As of the last word.
        parts: What lies in the multipart upload, by number.
        pieces: Sizes of pieces, by number.

    Raises:
        KeyError: Something that counts is not there.
    """
    counted = [parts[n] for first, last in told.runs for n in range(first, last + 1)]
    number = told.expects
    while number and number in parts:
        counted.append(parts[number])
        number += 1
    # A part that followed has taken the tail in, and it may be gone since.
    listed = told.pieces if number == told.expects else ()
    tail = tuple(Part(number=n, size=pieces[n]) for n in listed)
    return Standing(parts=tuple(counted), pieces=tail, expects=number)


def build_mark(mark: Mark) -> bytes:
    """The body of a mark."""
    found = {
        "parts": mark.runs,
        "pieces": mark.pieces,
        "expects": mark.expects,
        "multipart": mark.multipart,
    }
    return json.dumps(found, separators=(",", ":")).encode()


def parse_mark(body: bytes) -> Mark:
    """The reverse of `build_mark`."""
    found = json.loads(body)
    return Mark(
        runs=tuple((first, last) for first, last in found["parts"]),
        pieces=tuple(found["pieces"]),
        expects=found["expects"],
        multipart=found["multipart"],
    )


def build_note(note: Note) -> str:
    """The metadata of a piece: some hundred characters at most."""
    found = [note.mark] if note.is_sealed else [note.mark, note.last, note.expects, *note.pieces]
    return " ".join(map(str, found))


def parse_note(text: str) -> Note:
    """The reverse of `build_note`."""
    mark, *rest = map(int, text.split(" "))
    if not rest:
        return Note(mark=mark, is_sealed=True)
    last, expects, *pieces = rest
    return Note(mark=mark, last=last, expects=expects, pieces=tuple(pieces))
