"""Bytes in a bucket of an S3 store: what arrives streams into it, by way of a bounded memory.

The rules:
- Nothing of an upload is on this machine but its record; a `HEAD` asks nobody. What is recorded as
  stored was answered for by the store, so a crash leaves nothing to adopt, and no power to lose.
- An upload becomes one object under a key that has its id. The object's metadata has the id too:
  it tells ours after an answer was lost.
- Only what a record tells of is ever removed, under keys that have the upload's id: what else lies
  in the bucket is not looked at.
- The last step of an upload reads, copies or completes what is recorded, so it may be repeated.
- The bucket alone is enough: `recall` makes a record anew (see `s3_rebuild`). Whose it may be is
  told by an instance, as on a disk. It lies in the bucket together with its owner: the host's name
  and the path of the state, or what `owner` says. A state directory that is empty takes over the
  instance of its owner, and no other's: so what was lost comes back where it was, at once, and
  another deployment under the same prefix is never taken for a lost one. That no two that run have
  one owner is up to whoever gives names to hosts.
"""

import asyncio
import json
import logging
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tusd_py.hooks.events import Observer
from tusd_py.protocol.errors import (
    StorageBusy,
    StorageFailed,
    StoredBytesLost,
    UploadNotFound,
    UploadTooLarge,
)
from tusd_py.protocol.upload import Upload
from tusd_py.storage.interface import Writer, WrongInstance
from tusd_py.storage.s3_bucket import Bucket, Found
from tusd_py.storage.s3_client import Access as Access
from tusd_py.storage.s3_concat import Plan, Source, for_each, plan_parts, store_parts
from tusd_py.storage.s3_failures import Gone
from tusd_py.storage.s3_info import Info, Names, build_info, parse_info
from tusd_py.storage.s3_memory import Memory
from tusd_py.storage.s3_objects import (
    ID,
    Attributes,
    ObjectSettings,
    build_attributes,
    build_key,
    check_target,
    check_template_of_keys,
)
from tusd_py.storage.s3_parts import MIB, OutOfParts, PartRules
from tusd_py.storage.s3_patience import Patience
from tusd_py.storage.s3_placement import (
    INTENDED,
    Part,
    Placement,
    build_placement,
    parse_placement,
)
from tusd_py.storage.s3_rebuild import rebuild
from tusd_py.storage.s3_writer import S3Writer, Shared

logger = logging.getLogger("tusd_py")

_AHEAD = 64
"""Numbers that a server whose state was lost may have reserved, also if it sent more at once."""

_LONGEST_LINK = 7 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """What is seldom needed.

    Attributes:
        access: How the store is reached.
        object_prefix: What all keys begin with.
        template: The key of a finished upload behind the prefix; it must have `{id}`.
        objects: How the store keeps them.
        rules: What the store takes.
        memory: Bytes on their way, of all uploads together.
        parallel: Parts that are sent at once, of one upload.
        at_once: Likewise, of all.
        owner: Of the uploads, whose records are made anew where they were lost; None for the name
            of the host and the path of the state.
        links_for: Seconds that the link to a finished upload can be used which a download is sent
            to; None to pass its bytes through instead.

    Raises:
        ValueError: A number is not positive, or a link would be too old for S3.
    """

    access: Access = field(default_factory=Access)
    object_prefix: str = ""
    template: str = "{id}"
    objects: ObjectSettings = field(default_factory=ObjectSettings)
    rules: PartRules = field(default_factory=PartRules)
    memory: int = 256 * MIB
    parallel: int = 4
    at_once: int = 32
    owner: str | None = None
    links_for: float | None = None

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.at_once < 1:
            raise ValueError("at least one part must be sent at once")
        if self.links_for is not None and not 1 <= self.links_for <= _LONGEST_LINK:
            raise ValueError(f"a link can be used for 1 to {_LONGEST_LINK} seconds, seven days")


class S3Storage:
    """Keeps uploads in a bucket.

    Args:
        bucket: Its name; it must be there.
        settings: What is seldom needed.
        client: An S3 client of aiobotocore's to be used, which is open as long as this is; it stays
            the caller's, and is not closed. Make it with
            `AioConfig(request_checksum_calculation="when_required")`, and for links with
            `signature_version="s3v4"`. None for one of our own, as `settings.access` says.

    Raises:
        InvalidTemplate: The template of keys cannot be used.
        ValueError: The memory does not hold two parts, no object can have such keys, or the client
            cannot be used.
    """

    def __init__(
        self, bucket: str, settings: S3Settings | None = None, *, client: Any = None
    ) -> None:
        self._settings = settings = settings or S3Settings()
        check_template_of_keys(settings.object_prefix, settings.template)
        if settings.memory < 2 * settings.rules.preferred:
            raise ValueError(
                f"{settings.memory} bytes of memory hold no two parts of "
                f"{settings.rules.preferred}; give more memory or smaller parts"
            )
        patience = Patience(memory=settings.memory // 2, places=max(1, settings.at_once // 2))
        self._bucket = Bucket(bucket, settings.access, settings.objects, patience, client)
        self._names = Names(prefix=settings.object_prefix)
        self._instance = ""
        # What is half of the memory can be filled while another one is sent.
        largest = settings.memory // 2 // MIB * MIB or settings.memory // 2
        rules = replace(settings.rules, largest=min(settings.rules.largest, largest))
        self._shared = Shared(
            bucket=self._bucket,
            rules=rules,
            memory=Memory(settings.memory),
            at_once=asyncio.Semaphore(settings.at_once),
            parallel=settings.parallel,
        )

    @property
    def largest_upload(self) -> int:
        """Bytes of the longest upload that the store takes, in parts that the memory holds."""
        return self._shared.rules.reach

    @property
    def is_enough(self) -> bool:
        """See `Storage.is_enough`."""
        return True

    async def instance(self, owner: str) -> str | None:
        """See `Storage.instance`."""
        await self._bucket.open()
        owner = self._settings.owner or owner
        owners = {
            key: await self._owner(key)
            async for key, _ in self._bucket.objects(self._names.instances)
        }
        found = [key for key, whose in owners.items() if whose == owner]
        if owners and not found:
            logger.warning(
                "there are uploads of %s here, and none of %r; if a state directory was lost, "
                "give --s3-owner (S3Settings.owner) with the name that it had",
                ", ".join(sorted({repr(whose) for whose in owners.values()})),
                owner,
            )
        if len(found) > 1:
            raise WrongInstance(
                f"several state directories of {owner!r} are lost, and it cannot be told which of "
                f"them this one is to be: delete the objects of the others, of {', '.join(found)}"
            )
        return self._names.instance_of(found[0]) if found else None

    async def open(
        self,
        instance: str,
        *,
        is_new: bool,
        trust_unsynced: bool,
        owner: str = "",
        observe: Observer | None = None,
    ) -> None:
        """See `Storage.open`: what is of other instances is never touched.

        Raises:
            WrongInstance: The bucket cannot be used, or not as the settings say.
        """
        await self._bucket.open()
        self._bucket.watch(observe)
        objects = self._settings.objects
        if objects != ObjectSettings():
            probe = Upload(id=f"tusd-py-probe-{secrets.token_hex(8)}", created_at=0)
            key = f"{self._settings.object_prefix}{probe.id}"
            await self._bucket.try_out(key, build_attributes(probe, objects), objects.tags)
        self._instance = instance
        owner = self._settings.owner or owner
        key = self._names.instance(instance)
        if owner and await self._owner(key) != owner:
            await self._bucket.put(key, memoryview(json.dumps({"owner": owner}).encode()))

    async def _owner(self, key: str) -> str | None:
        body = await self._bucket.get(key)
        return None if body is None else str(json.loads(body)["owner"])

    async def close(self) -> None:
        """See `Storage.close`."""
        await self._bucket.close()

    async def probe(self) -> None:
        """See `Storage.probe`."""
        await self._bucket.probe()

    async def note(self, upload: Upload) -> None:
        """See `Storage.note`."""
        info = Info(instance=self._instance, upload=upload, key=self._path(upload))
        data = memoryview(build_info(info))
        await self._bucket.put(self._names.info(upload.id), data)

    async def recall(self, upload_id: str) -> Upload | None:
        """See `Storage.recall`."""
        body = await self._bucket.get(self._names.info(upload_id))
        if body is None:
            return None
        try:
            info = parse_info(body)
        except (ValueError, KeyError, TypeError) as error:
            raise StoredBytesLost(upload_id) from error
        if info.instance != self._instance or info.upload.id != upload_id:
            return None
        return await rebuild(
            self._bucket,
            self._names,
            info,
            rules=self._settings.rules,
            ahead=max(_AHEAD, 2 * self._settings.parallel),
            mine=ID,
        )

    async def noted(self) -> AsyncIterator[str]:
        """See `Storage.noted`."""
        async for key, _ in self._bucket.objects(self._names.folder):
            upload_id = self._names.noted(key)
            if upload_id is not None:
                yield upload_id

    async def settle(self, upload: Upload, *, at_once: bool = False) -> Upload:
        """See `Storage.settle`: what is recorded is stored."""
        return upload

    @asynccontextmanager
    async def writer(self, upload: Upload, *, at_once: bool = False) -> AsyncIterator[Writer]:
        """See `Storage.writer`."""
        if upload.placement:
            placement = parse_placement(upload.placement)
        else:
            placement = Placement(key=self._new_key(upload))
        if placement.size != upload.upload_offset:
            raise StoredBytesLost(upload.id)
        if placement.multipart == INTENDED:
            placement = replace(placement, multipart=None, has_strays=True)
        if placement.has_lost_numbers:
            # The store is tried, then (see `_leftovers`).
            placement = replace(placement, has_strays=True)
        yield S3Writer(
            upload,
            placement,
            self._shared,
            self._attributes(upload),
            self._piece_key(upload),
            await self._leftovers(upload, placement),
        )

    def put(self, upload: Upload, data: bytes, *, durable: bool) -> str | None:
        """See `Storage.put`: a store is too far away for that."""
        return None

    def take_back(self, upload: Upload) -> None:
        """See `Storage.take_back`: nothing was put."""

    def resting_path(self, upload: Upload) -> str | None:
        """See `Storage.resting_path`: an object is made at the end."""
        return None

    def free(self) -> int:
        """See `Storage.free`: a bucket does not fill up."""
        return sys.maxsize

    def size(self) -> int | None:
        """See `Storage.size`: a bucket has none."""
        return None

    async def sync(self, upload: Upload) -> None:
        """See `Storage.sync`: what is recorded is stored."""

    async def concatenate(
        self,
        upload: Upload,
        parts: Sequence[Upload],
        *,
        durable: bool,
        commit: Callable[[str], Awaitable[None]],
    ) -> str:
        """See `Storage.concatenate`: copied inside the store, anew by each attempt."""
        if upload.placement:
            left = parse_placement(upload.placement)
            await self._clear(upload, left, unless=None)
        else:
            left = Placement(key=self._new_key(upload))
        begun = Placement(
            key=left.key,
            has_strays=left.has_strays or left.multipart is not None,
            pieces_reserved=left.pieces_reserved,
            pieces_gone=left.pieces_reserved,
        )
        await self._check_all(parts)
        sources = [
            Source(key=self._path(part), size=part.upload_offset)
            for part in parts
            if part.upload_offset
        ]
        if not sources:
            return build_placement(begun)
        plan = self._plan(sources)
        begun = replace(begun, multipart=INTENDED, reserved=len(plan))
        await commit(build_placement(begun))
        multipart, was_repeated = await self._bucket.begin(begun.key, self._attributes(upload))
        has_strays = begun.has_strays or was_repeated
        begun = replace(begun, multipart=multipart, has_strays=has_strays)
        await commit(build_placement(begun))
        stored = await store_parts(self._shared, begun.key, multipart, sources, plan)
        return build_placement(replace(begun, parts=stored))

    async def finish(self, upload: Upload, *, durable: bool) -> str:
        """See `Storage.finish`."""
        placement = parse_placement(upload.placement)
        try:
            # Otherwise it was made already, and its record anew since.
            if placement.size == upload.upload_offset:
                await self._make_object(upload, placement)
        except (Gone, StorageFailed, StoredBytesLost) as error:
            # It may have been made before, and the answer been lost.
            if not await self.has(upload):
                # Some stores tell one as the other.
                if await self._is_there(upload, placement):
                    is_busy = isinstance(error, StorageBusy)
                    raise (StorageBusy if is_busy else StorageFailed) from error
                raise StoredBytesLost(upload.id) from error
        else:
            if not await self.has(upload):
                raise StorageFailed
        if self._settings.objects.tags:
            await self._bucket.tag(placement.key, self._settings.objects.tags)
        await self._clear(
            upload, placement, unless=placement.multipart if placement.has_parts else ""
        )
        return placement.key

    def check_target(self, target: str) -> None:
        """See `Storage.check_target`."""
        check_target(self._settings.object_prefix, target)

    def locate(self, upload: Upload) -> str:
        """See `Storage.locate`."""
        key = upload.path
        if not key and upload.placement:
            key = parse_placement(upload.placement).key
        return f"s3://{self._bucket.name}/{key or self._new_key(upload)}"

    async def read(self, upload: Upload, offset: int, count: int) -> AsyncGenerator[bytes, None]:
        """See `Storage.read`."""
        try:
            async for data in self._bucket.read(self._path(upload), offset, count):
                yield data
        except Gone as error:
            raise UploadNotFound(upload.id) from error

    async def link(self, upload: Upload, *, media_type: str, disposition: str) -> str | None:
        """See `Storage.link`."""
        expires = self._settings.links_for
        if expires is None:
            return None
        return await self._bucket.link(self._path(upload), expires, media_type, disposition)

    async def has(self, upload: Upload, *, at_once: bool = False) -> bool:
        """See `Storage.has`."""
        found = await self._bucket.head(self._path(upload))
        return found is not None and _is_ours(found, upload) and found.size == upload.upload_offset

    async def take(self, upload: Upload, to: Path) -> None:
        """See `Storage.take`."""
        raise NotImplementedError(f"{self.locate(upload)} is no file; read it from the bucket")

    async def remove(self, upload: Upload) -> int:
        """See `Storage.remove`."""
        if not upload.placement:
            await self._bucket.delete([self._names.info(upload.id)])
            return 0
        placement = parse_placement(upload.placement)
        freed = await self._stored(upload, placement)
        await self._clear(upload, placement, unless="")
        found = await self._bucket.head(self._path(upload))
        is_ours = found is not None and _is_ours(found, upload)
        await self._bucket.delete(
            [self._names.info(upload.id), *([self._path(upload)] if is_ours else [])]
        )
        return found.size if found is not None and is_ours else freed

    async def strays(self, older_than: float) -> AsyncIterator[str]:
        """See `Storage.strays`: what no record tells of may be somebody else's."""
        nothing: tuple[str, ...] = ()
        for upload_id in nothing:
            yield upload_id

    async def quarantine(self, upload_id: str) -> int:
        """See `Storage.quarantine`."""
        return 0

    async def empty_quarantine(self, older_than: float, *, dry_run: bool = False) -> int:
        """See `Storage.empty_quarantine`."""
        return 0

    async def _leftovers(self, upload: Upload, placement: Placement) -> list[Part]:
        """Parts that may have been sent and are not recorded, if the store does not let them go.

        One that is not there may still come, so its number is used again as well: mostly, the same
        bytes come for it.
        """
        if not placement.multipart or not placement.has_lost_numbers:
            return []
        try:
            if await self._bucket.takes_gaps(self._probe_key(upload)):
                return []
            found = await self._bucket.parts(
                placement.key, placement.multipart, placement.last_part
            )
        except Gone as error:
            raise StoredBytesLost(upload.id) from error
        sizes = {part.number: part.size for part in found}
        highest = max([placement.reserved, *sizes])
        numbers = range(placement.last_part + 1, highest + 1)
        return [Part(number=number, size=sizes.get(number, 0)) for number in numbers]

    async def _make_object(self, upload: Upload, placement: Placement) -> None:
        """What is recorded becomes the object.

        Raises:
            Gone: Some of it is not there, or not any more.
        """
        key, attributes, objects = placement.key, self._attributes(upload), self._settings.objects
        if placement.has_parts:
            assert placement.multipart, "it has parts"
            parts = (*await self._chained(upload, placement), *placement.parts)
            if placement.pieces:
                # Repeated, the number has the same bytes.
                leftovers = await self._leftovers(upload, placement)
                number = leftovers[0].number if leftovers else placement.reserved + 1
                async with self._loaded(upload, placement) as tail:
                    last = await self._bucket.upload_part(key, placement.multipart, number, tail)
                parts = (*parts, last)
            await self._bucket.complete(key, placement.multipart, parts)
        elif len(placement.pieces) == 1 and not objects.encryption:
            source = f"{self._piece_key(upload)}{placement.pieces[0].number}"
            await self._bucket.copy(source, key, attributes)
        else:
            async with self._loaded(upload, placement) as tail:
                await self._bucket.put(key, tail, attributes)

    async def _is_there(self, upload: Upload, placement: Placement) -> bool:
        """Whether the store has all that is recorded, and can still make an object of it."""
        for piece in placement.pieces:
            if await self._bucket.head(f"{self._piece_key(upload)}{piece.number}") is None:
                return False
        return not placement.has_parts or await self._are_there(upload, placement)

    async def _are_there(self, upload: Upload, placement: Placement) -> bool:
        assert placement.multipart, "it has parts"
        try:
            found = await self._bucket.parts(placement.key, placement.multipart, 0)
        except Gone:
            return False
        if placement.chained(found) is None:
            return False
        tags = {part.number: part.etag for part in found if not placement.chain.has(part.number)}
        # A number that was used again may have come late from its former holder.
        if any(tags.pop(part.number, None) not in ("", part.etag) for part in placement.parts):
            return False
        # Behind the last one it may be the tail.
        strange = any(number < placement.last_part or not placement.pieces for number in tags)
        return not strange or await self._bucket.takes_gaps(self._probe_key(upload))

    async def _chained(self, upload: Upload, placement: Placement) -> Sequence[Part]:
        """The parts of the chain, as the store has them.

        Raises:
            Gone: The multipart upload is not there, or not any more.
            StoredBytesLost: Not just those that were recorded are there.
        """
        if not placement.chain.runs:
            return ()
        assert placement.multipart, "it has parts"
        found = await self._bucket.parts(placement.key, placement.multipart, 0)
        chained = placement.chained(found)
        if chained is None:
            raise StoredBytesLost(upload.id)
        return chained

    @asynccontextmanager
    async def _loaded(self, upload: Upload, placement: Placement) -> AsyncIterator[memoryview]:
        """The bytes of the tail."""
        memory, size = self._shared.memory, sum(piece.size for piece in placement.pieces)
        await memory.wait(size)
        try:
            data, at = memoryview(bytearray(size)), 0
            for piece in placement.pieces:
                into = data[at : at + piece.size]
                await self._bucket.load(f"{self._piece_key(upload)}{piece.number}", into)
                at += piece.size
            yield data
        finally:
            memory.give(size)

    async def _clear(self, upload: Upload, placement: Placement, *, unless: str | None) -> None:
        """Lets go of what is not the object: pieces, and multipart uploads but for one."""
        begun = {(placement.key, placement.multipart)} if placement.multipart else set()
        keys = [f"{self._piece_key(upload)}{number}" for number in placement.all_pieces]
        if placement.has_strays or placement.has_lost_numbers or placement.multipart == INTENDED:
            probe = self._probe_key(upload)
            # Under a key that the application chose, there may be those of other uploads.
            alone = (placement.key, probe) if upload.target is None else (probe,)
            begun |= {
                (key, multipart)
                for key in alone
                for multipart in await self._bucket.multiparts(key)
            }
            keys.append(probe)
        for key, multipart in begun:
            if multipart != unless:
                await self._bucket.abort(key, multipart)
        await self._bucket.delete(keys)

    async def _stored(self, upload: Upload, placement: Placement) -> int:
        """Bytes of an upload that is no object yet, as far as they are still there."""
        freed = 0
        if placement.multipart and await self._bucket.abort(placement.key, placement.multipart):
            freed = placement.chain.size + sum(part.size for part in placement.parts)
        for piece in placement.pieces:
            found = await self._bucket.head(f"{self._piece_key(upload)}{piece.number}")
            freed += 0 if found is None else found.size
        return freed

    def _plan(self, sources: Sequence[Source]) -> Plan:
        sizes = [source.size for source in sources]
        try:
            # A copy needs no memory, so it may be as long as the store takes it.
            return plan_parts(self._settings.rules, sizes, joined=self._shared.rules.largest)
        except OutOfParts as error:
            raise UploadTooLarge(sum(sizes), self.largest_upload) from error

    async def _check_all(self, parts: Sequence[Upload]) -> None:
        """Whether the objects are there, and are those of the uploads.

        Raises:
            StorageFailed: One is not.
        """
        distinct = list({part.id: part for part in parts}.values())

        async def check(number: int) -> None:
            if not await self.has(distinct[number]):
                raise StorageFailed from UploadNotFound(distinct[number].id)

        await for_each(range(len(distinct)), check, at_once=self._settings.parallel)

    def _new_key(self, upload: Upload) -> str:
        return build_key(self._settings.object_prefix, self._settings.template, upload)

    def _path(self, upload: Upload) -> str:
        return upload.path or self.locate(upload).split("/", 3)[3]

    def _piece_key(self, upload: Upload) -> str:
        return self._names.pieces(upload.id)

    def _probe_key(self, upload: Upload) -> str:
        return f"{self._piece_key(upload)}probe"

    def _attributes(self, upload: Upload) -> Attributes:
        return build_attributes(upload, self._settings.objects)


def _is_ours(found: Found, upload: Upload) -> bool:
    return found.metadata.get(ID) == upload.id
