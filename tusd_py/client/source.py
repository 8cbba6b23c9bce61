"""The bytes of one upload: a stretch of a file, or a pipe."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from tusd_py.client.errors import StreamGone
from tusd_py.client.files import OpenFile

PIECE = 256 * 1024
"""Bytes that are read, and handed to the socket, at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What one PATCH carries.

    Args:
        start: offset in the upload.
        count: bytes.
        length: of the whole upload; None while nobody can know it.
    """

    start: int
    count: int
    length: int | None


class Source(Protocol):
    """Bytes that can be asked for again from any offset the server may name."""

    @property
    def length(self) -> int | None:
        """Bytes of the whole upload; None for a pipe."""
        ...

    def span(self, offset: int) -> Span:
        """What the PATCH at this offset should carry."""
        ...

    def pieces(self, span: Span) -> Iterator[bytes]:
        """The bytes of a span, exactly, each time it is called."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of a file, or all of it.

    Args:
        file: must stay open.
        start: where it begins in the file, in bytes.
        length: of the stretch, in bytes.
        chunk_size: bytes per PATCH, at most; None: all that is left.
    """

    file: OpenFile
    start: int
    length: int
    chunk_size: int | None

    def span(self, offset: int) -> Span:
        """All that is left, or one chunk."""
        left = self.length - offset
        count = left if self.chunk_size is None else min(left, self.chunk_size)
        return Span(start=offset, count=count, length=self.length)

    def pieces(self, span: Span) -> Iterator[bytes]:
        """Read as they are asked for; see `OpenFile.read` for what may be raised."""
        offset, left = self.start + span.start, span.count
        while left:
            piece = self.file.read(offset, min(left, PIECE))
            yield piece
            offset += len(piece)
            left -= len(piece)


def stretches(file: OpenFile, count: int, chunk_size: int | None) -> list[Stretch]:
    """Cuts a file into stretches of nearly the same size, in their order."""
    edges = [file.size * index // count for index in range(count + 1)]
    return [
        Stretch(file=file, start=start, length=end - start, chunk_size=chunk_size)
        for start, end in itertools.pairwise(edges)
    ]


@dataclass(slots=True, kw_only=True)
class Pipe:
    """A stream that can be read once: one chunk of it is kept until the server has it.

    Args:
        stream: read to its end.
        chunk_size: bytes that are kept, and sent per PATCH.
    """

    stream: BinaryIO
    chunk_size: int
    length: None = None
    _kept: bytearray = field(default_factory=bytearray)
    _kept_from: int = 0
    _ended: bool = False

    def span(self, offset: int) -> Span:
        """Lets go of what the server has, and reads on until a chunk is full.

        Raises:
            StreamGone: the server has less than it had, or more than was ever sent.
        """
        stored = offset - self._kept_from
        if not 0 <= stored <= len(self._kept):
            raise StreamGone(offset, self._kept_from)
        del self._kept[:stored]
        self._kept_from = offset
        self._fill()
        length = offset + len(self._kept) if self._ended else None
        return Span(start=offset, count=len(self._kept), length=length)

    def _fill(self) -> None:
        while not self._ended and (room := self.chunk_size - len(self._kept)):
            data = self.stream.read(min(room, PIECE))
            self._kept += data
            self._ended = not data

    def pieces(self, span: Span) -> Iterator[bytes]:
        """From memory."""
        for start in range(0, span.count, PIECE):
            yield bytes(self._kept[start : min(start + PIECE, span.count)])
