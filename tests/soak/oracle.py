"""What must lie on the server, byte for byte, whatever clients and servers went through.

The rules:
- `told` is the last offset that the server told; it never goes down.
- An attempt begins at `told`, and brings bytes of its own. What it may bring is between nothing and
  what was sent of it; with a checksum it is nothing or all; with a wrong one it is nothing.
- When an offset is told, the bytes up to it are those of exactly one attempt that was made at the
  offset before. Which one, the stored bytes tell at once; from then on they must stay.
- An attempt that was answered brings nothing more after the next answer to a `HEAD`.
"""

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.soak.content import Stream
from tests.wire.fuzz_connection import Wrong

Read = Callable[[int, int], Iterable[bytes | memoryview]]
"""The stored bytes from one offset to another."""


class Counts(enum.Enum):
    """What of an attempt may count."""

    AS_FAR_AS_IT_CAME = enum.auto()
    ONLY_WHOLE = enum.auto()
    NOT = enum.auto()


@dataclass
class Attempt:
    """One request that brings bytes.

    Attributes:
        number: Of all attempts of this upload.
        start: The offset in the upload.
        length: Bytes that it announces, or would bring in the end.
        stream: Those bytes.
        counts: What of them may count.
        sent: At most so many of them were handed to the network.
        is_whole: Whether its last byte may have been, with whatever comes behind it.
        is_answered: Whether the server has said what came of it.
    """

    number: int
    start: int
    length: int
    stream: Stream
    counts: Counts
    sent: int = 0
    is_whole: bool = False
    is_answered: bool = False

    def may_bring(self, count: int) -> bool:
        """Whether so many bytes, one at least, may be there by it."""
        if self.counts is Counts.AS_FAR_AS_IT_CAME:
            return count <= self.sent
        return self.counts is Counts.ONLY_WHOLE and self.is_whole and count == self.length

    def __str__(self) -> str:
        whole = ", whole" if self.is_whole else ""
        return (
            f"attempt {self.number} at {self.start}: {self.sent} of {self.length} sent{whole}, "
            f"counts {self.counts.name.lower()}{', answered' if self.is_answered else ''}"
        )


@dataclass(frozen=True)
class Segment:
    """Bytes that are on the server for good, and by which attempt."""

    start: int
    end: int
    attempt: Attempt

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """Some of them; offsets are the upload's."""
        return self.attempt.stream.pieces(start - self.start, end - self.start)

    def __str__(self) -> str:
        return f"[{self.start}, {self.end}) by attempt {self.attempt.number}"


@dataclass
class Known:
    """All that is known of one upload.

    Attributes:
        name: Of the upload, for `stream`.
        stream: Makes the bytes of an attempt from its name.
    """

    name: str
    stream: Callable[[str], Stream]
    told: int = 0
    segments: list[Segment] = field(default_factory=list)
    _tried: list[Attempt] = field(default_factory=list)
    _attempts: int = 0

    def attempt(self, length: int, counts: Counts) -> Attempt:
        """A new one, at the offset that was told."""
        self._attempts += 1
        made = Attempt(
            number=self._attempts,
            start=self.told,
            length=length,
            stream=self.stream(f"{self.name}, attempt {self._attempts}"),
            counts=counts,
        )
        self._tried.append(made)
        return made

    def refused(self, attempt: Attempt) -> None:
        """The server said that nothing of it counts."""
        if attempt in self._tried:
            self._tried.remove(attempt)
        elif any(segment.attempt is attempt for segment in self.segments):
            raise Wrong(f"{attempt} was refused, and its bytes are there: {self}")

    def acknowledged(self, attempt: Attempt, offset: int) -> None:
        """The server said that all of it counts, and told an offset."""
        end = attempt.start + attempt.length
        # Of nothing a server may say what it likes, but where it stands.
        counts = attempt.counts is not Counts.NOT and attempt.is_whole
        if offset != end or (attempt.length and not counts):
            raise Wrong(f"acknowledged with {offset}: {attempt}; {self}")
        if self.told == attempt.start:
            self._move(attempt, offset)
        elif attempt.length and not any(
            s.attempt is attempt and s.end == end for s in self.segments
        ):
            raise Wrong(f"acknowledged, while other bytes are there: {attempt}; {self}")

    def found(self, offset: int, read: Read) -> None:
        """A `HEAD` told an offset; answered attempts are those that were before it was asked.

        Args:
            offset: What was told.
            read: The stored bytes.

        Raises:
            Wrong: It went back, or what is there was brought by no attempt.
        """
        if offset < self.told:
            raise Wrong(f"the offset went back to {offset}: {self}")
        if offset == self.told:
            self._tried = [attempt for attempt in self._tried if not attempt.is_answered]
            return
        count = offset - self.told
        able = [attempt for attempt in self._tried if attempt.may_bring(count)]
        for attempt in able:
            pieces = attempt.stream.pieces(0, count)
            if differs_at(pieces, read(self.told, offset)) is None:
                self._move(attempt, offset)
                return
        why = "holds the bytes of none that may be there" if able else "nobody brought so much"
        raise Wrong(f"{offset} was told: {why}; {self}")

    def pieces(self) -> Iterator[memoryview]:
        """What must be there, from the first byte to `told`."""
        for segment in self.segments:
            yield from segment.pieces(segment.start, segment.end)

    def holder(self, at: int) -> Segment | None:
        """Whose byte it is."""
        return next((s for s in self.segments if s.start <= at < s.end), None)

    def _move(self, attempt: Attempt, offset: int) -> None:
        if offset > self.told:
            self.segments.append(Segment(self.told, offset, attempt))
            self._tried.clear()
        elif attempt in self._tried:
            self._tried.remove(attempt)
        self.told = offset

    def __str__(self) -> str:
        return "; ".join(
            [
                f"told {self.told}",
                "there: " + (", ".join(map(str, self.segments)) or "nothing"),
                "tried there: " + (", ".join(map(str, self._tried)) or "nothing"),
            ]
        )


def differs_at(
    expected: Iterable[bytes | memoryview], found: Iterable[bytes | memoryview]
) -> int | None:
    """The first byte in which two streams differ, or None; a missing byte differs."""
    at = 0
    left = right = memoryview(b"")
    one, other = iter(expected), iter(found)
    while True:
        left = left or memoryview(next(one, b""))
        right = right or memoryview(next(other, b""))
        count = min(len(left), len(right))
        if left[:count] != right[:count]:
            return at + next(n for n in range(count) if left[n] != right[n])
        if not count:
            return None if not left and not right else at
        at, left, right = at + count, left[count:], right[count:]
