"""What a record knows of its bytes in a bucket; it is the record's `placement`.

The rules:
- Bytes lie in recorded parts of a multipart upload, one behind the other, and behind them in the
  pieces of the tail: objects of their own, which are less than a part together.
- Parts that were sent one after the other are a chain: what is recorded of it does not grow with
  them. The store is asked for them once, at the end, and they must be just those.
- Numbers of parts and of pieces are reserved here before they are used (see `s3_parts`).
- A multipart upload is intended here before it is begun, so that one whose id was never recorded is
  found and ended, and no other.
- Every piece that may lie in the bucket has a number behind `pieces_gone`, up to `pieces_reserved`,
  or is one of `kept`. Marks have numbers of pieces (see `s3_journal`).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

INTENDED = ""
"""Stands for the id of a multipart upload that may have been begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part, or a piece of the tail: its number, its bytes, and the store's ETag for it."""

    number: int
    size: int
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Parts that count, in order, in a form that does not grow with them.

    Attributes:
        runs: Their numbers, upwards: the first and the last of each run without a gap.
        size: Their bytes together.
        first_size: Bytes of the first one.
        digest: Of the numbers, the sizes and the ETags of all of them.
    """

    runs: tuple[tuple[int, int], ...] = ()
    size: int = 0
    first_size: int = 0
    digest: str = ""

    @property
    def last(self) -> int:
        """The number of the last part, 0 for none."""
        return self.runs[-1][1] if self.runs else 0

    def has(self, number: int) -> bool:
        """Whether a part counts."""
        return any(first <= number <= last for first, last in self.runs)

    def plus(self, part: Part) -> "Chain":
        """With a part behind it."""
        runs = self.runs
        if runs and runs[-1][1] + 1 == part.number:
            runs = (*runs[:-1], (runs[-1][0], part.number))
        else:
            runs = (*runs, (part.number, part.number))
        told = f"{self.digest} {part.number} {part.size} {part.etag}"
        return Chain(
            runs=runs,
            size=self.size + part.size,
            first_size=self.first_size or part.size,
            digest=hashlib.sha256(told.encode()).hexdigest(),
        )

    @classmethod
    def of(cls, parts: Iterable[Part]) -> "Chain":
        """Of parts in their order."""
        chain = cls()
        for part in parts:
            chain = chain.plus(part)
        return chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The state of one upload in a bucket.

    Attributes:
        key: Of the object that the upload becomes.
        multipart: The id of its multipart upload; `INTENDED`, or None for none.
        has_strays: Whether multipart uploads may have been begun and not recorded: of this key, or
            of the one that the store was tried with.
        chain: Parts that were sent, in order.
        parts: Of a final upload, in order: each with its ETag, which a store may not tell later.
        reserved: The highest part number that may have been used.
        pieces: Of the tail, in order.
        pieces_reserved: The highest number of a piece that may have been used.
        pieces_gone: All pieces up to this number are deleted, but for `kept`.
        kept: See `pieces_gone`.
        expects: The part that the bucket alone says is next; 0 if nothing that follows counts
            before a mark says so.
        mark: The number of the mark that this goes back to, 0 for none.
        newest: The highest number of a piece or a mark that was stored, 0 for none.
    """

    key: str
    multipart: str | None = None
    has_strays: bool = False
    chain: Chain = field(default_factory=Chain)
    parts: tuple[Part, ...] = ()
    reserved: int = 0
    pieces: tuple[Part, ...] = ()
    pieces_reserved: int = 0
    pieces_gone: int = 0
    kept: tuple[int, ...] = ()
    expects: int = 1
    mark: int = 0
    newest: int = 0

    @property
    def size(self) -> int:
        """Bytes in the parts and the tail."""
        return self.chain.size + sum_of(self.parts) + sum_of(self.pieces)

    def chained(self, found: Iterable[Part]) -> tuple[Part, ...] | None:
        """The parts of the chain, None if they are not just those that were recorded.

        Args:
            found: What lies in the multipart upload, in order.
        """
        parts = tuple(part for part in found if self.chain.has(part.number))
        return parts if Chain.of(parts) == self.chain else None

    @property
    def has_parts(self) -> bool:
        """Whether it has a part in its multipart upload."""
        return bool(self.chain.runs or self.parts)

    @property
    def last_part(self) -> int:
        """The number of the last recorded part, 0 for none."""
        return self.parts[-1].number if self.parts else self.chain.last

    @property
    def has_lost_numbers(self) -> bool:
        """Whether parts may have been sent, behind the last recorded one, that never were."""
        return bool(self.multipart) and self.reserved > self.last_part

    @property
    def dead_pieces(self) -> tuple[int, ...]:
        """Numbers of pieces and marks that may lie in the bucket, and are needed no more.

        What was stored behind `newest`, and is not on record, may have the last word there.
        """
        found = (*self.kept, *range(self.pieces_gone + 1, self._first_needed))
        return tuple(number for number in found if number != self.mark)

    @property
    def all_pieces(self) -> tuple[int, ...]:
        """Numbers of all pieces and marks that may lie in the bucket."""
        return (*self.kept, *range(self.pieces_gone + 1, self.pieces_reserved + 1))

    def without_dead_pieces(self) -> Self:
        """After those are deleted."""
        gone = max(self.pieces_gone, self._first_needed - 1)
        return replace(self, pieces_gone=gone, kept=(self.mark,) if 0 < self.mark <= gone else ())

    @property
    def _first_needed(self) -> int:
        return self.pieces[0].number if self.pieces else self.newest


def sum_of(parts: Iterable[Part]) -> int:
    """Their bytes."""
    return sum(part.size for part in parts)


def build_placement(placement: Placement) -> str:
    """As compact text."""
    chain = placement.chain
    return json.dumps(
        {
            "key": placement.key,
            "multipart": placement.multipart,
            "strays": placement.has_strays,
            "chain": (chain.runs, chain.size, chain.first_size, chain.digest),
            "parts": [(part.number, part.size, part.etag) for part in placement.parts],
            "reserved": placement.reserved,
            "pieces": [(piece.number, piece.size) for piece in placement.pieces],
            "pieces_reserved": placement.pieces_reserved,
            "pieces_gone": placement.pieces_gone,
            "kept": placement.kept,
            "expects": placement.expects,
            "mark": placement.mark,
            "newest": placement.newest,
        },
        separators=(",", ":"),
    )


def parse_placement(text: str) -> Placement:
    """The reverse of `build_placement`."""
    found = json.loads(text)
    runs, size, first_size, digest = found["chain"]
    return Placement(
        key=found["key"],
        multipart=found["multipart"],
        has_strays=found["strays"],
        chain=Chain(
            runs=tuple((first, last) for first, last in runs),
            size=size,
            first_size=first_size,
            digest=digest,
        ),
        parts=tuple(Part(number=n, size=s, etag=e) for n, s, e in found["parts"]),
        reserved=found["reserved"],
        pieces=tuple(Part(number=n, size=s) for n, s in found["pieces"]),
        pieces_reserved=found["pieces_reserved"],
        pieces_gone=found["pieces_gone"],
        kept=tuple(found["kept"]),
        expects=found["expects"],
        mark=found["mark"],
        newest=found["newest"],
    )
