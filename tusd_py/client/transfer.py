"""One upload, from its creation to its last byte, through whatever happens on the way.

Rules:

- The server's word on the offset is the only one: after anything but a success, it is asked.
- No byte is sent that the server's last word counted as stored.
- The URL is stored before the first byte is sent.
- Waiting ends with progress, with the user's patience, or with Ctrl-C.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tusd_py.client.errors import Gone, Mismatch, Passing, Refused, Stopped
from tusd_py.client.link import Link
from tusd_py.client.patience import Patience
from tusd_py.client.resume import Slot
from tusd_py.client.source import Source, Span
from tusd_py.client.uploads import Position, append, create, locate
from tusd_py.protocol.checksum import ALGORITHMS, Checksum, build_upload_checksum
from tusd_py.protocol.headers import build_upload_length

MADE_ANEW_AT_MOST = 3
"""Uploads that are made in place of lost ones, in one run."""
MISMATCHES_AT_MOST = 5
"""Times in a row that one chunk may arrive damaged."""


class Meter(Protocol):
    """Is told how far a file has come; from any thread."""

    def moved(self, count: int) -> None:
        """Bytes were handed to the network."""
        ...

    def placed(self, difference: int) -> None:
        """The server's word differs from what was thought, by this many bytes."""
        ...


@dataclass(slots=True, kw_only=True)
class Gauge:
    """Where one upload stands as far as we know, and how many bytes this run has sent.

    Args:
        meter: of the file, which may have several gauges.
        stop: when it is set, no further piece is sent.
        sent: bytes, in this run.
        offset: bytes that the server should have.
    """

    meter: Meter
    stop: threading.Event
    sent: int = 0
    offset: int = 0

    def unless_stopped(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Passes the pieces on; raises `Stopped` between two of them."""
        for piece in pieces:
            if self.stop.is_set():
                raise Stopped
            yield piece

    def counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same, and counts them as sent."""
        for piece in self.unless_stopped(pieces):
            yield piece
            self.sent += len(piece)
            self.offset += len(piece)
            self.meter.moved(len(piece))

    def place(self, offset: int) -> None:
        """The server has told the offset."""
        if offset != self.offset:
            self.meter.placed(offset - self.offset)
            self.offset = offset


@dataclass(slots=True, kw_only=True)
class Transfer:
    """Sends one source to one upload.

    Args:
        link: used by this transfer alone while it runs.
        endpoint: where uploads are made.
        creation: headers of the POST, `Upload-Length` among them.
        source: the bytes.
        slot: where the URL is kept; the caller removes it.
        patience: for this transfer alone.
        gauge: for this transfer alone.
        checksum: algorithm for each chunk, or None.
    """

    link: Link
    endpoint: str
    creation: Mapping[str, str]
    source: Source
    slot: Slot
    patience: Patience
    gauge: Gauge
    checksum: str | None = None
    url: str = field(default="", init=False)
    resumed_from: int = field(default=0, init=False)
    _reached: int = field(default=0, init=False)
    _made: int = field(default=0, init=False)
    _mismatches: int = field(default=0, init=False)

    def run(self) -> None:
        """Sends what the server does not have; then `url` is that of the complete upload.

        Raises:
            SendError: see its tree; what the server has can be resumed by running again.
        """
        position = self._begin()
        self.resumed_from = position.offset
        while not position.is_complete:
            position = self._placed(self._step(position))

    def _begin(self) -> Position:
        stored = self.slot.load()
        if stored is None:
            return self._create()
        self.url = stored
        return self._placed(self._locate())

    def _step(self, position: Position) -> Position:
        """One PATCH, or what its failure asks for."""
        try:
            return self._patch(position)
        except Gone as gone:
            if gone.status == 403:  # a verdict on these bytes, or on us, and not on the URL
                raise Refused(gone.status, gone.sentence) from gone
            return self._create_anew(gone)
        except Mismatch as mismatch:
            self._mismatches += 1
            if self._mismatches >= MISMATCHES_AT_MOST:
                raise Refused(mismatch.status, _damaged(mismatch)) from mismatch
            return position
        except Passing as trouble:
            self.patience.wait(trouble)
            return self._locate()

    def _patch(self, position: Position) -> Position:
        span = self.source.span(position.offset)
        offset = append(
            self.link,
            self.url,
            self._patch_headers(position, span),
            start=span.start,
            count=span.count,
            body=self.gauge.counted(self.source.pieces(span)),
        )
        return Position(offset=offset, length=span.length)

    def _patch_headers(self, position: Position, span: Span) -> dict[str, str]:
        headers = {}
        if self.checksum is not None:
            headers["Upload-Checksum"] = self._digested(self.checksum, span)
        if position.length is None and span.length is not None:
            # "the Client MUST set the Upload-Length header in the next PATCH request, once the
            # length is known" ("Creation, POST")
            headers["Upload-Length"] = build_upload_length(span.length)
        return headers

    def _digested(self, algorithm: str, span: Span) -> str:
        digest = ALGORITHMS[algorithm][0]()
        for piece in self.gauge.unless_stopped(self.source.pieces(span)):
            digest.update(piece)
        return build_upload_checksum(Checksum(algorithm=algorithm, digest=digest.digest()))

    def _placed(self, position: Position) -> Position:
        """Takes note of the server's word."""
        self.gauge.place(position.offset)
        if position.offset > self._reached:
            self.patience.progressed()
            self._mismatches = 0
        self._reached = position.offset
        return position

    def _locate(self) -> Position:
        """Where the upload stands; a new one when it stands nowhere."""
        try:
            position = self.patience.through(lambda: locate(self.link, self.url))
        except Gone as gone:
            return self._create_anew(gone)
        length = self.source.length
        if length is None:
            return position
        if position.offset > length or position.length not in (length, None):
            return self._create_anew(Gone(404, "the upload at this URL is another one"))
        return Position(offset=position.offset, length=length)

    def _create_anew(self, gone: Gone) -> Position:
        """'In both cases the Client SHOULD start a new upload' ("Expiration")."""
        if self._made > MADE_ANEW_AT_MOST:
            raise Refused(gone.status, gone.sentence) from gone
        return self._create()

    def _create(self) -> Position:
        self.url = self.patience.through(lambda: create(self.link, self.endpoint, self.creation))
        self._made += 1
        self._reached = 0
        if self.source.length != 0:
            self.slot.save(self.url)
        return Position(offset=0, length=self.source.length)


def _damaged(mismatch: Mismatch) -> str:
    return f"{mismatch.sentence} ({MISMATCHES_AT_MOST} times in a row)".strip()
