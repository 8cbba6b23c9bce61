"""The calls to an S3 store.

The rules:
- Every call here may be repeated: aiobotocore does so after a lost answer or a SlowDown, and waits
  in between. Whoever waits for it holds its memory, so the client slows down, and not the memory.
- What was there before is told apart from what failed: a multipart upload or an object that is gone
  is a value, where that is asked for.
- A part is signed with its SHA-256, a small object goes with a Content-MD5: any store checks them,
  and they do not forbid gaps in the numbers of parts. A bucket whose objects are locked wants the
  MD5 of a part as well, and gets it when it says so.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from tusd_py.hooks.events import Observer
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.s3_client import Access, Connection, build_md5
from tusd_py.storage.s3_failures import Gone, code_of, is_refused, misses_md5, translated
from tusd_py.storage.s3_objects import Attributes, ObjectSettings
from tusd_py.storage.s3_patience import Call, Patience
from tusd_py.storage.s3_placement import Part
from tusd_py.storage.s3_sending import Bytes

T = TypeVar("T")

logger = logging.getLogger("tusd_py")

_MOVES_WITHIN = 90.0
"""Seconds in which some of a body must go out: nothing else ends the wait for a store that does not
ask for it (`100 Continue`), or takes no more of it.
"""

_DELETE_AT_ONCE = 1_000
_READ_AT_ONCE = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object: its bytes, and the metadata that it was stored with."""

    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)


class Bucket:
    """One bucket of a store.

    Args:
        name: Of the bucket.
        access: How the store is reached.
        objects: How it keeps what it gets.
        patience: With calls that stall.
        client: An S3 client of aiobotocore's that stays the caller's, None for one of our own; the
            access does not count then.

    Raises:
        ValueError: The client computes checksums that would forbid gaps.
    """

    def __init__(
        self,
        name: str,
        access: Access,
        objects: ObjectSettings,
        patience: Patience,
        client: Any = None,
    ) -> None:
        self.name = name
        self._connection = Connection(access, client)
        self._encryption = _words(
            ServerSideEncryption=objects.encryption, SSEKMSKeyId=objects.kms_key
        )
        self._patience = patience
        self._takes_gaps: bool | None = None
        self._wants_md5 = False

    async def open(self) -> None:
        """Connects, and looks whether the bucket is there; once.

        Raises:
            WrongInstance: It is not, or may not be used; the sentence says which.
        """
        await self._connection.open(self.name)

    def watch(self, observe: Observer | None) -> None:
        """Has each call told from now on, when it has ended."""
        self._connection.observe = observe

    async def close(self) -> None:
        """Ends the connections, if they are ours."""
        await self._connection.close()

    @property
    def _client(self) -> Any:
        return self._connection.client

    async def probe(self) -> None:
        """Whether it is there, and may be used.

        Raises:
            StorageFailed: It is not, or the store cannot be reached.
        """
        try:
            with translated():
                await self._client.head_bucket(Bucket=self.name)
        except Gone as error:
            raise StorageFailed from error.__cause__

    async def head(self, key: str) -> Found | None:
        """An object, None if there is none."""
        try:
            with translated():
                found = await self._client.head_object(Bucket=self.name, Key=key)
        except Gone:
            return None
        return Found(size=found["ContentLength"], metadata=found["Metadata"])

    async def get(self, key: str) -> bytes | None:
        """All of a small object, None if there is none."""
        try:
            with translated():
                found = await self._client.get_object(Bucket=self.name, Key=key)
                async with found["Body"] as stream:
                    data: bytes = await stream.read()
        except Gone:
            return None
        return data

    async def objects(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Keys that begin with `prefix`, in their order, and their bytes."""
        pages = self._client.get_paginator("list_objects_v2")
        with translated():
            async for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                for each in page.get("Contents", ()):
                    yield each["Key"], each["Size"]

    async def put(
        self,
        key: str,
        data: memoryview,
        attributes: Attributes | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """An object, from memory.

        Args:
            key: Of it.
            data: All of it.
            attributes: What it has if an upload becomes it.
            metadata: What it has otherwise.
        """
        md5 = await _md5(data)
        noted = {} if metadata is None else {"Metadata": metadata}

        async def call(**words: object) -> None:
            async with Call(self._patience, len(data), _MOVES_WITHIN, is_part=False) as under_way:
                await self._client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=Bytes(data, under_way.moves),
                    ContentMD5=md5,
                    **noted,
                    **words,
                )

        await self._make(call, attributes)

    async def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Gives an object its tags, and no others."""
        named = [{"Key": name, "Value": value} for name, value in tags.items()]
        with translated():
            await self._client.put_object_tagging(
                Bucket=self.name, Key=key, Tagging={"TagSet": named}
            )

    async def try_out(self, key: str, attributes: Attributes, tags: Mapping[str, str]) -> None:
        """Whether objects can have what they are to have, by one that is deleted again.

        Raises:
            WrongInstance: They cannot, and this is closed; the sentence says why, as far as the
                store does.
        """
        try:
            await self.put(key, memoryview(b"?"), attributes)
            if tags:
                await self.tag(key, tags)
            await self.delete([key])
        except (StorageFailed, StorageFull) as error:
            await self.close()
            raise WrongInstance(
                f"the bucket {self.name!r} takes no object of this storage class, encryption and "
                f"tags: {error.__cause__}"
            ) from error

    async def copy(self, source: str, key: str, attributes: Attributes) -> None:
        """An object, from another one of this bucket.

        Not every store copies what is encrypted.

        Raises:
            Gone: That one is not there.
        """

        async def call(**words: object) -> None:
            await self._client.copy_object(
                Bucket=self.name,
                Key=key,
                CopySource={"Bucket": self.name, "Key": source},
                MetadataDirective="REPLACE",
                **words,
            )

        await self._make(call, attributes)

    async def _make(
        self, call: Callable[..., Awaitable[T]], attributes: Attributes | None = None
    ) -> T:
        """A call that makes an object; without the client's metadata where that is refused."""
        words = {} if attributes is None else attributes.words()
        try:
            with translated():
                return await call(**self._encryption, **words)
        except StorageFailed as error:
            if attributes is None or not attributes.metadata or not is_refused(error):
                raise
            logger.warning(
                "the store refused the object of upload %s; it is tried without what the client "
                "told of it: %s",
                attributes.upload_id,
                error.__cause__,
            )
        with translated():
            return await call(**self._encryption, **attributes.words(of_client=False))

    async def read(self, key: str, offset: int, count: int) -> AsyncIterator[bytes]:
        """Bytes of an object, in pieces.

        Raises:
            Gone: It is not there.
            StorageFailed: It cannot be read, or has fewer bytes.
        """
        if not count:
            return
        wanted = f"bytes={offset}-{offset + count - 1}"
        with translated():
            found = await self._client.get_object(Bucket=self.name, Key=key, Range=wanted)
        async with found["Body"] as stream:
            while count:
                with translated():
                    data: bytes = await stream.read(min(count, _READ_AT_ONCE))
                if not data:
                    raise StorageFailed
                count -= len(data)
                yield data

    async def link(self, key: str, expires: float, media_type: str, disposition: str) -> str:
        """A URL that anybody can download an object from, for some seconds; no store is asked.

        Args:
            key: Of the object.
            expires: Seconds.
            media_type: `Content-Type` of the answer.
            disposition: Its `Content-Disposition`.
        """
        with translated():
            url = await self._client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.name,
                    "Key": key,
                    "ResponseContentType": media_type,
                    "ResponseContentDisposition": disposition,
                },
                ExpiresIn=round(expires),
            )
        return str(url)

    async def load(self, key: str, into: memoryview, *, offset: int = 0) -> None:
        """As `read`, of as many bytes as there is room for."""
        at = 0
        async for data in self.read(key, offset, len(into)):
            into[at : at + len(data)] = data
            at += len(data)

    async def delete(self, keys: Sequence[str]) -> None:
        """Objects, whether they are there or not."""
        for first in range(0, len(keys), _DELETE_AT_ONCE):
            named = [{"Key": key} for key in keys[first : first + _DELETE_AT_ONCE]]
            with translated():
                done = await self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": named, "Quiet": True}
                )
            if done.get("Errors"):
                raise StorageFailed from OSError(str(done["Errors"][0]))

    async def begin(self, key: str, attributes: Attributes | None = None) -> tuple[str, bool]:
        """A multipart upload: its id, and whether it was asked for more than once.

        Each time may have begun one, whose id nobody knows.
        """

        async def call(**words: object) -> tuple[str, bool]:
            begun = await self._client.create_multipart_upload(Bucket=self.name, Key=key, **words)
            return str(begun["UploadId"]), begun["ResponseMetadata"]["RetryAttempts"] > 0

        return await self._make(call, attributes)

    async def upload_part(self, key: str, multipart: str, number: int, data: memoryview) -> Part:
        """A part.

        Raises:
            Gone: The multipart upload is not there any more.
        """
        has_md5 = self._wants_md5
        try:
            return await self._upload_part(key, multipart, number, data)
        except StorageFailed as error:
            if has_md5 or not misses_md5(error):
                raise
        self._wants_md5 = True
        return await self._upload_part(key, multipart, number, data)

    async def _upload_part(self, key: str, multipart: str, number: int, data: memoryview) -> Part:
        md5 = {"ContentMD5": await _md5(data)} if self._wants_md5 else {}
        sha256 = await asyncio.to_thread(_build_sha256, data)
        with translated():
            async with Call(self._patience, len(data), _MOVES_WITHIN, is_part=True) as under_way:
                done = await self._client.upload_part(
                    Bucket=self.name,
                    Key=key,
                    UploadId=multipart,
                    PartNumber=number,
                    Body=Bytes(data, under_way.moves, sha256),
                    **md5,
                )
        return Part(number=number, size=len(data), etag=done["ETag"].strip('"'))

    async def copy_part(
        self, source: str, key: str, multipart: str, number: int, *, offset: int | None, count: int
    ) -> Part:
        """A part, from another object of this bucket.

        Args:
            source: The key of that one.
            key: Of this one.
            multipart: Its multipart upload.
            number: Of the part.
            offset: Where in the source it begins; None for all of the source.
            count: Its bytes.

        Raises:
            Gone: The source or the multipart upload is not there.
        """
        span = {} if offset is None else {"CopySourceRange": f"bytes={offset}-{offset + count - 1}"}
        with translated():
            done = await self._client.upload_part_copy(
                Bucket=self.name,
                Key=key,
                UploadId=multipart,
                PartNumber=number,
                CopySource={"Bucket": self.name, "Key": source},
                **span,
            )
        etag = done["CopyPartResult"]["ETag"].strip('"')
        return Part(number=number, size=count, etag=etag)

    async def complete(self, key: str, multipart: str, parts: Sequence[Part]) -> None:
        """Makes an object of the parts.

        Raises:
            Gone: The multipart upload is not there: perhaps it was completed before.
        """
        listed = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        with translated():
            await self._client.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=multipart, MultipartUpload={"Parts": listed}
            )

    async def abort(self, key: str, multipart: str) -> bool:
        """Lets a multipart upload go: whether it was there."""
        try:
            with translated():
                await self._client.abort_multipart_upload(
                    Bucket=self.name, Key=key, UploadId=multipart
                )
        except Gone:
            return False
        return True

    async def parts(self, key: str, multipart: str, after: int) -> list[Part]:
        """Parts that are there, with numbers behind `after`, in their order.

        Raises:
            Gone: The multipart upload is not there.
        """
        found: list[Part] = []
        with translated():
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self.name, Key=key, UploadId=multipart, PartNumberMarker=after
            )
            async for page in pages:
                found += [
                    Part(
                        number=each["PartNumber"],
                        size=each["Size"],
                        etag=each.get("ETag", "").strip('"'),
                    )
                    for each in page.get("Parts", ())
                ]
        return found

    async def takes_gaps(self, key: str) -> bool:
        """Whether a completion may leave out parts that were sent; tried once, with a few bytes.

        Args:
            key: Of an object that may be made for that, and is deleted. An end on the way leaves
                it, or multipart uploads of it.
        """
        if self._takes_gaps is None:
            multipart, _ = await self.begin(key)
            try:
                data = memoryview(b"?")
                await self.upload_part(key, multipart, 1, data)
                kept = await self.upload_part(key, multipart, 2, data)
                self._takes_gaps = await self._completes(key, multipart, kept)
            finally:
                await self.abort(key, multipart)
                await self.delete([key])
        return self._takes_gaps

    async def _completes(self, key: str, multipart: str, part: Part) -> bool:
        try:
            await self.complete(key, multipart, [part])
        except StorageFailed as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and code_of(cause) == "InvalidPart":
                return False
            raise
        return True

    async def multiparts(self, key: str) -> list[str]:
        """Ids of all multipart uploads of just this key."""
        found: list[str] = []
        pages = self._client.get_paginator("list_multipart_uploads")
        with translated():
            async for page in pages.paginate(Bucket=self.name, Prefix=key):
                found += [
                    each["UploadId"] for each in page.get("Uploads", ()) if each["Key"] == key
                ]
        return found


def _words(**words: str | None) -> dict[str, str]:
    return {name: value for name, value in words.items() if value is not None}


def _build_sha256(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


async def _md5(data: memoryview) -> str:
    return await asyncio.to_thread(build_md5, data)
