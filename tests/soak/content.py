"""What attempts send: bytes of their own for each, at no cost.

All of them are read from one pool of random bytes, each beginning at a place of its own. So two
attempts differ wherever both have bytes, and bytes in the wrong place differ from the right ones.
The pool is no round number long, or a misplacement by a round number would not show.
"""

import hashlib
import random
from collections.abc import Iterator

PIECE = 1 << 18
_POOL = (1 << 24) + 4099


class Pool:
    """Random bytes that are read in a circle."""

    def __init__(self, seed: str) -> None:
        self._bytes = memoryview(random.Random(seed).randbytes(_POOL))

    def pieces(self, start: int, count: int) -> Iterator[memoryview]:
        """So many bytes from a place on, in pieces of some size."""
        while count:
            start %= _POOL
            piece = self._bytes[start : start + min(count, PIECE)]
            yield piece
            start += len(piece)
            count -= len(piece)


class Stream:
    """The bytes of one attempt.

    Args:
        pool: Where they are from.
        name: Of the attempt, and of no other.
    """

    def __init__(self, pool: Pool, name: str) -> None:
        self._pool = pool
        self._start = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """Its bytes from one to another, counted from the first that the attempt sends."""
        return self._pool.pieces(self._start + start, end - start)
