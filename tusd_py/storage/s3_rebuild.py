"""The record of an upload, from what lies in the bucket: for a state directory that was lost.

The rules:
- What counts is what the last word in the bucket says, and what followed in order (`s3_journal`).
- Nothing is written, and nothing is removed: two that do this at once come to the same.
- Whoever had the upload before is dead, but a call of his may still be on its way. So numbers go on
  a good deal behind the highest that is there, and multipart uploads are looked for at the end.
- A final upload begins anew: it has its parts.
"""

from collections.abc import Sequence
from dataclasses import replace

from tusd_py.protocol.errors import StoredBytesLost
from tusd_py.protocol.upload import Phase, Upload, received, synced
from tusd_py.storage.s3_bucket import Bucket
from tusd_py.storage.s3_failures import Gone
from tusd_py.storage.s3_info import Info, Names
from tusd_py.storage.s3_journal import (
    IS_MARK,
    NOTE,
    Mark,
    Standing,
    follow,
    parse_mark,
    parse_note,
)
from tusd_py.storage.s3_parts import PartRules
from tusd_py.storage.s3_placement import Chain, Part, Placement, build_placement


async def rebuild(
    bucket: Bucket, names: Names, info: Info, *, rules: PartRules, ahead: int, mine: str
) -> Upload:
    """The record of an upload.

    Args:
        bucket: Where it lies.
        names: Of what lies there.
        info: Of the upload.
        rules: What the store takes.
        ahead: Numbers that were reserved at a time, at most.
        mine: The metadata of the upload's object that has its id.

    Raises:
        StoredBytesLost: What counts is not there.
        StorageFailed: The store cannot tell now.
    """
    upload = info.upload
    if upload.phase is Phase.COMPLETE:
        return upload._replace(placement=build_placement(Placement(key=info.key)))
    pieces = await _pieces(bucket, names, upload.id)
    begun = Placement(
        key=info.key,
        has_strays=True,
        pieces_reserved=max(pieces, default=0) + ahead,
        pieces_gone=min(pieces, default=1) - 1,
        newest=max(pieces, default=0),
        expects=0,
    )
    found = await bucket.head(info.key)
    if found is not None and found.metadata.get(mine) == upload.id:
        return _whole(upload._replace(upload_length=found.size), begun)
    if upload.is_final:
        return upload._replace(placement=build_placement(begun))
    told, mark = await _last_word(bucket, names, upload.id, pieces)
    multipart, parts = await _multipart(bucket, info, told)
    try:
        standing = follow(told, {part.number: part for part in parts}, pieces)
    except KeyError as error:
        raise StoredBytesLost(upload.id) from error
    placement = replace(
        begun,
        multipart=multipart,
        chain=Chain.of(standing.parts),
        pieces=standing.pieces,
        reserved=_reserved(standing, parts, rules.most_parts, ahead),
        expects=standing.expects,
        mark=mark,
    )
    return _at(upload, placement.size, placement)


def _whole(upload: Upload, placement: Placement) -> Upload:
    """Its object was made, and what is left of it was not cleared away yet."""
    assert upload.upload_length is not None, "it is there"
    return _at(upload, upload.upload_length, placement)


def _at(upload: Upload, offset: int, placement: Placement) -> Upload:
    return synced(received(upload, offset))._replace(placement=build_placement(placement))


def _reserved(standing: Standing, parts: Sequence[Part], most: int, ahead: int) -> int:
    used = max((part.number for part in parts), default=0)
    used = max(used, standing.expects - 1)
    return max(used, min(used + ahead, most - ahead))


async def _pieces(bucket: Bucket, names: Names, upload_id: str) -> dict[int, int]:
    """Sizes of all pieces and marks, by number."""
    found = {}
    async for key, size in bucket.objects(names.pieces(upload_id)):
        number = names.piece_number(upload_id, key)
        if number is not None:
            found[number] = size
    return found


async def _multipart(bucket: Bucket, info: Info, told: Mark) -> tuple[str | None, list[Part]]:
    """The multipart upload, None for none, and what lies in it."""
    if told.multipart is not None:
        begun = [told.multipart]
    elif info.upload.target is None:
        begun = await bucket.multiparts(info.key)
    else:
        begun = []
    found = [(multipart, await _parts(bucket, info.key, multipart)) for multipart in begun]
    # Of several that were begun, all but one were never known, and have no parts.
    return max(found, key=lambda each: len(each[1]), default=(None, []))


async def _parts(bucket: Bucket, key: str, multipart: str) -> list[Part]:
    try:
        return await bucket.parts(key, multipart, 0)
    except Gone:
        return []


async def _last_word(
    bucket: Bucket, names: Names, upload_id: str, pieces: dict[int, int]
) -> tuple[Mark, int]:
    """What counts, as of the newest piece or mark, and the mark that this goes back to."""
    if not pieces:
        return Mark(), 0
    newest = max(pieces)
    prefix = names.pieces(upload_id)
    found = await bucket.head(f"{prefix}{newest}")
    try:
        note = "" if found is None else found.metadata[NOTE]
        if note == IS_MARK:
            return await _mark(bucket, prefix, newest), newest
        told = parse_note(note)
        mark = await _mark(bucket, prefix, told.mark) if told.mark else Mark()
    except (KeyError, ValueError) as error:
        raise StoredBytesLost(upload_id) from error
    return told.after(mark, newest), told.mark


async def _mark(bucket: Bucket, prefix: str, number: int) -> Mark:
    body = await bucket.get(f"{prefix}{number}")
    if body is None:
        raise KeyError(number)
    return parse_mark(body)
