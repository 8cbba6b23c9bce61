"""An upload to a bucket that is open for an append.

The rules:
- Bytes fill a buffer as they come; a full one becomes a part, and is sent while the next one fills.
- What is less than a part at the end of a request becomes a piece of the tail: an object under a
  number of its own. The pieces are read again when a part can be made of them and of what came
  since; they are deleted only when a record that knows of the part was committed.
- A byte counts when the store has answered for it and for all before it.
- Numbers, and the intention of a multipart upload, are committed before they are used; those of the
  opening with the record that `upload` is.
- Whoever gets no memory stores what it holds, as a piece, before it waits.
- The bucket alone tells the same, or more that came in order (see `s3_journal`). What is still to
  be verified is sealed: it counts, here and there, when a mark says so. What is not stored yet when
  it is verified needs none.
"""

import asyncio
import logging
import mmap
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tusd_py.body import Body, EndedBy, Received
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.errors import (
    StorageFailed,
    StorageFull,
    StoredBytesLost,
    UploadTooLarge,
)
from tusd_py.protocol.upload import Upload
from tusd_py.storage.interface import Commit
from tusd_py.storage.s3_bucket import Bucket
from tusd_py.storage.s3_failures import Gone
from tusd_py.storage.s3_journal import IS_MARK, NOTE, Mark, Note, build_mark, build_note
from tusd_py.storage.s3_memory import PAGE, Memory, pages
from tusd_py.storage.s3_objects import Attributes
from tusd_py.storage.s3_parts import Numbers, OutOfParts, PartRules, may_end_early, next_size
from tusd_py.storage.s3_placement import (
    INTENDED,
    Chain,
    Part,
    Placement,
    build_placement,
    sum_of,
)

logger = logging.getLogger("tusd_py")

_Counted = tuple[Chain, tuple[Part, ...]]
"""Parts, and pieces behind them."""

_NOTHING = memoryview(bytearray())
_PIECES_AHEAD = 5
_WORTH_A_CALL = 64
"""Pieces to be deleted in one call."""

_MOST_PIECES = 32
"""Of a tail; then they are made one, so that small appends cost two calls each at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all uploads of a process have in common.

    Attributes:
        bucket: Where everything goes.
        rules: What the store takes; no part is larger than half of the memory.
        memory: For bytes on their way.
        at_once: How many parts are sent at once, in all.
        parallel: Likewise, of one upload.
    """

    bucket: Bucket
    rules: PartRules
    memory: Memory
    at_once: asyncio.Semaphore
    parallel: int


class _Buffer:
    """The next part as far as it came: room for the tail before it, and for what comes.

    Attributes:
        data: All of it.
        tail: Where the bytes that come begin.
        end: Where they end so far.
        room: Bytes of memory that were taken for them.
        held: Bytes of memory that were taken in all.
    """

    def __init__(self, size: int, tail: int) -> None:
        # Not from malloc: what no byte has come to takes no memory, and the rest is given back.
        self.data = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.tail = self.end = tail
        self.room = self.held = 0

    @property
    def size(self) -> int:
        """Bytes that came."""
        return self.end - self.tail

    @property
    def is_full(self) -> bool:
        """Whether it is a part."""
        return self.end == len(self.data)

    def view(self, at_most: int) -> memoryview:
        """Where the next bytes go."""
        return self.data[self.end : min(self.tail + self.room, self.end + at_most)]


@dataclass(slots=True, kw_only=True)
class _Flight:
    """A part on its way; the first one may take the tail in."""

    task: "asyncio.Task[Part]"
    size: int
    takes_tail: bool


class S3Writer:
    """See `storage.interface.Writer`.

    Args:
        upload: The record as it is.
        placement: Of the record.
        shared: Of the process.
        attributes: Of the object.
        piece_key: The key of a piece without its number.
        leftovers: Parts that may have been sent and are not recorded, in order, where the store
            wants each part that it gets to become a part of the object; of size 0 are those that it
            has not got yet. They are sent again.
    """

    def __init__(
        self,
        upload: Upload,
        placement: Placement,
        shared: Shared,
        attributes: Attributes,
        piece_key: str,
        leftovers: Sequence[Part],
    ) -> None:
        self._shared = shared
        self._leftovers = deque(leftovers)
        self._attributes = attributes
        self._piece_key = piece_key
        self._base = placement
        self._chain = placement.chain
        self._pieces = placement.pieces
        self._expects = placement.expects
        self._mark = placement.mark
        self._newest = placement.newest
        self._is_checked = False
        self._sealed: _Counted | None = None
        self._seal_is_told = False
        self._multipart = placement.multipart
        self._numbers = Numbers(
            placement.reserved, ahead=2 * shared.parallel, most=shared.rules.most_parts
        )
        self._piece_numbers = Numbers(placement.pieces_reserved, ahead=_PIECES_AHEAD, kept=1)
        self._is_taking = True
        self._may_be_begun = False
        self._told: dict[int, _Counted] = {}
        self._buffer: _Buffer | None = None
        self._spares: list[_Buffer] = []
        self._has_use = False
        self._flights: list[_Flight] = []
        self._failure: BaseException | None = None
        self._appetite = PAGE
        self._pressed = asyncio.Event()
        self.upload = upload._replace(placement=self.placement(upload.upload_offset))

    async def take(
        self,
        body: Body,
        at_most: int,
        digest: Digest | None,
        commit: Commit,
        counts: Callable[[Received], bool] | None = None,
    ) -> Received:
        """See `Writer.take`."""
        # They are on record with `upload`.
        self._note_reserved()
        self._is_checked = counts is not None
        if self._is_checked or self._leftovers:
            self._sealed = self._counted
        burial = asyncio.ensure_future(self._bury(commit))
        count = 0
        try:
            while await self._some(body, commit) and count < at_most:
                count += await self._fill(body, at_most - count, digest, commit)
            received = Received(count=count, ended_by=body.ended_by or EndedBy.LIMIT)
            if counts is None or counts(received):
                await self._keep(commit)
            return received
        except OutOfParts as error:
            self._expects = 0
            raise UploadTooLarge(self._size() + 1, self._size()) from error
        except BaseException:
            # A number may have been used, and no part have it.
            self._expects = 0
            raise
        finally:
            await asyncio.wait([burial])
            while self._flights:
                await asyncio.wait([self._flights[0].task])
                self._settle()
            self._base = self._buried(burial)
            self._drop_buffer()
            self._is_taking = False

    async def size(self) -> int:
        """See `Writer.size`."""
        return self._size()

    async def sync(self) -> int:
        """See `Writer.sync`: what the store has answered for is safe."""
        return self._size()

    async def cut(self, offset: int) -> None:
        """See `Writer.cut`: the bytes stay until the upload ends, and never count."""
        was_told = self._sealed is None and offset != self._size()
        if offset != self._size():
            self._expects = 0
        self._chain, self._pieces = self._known(offset)
        self._sealed = None
        if was_told:
            await self._take_back()

    def placement(self, offset: int) -> str:
        """See `Writer.placement`."""
        chain, pieces = self._told[offset] = self._known(offset)
        multipart = self._multipart
        if multipart is None and (self._is_taking or self._may_be_begun):
            multipart = INTENDED
        return build_placement(
            replace(
                self._base,
                multipart=multipart,
                chain=chain,
                pieces=pieces,
                reserved=self._on_record(self._numbers),
                pieces_reserved=self._on_record(self._piece_numbers),
                expects=self._expects,
                mark=self._mark,
                newest=self._newest,
            )
        )

    @property
    def _counted(self) -> _Counted:
        return self._sealed or (self._chain, self._pieces)

    def _size(self) -> int:
        chain, pieces = self._counted
        return chain.size + sum_of(pieces)

    def _known(self, offset: int) -> _Counted:
        """What lies before an offset that was told, or is now."""
        return self._counted if offset == self._size() else self._told[offset]

    def _on_record(self, numbers: Numbers) -> int:
        return max(numbers.reserved, numbers.wanted) if self._is_taking else numbers.used

    def _note_reserved(self) -> None:
        self._numbers.note(self._numbers.wanted)
        self._piece_numbers.note(self._piece_numbers.wanted)

    async def _number(self, numbers: Numbers, commit: Commit) -> int:
        """A number that is on record."""
        if numbers.are_out:
            wanted = numbers.wanted
            await commit()
            numbers.note(wanted)
        return numbers.take()

    async def _some(self, body: Body, commit: Commit) -> bool:
        """Waits until there are bytes, or no more: whether there are."""
        waiting = asyncio.ensure_future(body.fill(_NOTHING))
        try:
            await asyncio.sleep(0)
            while not waiting.done():
                if await self._is_pressed_before(waiting):
                    await self._store_piece(commit)
            await waiting
        finally:
            waiting.cancel()
        self._check()
        return body.ended_by is None

    async def _is_pressed_before(self, waiting: "asyncio.Future[int]") -> bool:
        """Whether others need the memory that this holds, before the client sends more."""
        self._drop_spares()
        if self._buffer is None or not self._buffer.size:
            self._drop_buffer()
            await asyncio.wait({waiting})
            return False
        self._pressed.clear()
        pressed = asyncio.ensure_future(self._pressed.wait())
        either: list[asyncio.Future[Any]] = [waiting, pressed]
        try:
            with self._shared.memory.idling(self._pressed):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pressed.cancel()
        return self._pressed.is_set()

    async def _fill(self, body: Body, at_most: int, digest: Digest | None, commit: Commit) -> int:
        """Takes bytes that are there into the buffer; a full one is sent."""
        self._has_use = True
        buffer = await self._room(commit)
        view = buffer.view(at_most)
        count = await body.fill(view)
        # Whoever fills what it gets is fast, and gets more at once.
        self._appetite = min(2 * self._appetite, len(buffer.data)) if count == len(view) else PAGE
        if digest is not None:
            await asyncio.to_thread(digest.update, view[:count])
        buffer.end += count
        # What may be verified before more of it comes needs no mark then.
        if buffer.is_full and not self._is_checked:
            await self._send(commit)
        return count

    async def _keep(self, commit: Commit) -> None:
        """What came counts: the rest of it is stored, and the bucket is told of all."""
        buffer = self._buffer
        is_part = buffer is not None and buffer.is_full
        if not self._seal_is_told:
            self._is_checked = False
            if not (is_part and self._leftovers):
                self._sealed = None
        if buffer is not None and buffer.size:
            await (self._send(commit) if is_part else self._store_piece(commit))
        await self._land()
        if self._sealed is not None:
            await self._store_mark(0 if self._leftovers else self._numbers.used + 1, commit)
            self._sealed = None

    async def _room(self, commit: Commit) -> _Buffer:
        """The buffer, with memory for at least one more byte."""
        memory = self._shared.memory
        while True:
            if self._buffer is not None and self._buffer.is_full:
                await self._send(commit)
            buffer = self._buffer = self._buffer or self._new_buffer()
            if buffer.room > buffer.size:
                return buffer
            count = memory.take_some(min(self._appetite, len(buffer.data) - buffer.end))
            if count:
                buffer.room += count
                buffer.held += count
            elif buffer.size:
                await self._make_room(buffer, commit)
            else:
                self._drop_buffer()
                await memory.wait(PAGE)
                memory.give(PAGE)

    async def _make_room(self, buffer: _Buffer, commit: Commit) -> None:
        """Stores what came; its memory is free then, or will be."""
        used = self._numbers.used
        if not buffer.tail and may_end_early(self._shared.rules, size=buffer.size, used=used):
            await self._send(commit)
        else:
            await self._store_piece(commit)

    def _new_buffer(self) -> _Buffer:
        flying = sum(flight.size for flight in self._flights)
        tail = 0 if self._flights else sum_of(self._pieces)
        size = next_size(
            self._shared.rules,
            offset=self._chain.size + flying,
            length=self.upload.upload_length,
            used=self._numbers.used,
            fixed=self._chain.first_size or None,
        )
        if self._leftovers and not self._shared.rules.equal:
            size = self._as_before(size, self._chain.size + flying)
        # Behind a length that was told late, parts may be smaller than the tail that is there.
        size = max(size, tail + 1)
        if tail or not self._spares or len(self._spares[-1].data) != size:
            return _Buffer(size, tail)
        spare = self._spares.pop()
        spare.tail = spare.end = 0
        spare.room = min(spare.held, size)
        return spare

    def _as_before(self, size: int, offset: int) -> int:
        """The size of a part that is sent again, so that it has the bytes that it had before.

        Args:
            size: What is planned.
            offset: Bytes before it.
        """
        first, *behind = self._leftovers
        least = self._shared.rules.smallest
        if first.size:
            return min(size, max(first.size, least))
        # What comes has to last for all that the store has.
        length, there = self.upload.upload_length, sum_of(behind)
        is_enough = not there or (length is not None and offset + size + there <= length)
        return size if is_enough else min(size, least)

    def _drop_buffer(self) -> None:
        """Holds no memory any more but that of parts on their way."""
        self._drop_spares()
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._shared.memory.give(buffer.held)

    def _drop_spares(self) -> None:
        self._has_use = False
        while self._spares:
            self._shared.memory.give(self._spares.pop().held)

    async def _send(self, commit: Commit) -> None:
        """Lets the buffer become a part, together with the tail before it."""
        buffer = self._buffer
        assert buffer is not None, "it is full"
        if buffer.tail and not self._takes_memory(buffer, buffer.tail):
            # All of it at once, while this holds nothing.
            await self._store_piece(commit)
            size = sum_of(self._pieces)
            await self._shared.memory.wait(size)
            buffer = self._buffer = _Buffer(size, size)
            buffer.held = pages(size)
        multipart = self._multipart or await self._begin(commit)
        is_leftover = bool(self._leftovers)
        if is_leftover:
            number = self._leftovers.popleft().number
        else:
            number = await self._number(self._numbers, commit)
        await self._announce(number, commit, is_leftover=is_leftover)
        while len(self._flights) >= self._shared.parallel:
            await self._land_one()
        flight = self._fly(multipart, number, buffer)
        self._buffer = None
        self._flights.append(
            _Flight(
                task=asyncio.create_task(flight),
                size=buffer.end,
                takes_tail=buffer.tail > 0,
            )
        )

    async def _announce(self, number: int, commit: Commit, *, is_leftover: bool) -> None:
        """Lets the bucket tell whether a part will count, before it is sent."""
        if self._sealed is not None and (self._is_checked or is_leftover):
            await self._tell_seal(commit)
            return
        if number != self._expects:
            await self._land()
            await self._store_mark(number, commit)
            self._sealed = None
        self._expects = number + 1

    async def _tell_seal(self, commit: Commit) -> None:
        if not self._seal_is_told:
            await self._store_mark(0, commit)
            self._seal_is_told = True

    async def _store_mark(self, expects: int, commit: Commit | None) -> None:
        """Lets the bucket tell what counts now, and what will."""
        mark = Mark(
            runs=self._chain.runs,
            pieces=tuple(piece.number for piece in self._pieces),
            expects=expects,
            multipart=self._multipart,
        )
        self._mark = await self._store(memoryview(build_mark(mark)), IS_MARK, commit)
        self._expects = expects

    async def _take_back(self) -> None:
        """Lets the bucket tell no more than counts now, if the store can be told that."""
        try:
            await self._store_mark(0, None)
        except (OutOfParts, StorageFailed, StorageFull):
            logger.warning("the bucket tells too much of upload %s", self.upload.id, exc_info=True)

    async def _store(self, data: memoryview, note: str, commit: Commit | None) -> int:
        """Stores a piece or a mark: its number, which was kept if nothing can be committed."""
        numbers = self._piece_numbers
        number = numbers.take() if commit is None else await self._number(numbers, commit)
        # Of one that fails nobody knows whether it has the last word in the bucket.
        self._expects = 0
        # Small, and one at a time: it needs none of the places, which parts may hold for long.
        await self._shared.bucket.put(f"{self._piece_key}{number}", data, None, {NOTE: note})
        self._newest = number
        return number

    def _takes_memory(self, buffer: _Buffer, count: int) -> bool:
        if not self._shared.memory.take(count):
            return False
        buffer.held += pages(count)
        return True

    async def _begin(self, commit: Commit) -> str:
        self._may_be_begun = True
        begun = await self._shared.bucket.begin(self._base.key, self._attributes)
        self._multipart, was_repeated = begun
        if was_repeated:
            self._base = replace(self._base, has_strays=True)
        if self.upload.target is not None:
            # The bucket has to be told which one it is.
            self._expects = 0
        await commit()
        return self._multipart

    async def _fly(self, multipart: str, number: int, buffer: _Buffer) -> Part:
        shared, is_stored = self._shared, False
        try:
            async with shared.at_once:
                await self._load_tail(buffer)
                data = buffer.data[: buffer.end]
                part = await shared.bucket.upload_part(self._base.key, multipart, number, data)
            is_stored = True
            return part
        except Gone as error:
            raise StoredBytesLost(self.upload.id) from error
        finally:
            # Nobody reads there any more: the next part can lie there, if nobody else needs it.
            if is_stored and self._has_use and shared.memory.is_plenty:
                self._spares.append(buffer)
            else:
                shared.memory.give(buffer.held)

    async def _load_tail(self, buffer: _Buffer) -> None:
        """Reads the pieces of the tail into their place.

        Raises:
            Gone: One is not there any more.
        """
        at = 0
        for piece in self._pieces if buffer.tail else ():
            into = buffer.data[at : at + piece.size]
            await self._shared.bucket.load(f"{self._piece_key}{piece.number}", into)
            at += piece.size

    async def _store_piece(self, commit: Commit) -> None:
        """Lets what came become a piece of the tail; its memory is free then."""
        await self._land()
        if self._sealed is not None:
            await self._tell_seal(commit)
        buffer = self._buffer
        assert buffer is not None, "something came"
        merges = len(self._pieces) >= _MOST_PIECES and self._takes_memory(buffer, buffer.tail)
        if merges:
            await self._load_tail(buffer)
        data = buffer.data[: buffer.end] if merges else buffer.data[buffer.tail : buffer.end]
        before = () if merges else self._pieces
        following = self._numbers.used + 1
        expects = following if following == self._expects and not self._leftovers else 0
        note = Note(
            mark=self._mark,
            is_sealed=self._sealed is not None,
            last=self._chain.last,
            pieces=tuple(piece.number for piece in before),
            expects=expects,
        )
        number = await self._store(data, build_note(note), commit)
        self._expects = 0 if note.is_sealed else expects
        self._pieces = (*before, Part(number=number, size=len(data)))
        self._drop_buffer()

    async def _land(self) -> None:
        """Until all parts that were sent are stored."""
        while self._flights:
            await self._land_one()
        self._check()

    async def _land_one(self) -> None:
        await asyncio.wait({self._flights[0].task})
        self._check()

    def _check(self) -> None:
        self._settle()
        if self._failure is not None:
            raise self._failure

    def _settle(self) -> None:
        """Parts count in their order; those behind one that failed never do."""
        while self._flights and self._flights[0].task.done():
            flight = self._flights.pop(0)
            error = flight.task.exception()
            self._failure = self._failure or error
            if self._failure is None:
                if flight.takes_tail:
                    self._pieces = ()
                self._chain = self._chain.plus(flight.task.result())

    async def _bury(self, commit: Commit) -> bool:
        """Deletes the pieces that the committed record counts no more: whether it did."""
        dead = self._base.dead_pieces
        if len(dead) < _WORTH_A_CALL:
            return False
        # Or a loss of power brings a record back that still counts them.
        await commit(durable=True)
        await self._shared.bucket.delete([f"{self._piece_key}{number}" for number in dead])
        return True

    def _buried(self, burial: "asyncio.Future[bool]") -> Placement:
        error = burial.exception()
        if error is None:
            # It may have changed meanwhile: a multipart upload was begun.
            return self._base.without_dead_pieces() if burial.result() else self._base
        logger.warning("old pieces of upload %s stay for now", self.upload.id, exc_info=error)
        return self._base
