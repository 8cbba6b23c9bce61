"""What a record knows of its bytes in a bucket; it is the record's `placement`.

The rules:
- Bytes lie in recorded parts of a multipart upload, one behind the other, and behind them in the
  pieces of the tail: objects of their own, which are less than a part together.
- Numbers of parts and of pieces are reserved here before they are used (see `s3_parts`).
- A multipart upload is intended here before it is begun, so that one whose id was never recorded is
  found and ended, and no other.
- Every piece that may lie in the bucket has a number behind `pieces_gone`, up to `pieces_reserved`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

INTENDED = ""
"""Stands for the id of a multipart upload that may have been begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part, or a piece of the tail: its number, its bytes, and the store's ETag for it."""

    number: int
    size: int
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The state of one upload in a bucket.

    Attributes:
        key: Of the object that the upload becomes.
        multipart: The id of its multipart upload; `INTENDED`, or None for none.
        has_strays: Whether multipart uploads may have been begun and not recorded: of this key, or
            of the one that the store was tried with.
        parts: Recorded ones, in order.
        reserved: The highest part number that may have been used.
        pieces: Of the tail, in order.
        pieces_reserved: The highest number of a piece that may have been used.
        pieces_gone: All pieces up to this number are deleted.
    """

    key: str
    multipart: str | None = None
    has_strays: bool = False
    parts: tuple[Part, ...] = ()
    reserved: int = 0
    pieces: tuple[Part, ...] = ()
    pieces_reserved: int = 0
    pieces_gone: int = 0

    @property
    def size(self) -> int:
        """Bytes in the parts and the tail."""
        return sum_of(self.parts) + sum_of(self.pieces)

    @property
    def last_part(self) -> int:
        """The number of the last recorded part, 0 for none."""
        return self.parts[-1].number if self.parts else 0

    @property
    def has_lost_numbers(self) -> bool:
        """Whether parts may have been sent, behind the last recorded one, that never were."""
        return bool(self.multipart) and self.reserved > self.last_part

    @property
    def dead_pieces(self) -> tuple[int, ...]:
        """Numbers of pieces that may lie in the bucket, and count no more."""
        first = self.pieces[0].number if self.pieces else self.pieces_reserved + 1
        return tuple(range(self.pieces_gone + 1, first))

    @property
    def all_pieces(self) -> tuple[int, ...]:
        """Numbers of all pieces that may lie in the bucket."""
        return tuple(range(self.pieces_gone + 1, self.pieces_reserved + 1))


def sum_of(parts: Iterable[Part]) -> int:
    """Their bytes."""
    return sum(part.size for part in parts)


def build_placement(placement: Placement) -> str:
    """As compact text."""
    return json.dumps(
        {
            "key": placement.key,
            "multipart": placement.multipart,
            "strays": placement.has_strays,
            "parts": [(part.number, part.size, part.etag) for part in placement.parts],
            "reserved": placement.reserved,
            "pieces": [(piece.number, piece.size) for piece in placement.pieces],
            "pieces_reserved": placement.pieces_reserved,
            "pieces_gone": placement.pieces_gone,
        },
        separators=(",", ":"),
    )


def parse_placement(text: str) -> Placement:
    """The reverse of `build_placement`."""
    found = json.loads(text)
    return Placement(
        key=found["key"],
        multipart=found["multipart"],
        has_strays=found["strays"],
        parts=tuple(Part(number=n, size=s, etag=e) for n, s, e in found["parts"]),
        reserved=found["reserved"],
        pieces=tuple(Part(number=n, size=s) for n, s in found["pieces"]),
        pieces_reserved=found["pieces_reserved"],
        pieces_gone=found["pieces_gone"],
    )
