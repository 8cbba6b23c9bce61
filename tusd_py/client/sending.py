"""One file, or a pipe: as one upload, or in parts that are put together at the end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tusd_py.client.errors import FileChanged, Passing, Refused
from tusd_py.client.files import Found, OpenFile
from tusd_py.client.link import Access, Link
from tusd_py.client.patience import Patience
from tusd_py.client.resume import NoSlot, ResumeStore, Slot, fingerprint
from tusd_py.client.server import Server
from tusd_py.client.source import Pipe, Source, Stretch, stretches
from tusd_py.client.threads import run_all
from tusd_py.client.transfer import Gauge, Meter, Transfer
from tusd_py.client.uploads import create, locate
from tusd_py.protocol.concat import Final, Partial, build_upload_concat
from tusd_py.protocol.headers import build_upload_length
from tusd_py.protocol.metadata import build_upload_metadata

SMALLEST_PART = 1024 * 1024
"""Bytes: a file is not cut into parts smaller than this."""
CHECKSUM_CHUNK = 64 * 1024 * 1024
"""Bytes per PATCH when there are checksums: what is sent again after a damage."""
PIPE_CHUNK = 8 * 1024 * 1024
"""Bytes of a pipe that are kept in memory until the server has them."""
VERDICTS_ON_US = frozenset({401, 403, 407, 460})
"""Refusals after which the upload itself may still be gone on with, by another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How everything is to be sent.

    Args:
        endpoint: where uploads are made; without user and password.
        metadata: on top of what a file's name tells.
        parallel: parts per file, at most.
        chunk_size: bytes per PATCH; None: as many as possible.
        checksum: algorithm, or None.
        retry_for: seconds without progress until a file is given up; None: never.
        store: where URLs are kept; None: nowhere.
    """

    endpoint: str
    metadata: Mapping[str, bytes]
    parallel: int = 1
    chunk_size: int | None = None
    checksum: str | None = None
    retry_for: float | None = None
    store: ResumeStore | None = None

    @property
    def bytes_per_patch(self) -> int | None:
        """The chunk size, or the default that goes with checksums."""
        if self.chunk_size is None and self.checksum is not None:
            return CHECKSUM_CHUNK
        return self.chunk_size

    def require(self, server: Server, *, pipe: bool) -> None:
        """Raises `Unsuitable` when the server lacks what these flags need."""
        if self.checksum is not None:
            server.require_algorithm(self.checksum)
        if self.parallel > 1:
            server.require("concatenation", "--parallel")
        if pipe:
            server.require("creation-defer-length", "sending standard input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A finished upload.

    Args:
        file: as the user wrote it; `-` for standard input.
        url: of the upload, absolute.
        size: bytes.
        seconds: that it took in this run.
        resumed_from: bytes that the server had before this run.
        sent: bytes that this run handed to the network, including those that got lost there.
    """

    file: str
    url: str
    size: int
    seconds: float
    resumed_from: int
    sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends files, one per call; may be called from several threads.

    Args:
        manner: how.
        server: what it announced.
        access: for the connections of parts.
        stop: set when the user wants to stop.
    """

    manner: Manner
    server: Server
    access: Access
    stop: threading.Event

    def send_file(
        self, found: Found, link: Link, meter: Meter, notice: Callable[[Passing], None]
    ) -> Sent:
        """Sends a file; goes on where an earlier run was stopped.

        Args:
            found: which.
            link: used by nobody else meanwhile.
            meter: is told of the progress.
            notice: is told what is being waited out.

        Raises:
            SendError: see its tree.
        """
        started = time.monotonic()
        with OpenFile.open(found.path) as file:
            self.server.require_room_for(file.size)
            metadata = {**found.metadata(), **self.manner.metadata}
            with self._slots(found.path, file, metadata) as slots:
                delivery = _Delivery(self, link, meter, notice, metadata)
                delivery.deliver(file, slots)
        return delivery.receipt(str(found.path), file.size, time.monotonic() - started)

    def send_pipe(
        self, stream: BinaryIO, link: Link, meter: Meter, notice: Callable[[Passing], None]
    ) -> Sent:
        """Sends a stream of unknown length; only a break of the network can be survived.

        Raises:
            SendError: see its tree.
        """
        started = time.monotonic()
        delivery = _Delivery(self, link, meter, notice, self.manner.metadata)
        pipe = Pipe(stream=stream, chunk_size=self.manner.chunk_size or PIPE_CHUNK)
        size = delivery.deliver_pipe(pipe)
        return delivery.receipt("-", size, time.monotonic() - started)

    def parts_for(self, size: int) -> int:
        """How many parts a file of this size is sent in."""
        return max(1, min(self.manner.parallel, size // SMALLEST_PART))

    @contextlib.contextmanager
    def _slots(
        self, path: Path, file: OpenFile, metadata: Mapping[str, bytes]
    ) -> Iterator[list[Slot]]:
        """Where the URLs of the parts are kept, under the lock of this file."""
        count = self.parts_for(file.size)
        store = self.manner.store
        if store is None:
            yield [NoSlot() for _ in range(count)]
            return
        absolute = str(path.absolute())
        described = build_upload_metadata(metadata)
        name = fingerprint(
            self.manner.endpoint, absolute, file.size, file.mtime_ns, count, described
        )
        with store.locked(name):
            yield [store.slot(f"{name}-{index}", absolute) for index in range(count)]


class _Delivery:
    """One file on its way: its transfers, and what they add up to."""

    def __init__(
        self,
        sender: Sender,
        link: Link,
        meter: Meter,
        notice: Callable[[Passing], None],
        metadata: Mapping[str, bytes],
    ) -> None:
        self._sender = sender
        self._manner = sender.manner
        self._link = link
        self._meter = meter
        self._notice = notice
        described = build_upload_metadata(metadata)
        self._metadata = {"Upload-Metadata": described} if described else {}
        self._transfers: list[Transfer] = []
        self._url = ""

    def receipt(self, name: str, size: int, seconds: float) -> Sent:
        """What was done."""
        return Sent(
            file=name,
            url=self._url,
            size=size,
            seconds=seconds,
            resumed_from=sum(transfer.resumed_from for transfer in self._transfers),
            sent=sum(transfer.gauge.sent for transfer in self._transfers),
        )

    def deliver(self, file: OpenFile, slots: list[Slot]) -> None:
        """Sends the file in as many parts as there are slots, and empties those at the end."""
        parts = stretches(file, len(slots), self._manner.bytes_per_patch)
        try:
            if len(parts) == 1:
                self._send_whole(parts[0], slots[0])
            else:
                self._send_parts(parts, slots)
        except FileChanged:
            _forget(slots)
            raise
        except Refused as error:
            if error.status not in VERDICTS_ON_US:
                _forget(slots)
            raise
        _forget(slots)

    def deliver_pipe(self, pipe: Pipe) -> int:
        """Sends the pipe to its end; returns how many bytes it had."""
        creation = {"Upload-Defer-Length": "1", **self._metadata}
        transfer = self._transfer(pipe, creation, NoSlot(), self._link)
        transfer.run()
        self._url = transfer.url
        return transfer.gauge.offset

    def _send_whole(self, whole: Stretch, slot: Slot) -> None:
        creation = {"Upload-Length": build_upload_length(whole.length), **self._metadata}
        transfer = self._transfer(whole, creation, slot, self._link)
        transfer.run()
        self._url = transfer.url

    def _send_parts(self, parts: list[Stretch], slots: list[Slot]) -> None:
        """'partial uploads are concatenated into a final upload' ("Concatenation")."""
        with contextlib.ExitStack() as links:
            tasks = []
            for part, slot in zip(parts, slots, strict=True):
                link = links.enter_context(Link(self._sender.access))
                creation = {
                    "Upload-Length": build_upload_length(part.length),
                    "Upload-Concat": build_upload_concat(Partial()),
                }
                tasks.append(self._transfer(part, creation, slot, link).run)
            run_all(tasks, self._sender.stop)
        self._url = self._put_together(sum(part.length for part in parts))

    def _put_together(self, size: int) -> str:
        urls = tuple(transfer.url for transfer in self._transfers)
        headers = {"Upload-Concat": build_upload_concat(Final(urls)), **self._metadata}
        patience = self._patience()
        url = patience.through(lambda: create(self._link, self._manner.endpoint, headers))
        position = patience.through(lambda: locate(self._link, url))
        if position.offset != size:
            raise Refused(200, f"the parts were put together to {position.offset} of {size} bytes")
        return url

    def _transfer(
        self, source: Source, creation: Mapping[str, str], slot: Slot, link: Link
    ) -> Transfer:
        transfer = Transfer(
            link=link,
            endpoint=self._manner.endpoint,
            creation=creation,
            source=source,
            slot=slot,
            patience=self._patience(),
            gauge=Gauge(meter=self._meter, stop=self._sender.stop),
            checksum=self._manner.checksum,
        )
        self._transfers.append(transfer)
        return transfer

    def _patience(self) -> Patience:
        return Patience(
            retry_for=self._manner.retry_for, stop=self._sender.stop, notice=self._notice
        )


def _forget(slots: list[Slot]) -> None:
    for slot in slots:
        slot.remove()
