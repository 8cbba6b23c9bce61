"""What a command means for an upload as it stands: a plan, or an error. Nothing is done here."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from tusd_py.protocol import abnf
from tusd_py.protocol.commands import Append, Create
from tusd_py.protocol.errors import (
    FinalNotModifiable,
    FloorReached,
    InvalidPart,
    InvalidUploadLength,
    LengthExceeded,
    MetadataTooLong,
    OffsetMismatch,
    Rejected,
    TooManyUploads,
    TooManyUploadsInAll,
    UploadGone,
    UploadNotFinished,
    UploadNotFound,
    UploadPaused,
    UploadTooLarge,
)
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import GONE, Phase, Tail, Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this server takes.

    Attributes:
        max_size: Bytes of one upload, or None for no limit.
        max_metadata: Characters of `Upload-Metadata`.
        expire_after: Seconds without an append after which an unfinished upload expires, or None.
        min_free_disk: Bytes that stay free where the uploads lie; 0 to take whatever fits.
        max_open_uploads: Uploads that wait for bytes, or None for no limit.
        max_open_per_client: Likewise, of one client.
        max_speed: Bytes per second of all uploads together, or None for no limit.
        max_speed_per_client: Likewise, of all uploads of one client.
        max_speed_per_upload: Likewise, of one upload.
    """

    max_size: int | None = None
    max_metadata: int = 16_384
    expire_after: float | None = 86_400.0
    min_free_disk: int = 64 << 20
    max_open_uploads: int | None = None
    max_open_per_client: int | None = None
    max_speed: int | None = None
    max_speed_per_client: int | None = None
    max_speed_per_upload: int | None = None

    @property
    def has_speeds(self) -> bool:
        """Whether any speed is limited."""
        speeds = (self.max_speed, self.max_speed_per_client, self.max_speed_per_upload)
        return speeds != (None, None, None)

    def speed_of_client(self, grant: Grant | None) -> int | None:
        """What a client may bring, in bytes per second, with its grant."""
        return _least(self.max_speed_per_client, None if grant is None else grant.max_speed)

    def speed_of_upload(self, max_speed: int | None) -> int | None:
        """What may be brought to an upload that has a limit of its own, in bytes per second."""
        return _least(self.max_speed_per_upload, max_speed)

    def narrowed(self, grant: Grant | None) -> "Limits":
        """These, and what the grant of whoever asks allows."""
        if grant is None or grant.max_size is None:
            return self
        return replace(self, max_size=_least(self.max_size, grant.max_size))

    def expires_at(self, now: float) -> float | None:
        """When an upload that is touched now expires; seconds since the epoch."""
        return None if self.expire_after is None else now + self.expire_after

    def check_size(self, size: int | None) -> None:
        """Creation, POST: "If the length of the upload exceeds the maximum [...] 413".

        Raises:
            UploadTooLarge: It does.
        """
        if size is not None and self.max_size is not None and size > self.max_size:
            raise UploadTooLarge(size, self.max_size)

    def check_open(self, of_client: int, in_all: int) -> None:
        """Whether there may be one more upload where so many are open.

        Raises:
            TooManyUploads: There may not.
        """
        if self.max_open_per_client is not None and of_client >= self.max_open_per_client:
            raise TooManyUploads(self.max_open_per_client)
        if self.max_open_uploads is not None and in_all >= self.max_open_uploads:
            raise TooManyUploadsInAll(self.max_open_uploads)

    def check_room(self, needed: int, free: int) -> None:
        """Whether `needed` more bytes may be stored where there are `free` ones.

        Raises:
            FloorReached: Less than `min_free_disk` would be left.
        """
        if self.min_free_disk and free - needed < self.min_free_disk:
            raise FloorReached(self.min_free_disk)


def _least(*limits: int | None) -> int | None:
    """The smallest of some limits, each of which may be None for none."""
    return min([limit for limit in limits if limit is not None], default=None)


class AppendPlan(NamedTuple):
    """How to take the body of an append.

    Attributes:
        upload: The upload as it is to be committed before the first byte.
        at_most: Bytes that may be taken; one more is an error.
        keep_partial: Whether a body that ends early counts as far as it came.
    """

    upload: Upload
    at_most: int
    keep_partial: bool


def _reached(upload: Upload | None, grant: Grant | None) -> Upload | None:
    """The upload, if it is there for whoever asks; what is another's cannot be told from none."""
    if upload is None or grant is None or grant.reaches(upload.principal):
        return upload
    return None


def look(upload: Upload | None, upload_id: str, grant: Grant | None) -> Upload:
    """The record of an upload, a tombstone too.

    Raises:
        UploadNotFound: There is none, or it is another's.
    """
    upload = _reached(upload, grant)
    if upload is None:
        raise UploadNotFound(upload_id)
    return upload


def find(upload: Upload | None, upload_id: str, now: float, grant: Grant | None = None) -> Upload:
    """The upload, if its URL still leads somewhere.

    Raises:
        UploadNotFound: There is none, or it is another's.
        UploadGone: It was terminated, or has expired, swept or not.
        Rejected: The application refused it at its finish; its words are repeated.
    """
    upload = look(upload, upload_id, grant)
    if upload.phase is Phase.TERMINATED:
        raise UploadGone(upload_id, "was terminated")
    if upload.phase is Phase.EXPIRED or upload.has_expired(now):
        raise UploadGone(upload_id, "has expired")
    if upload.phase is Phase.FAILED and upload.reply is not None:
        reply = upload.reply
        raise Rejected(reply.status or 400, reply.body, reply.headers)
    return upload


def create(command: Create, upload_id: str, limits: Limits, now: float) -> Upload:
    """The record of a new upload.

    Raises:
        UploadTooLarge: The length, or the content that comes along, exceeds the maximum.
        LengthExceeded: The content that comes along exceeds the length.
        MetadataTooLong: The metadata is larger than allowed.
    """
    limits = limits.narrowed(command.grant)
    limits.check_size(command.upload_length)
    if len(command.upload_metadata or "") > limits.max_metadata:
        raise MetadataTooLong(limits.max_metadata)
    if command.content is not None:
        _check_reach(0, command.content.length, command.upload_length, limits)
    principal = None if command.grant is None else command.grant.principal or None
    return Upload(
        id=upload_id,
        created_at=now,
        upload_length=command.upload_length,
        upload_metadata=command.upload_metadata,
        concat=command.concat,
        parts=command.part_ids,
        expires_at=limits.expires_at(now),
        # "Such an upload is immediately complete after its creation" (Creation, POST).
        phase=Phase.FINISHING if command.upload_length == 0 else Phase.RECEIVING,
        tail=Tail.SEALED if command.part_ids else Tail.OPEN,
        principal=principal,
        client=None if principal or limits.max_open_per_client is None else command.client or None,
    )


def _check_reach(
    upload_offset: int, content_length: int | None, upload_length: int | None, limits: Limits
) -> None:
    reach = upload_offset + (content_length or 0)
    if upload_length is None:
        limits.check_size(reach)
    bound = abnf.LARGEST_INTEGER if upload_length is None else upload_length
    if reach > bound:
        raise LengthExceeded(bound)


def refuse_early(command: Append, upload: Upload | None, now: float) -> Upload:
    """What can be said of an append without the lock, so that no doomed one disturbs a live one.

    Returns:
        The upload, if the append may succeed.

    Raises:
        TusError: The append can never succeed: see `find`; or a final upload, or an offset below
            the committed one, which can only rise.
        UploadPaused: It cannot for now.
    """
    upload = _reached(upload, command.grant)
    if upload is not None and upload.phase is Phase.FAILED and upload.is_final:
        raise FinalNotModifiable
    found = find(upload, command.upload_id, now)
    if found.is_final:
        raise FinalNotModifiable
    if command.upload_offset < found.upload_offset:
        raise OffsetMismatch(command.upload_offset, found.upload_offset)
    if found.paused and found.phase is Phase.RECEIVING:
        raise UploadPaused(found.id)
    return found


def append(command: Append, upload: Upload | None, limits: Limits, now: float) -> AppendPlan:
    """How to take the body of a `PATCH`, decided under the lock.

    Raises:
        TusError: As `refuse_early`.
        OffsetMismatch: The offset is not the current one.
        InvalidUploadLength: A late length contradicts what is known.
        LengthExceeded: The body reaches beyond the length.
        UploadTooLarge: The body, or a late length, exceeds the maximum.
    """
    found = refuse_early(command, upload, now)
    limits = limits.narrowed(command.grant)
    # "If the offsets do not match, the Server MUST respond with the 409 Conflict status without
    # modifying the upload resource" (Core Protocol, PATCH).
    if command.upload_offset != found.upload_offset:
        raise OffsetMismatch(command.upload_offset, found.upload_offset)
    upload_length = _late_length(command.upload_length, found, limits)
    content = command.content
    _check_reach(found.upload_offset, content.length, upload_length, limits)
    bound = upload_length if upload_length is not None else limits.max_size
    room = (abnf.LARGEST_INTEGER if bound is None else bound) - found.upload_offset
    begun = found._replace(
        upload_length=upload_length,
        expires_at=limits.expires_at(now) if found.may_expire else found.expires_at,
        tail=Tail.SEALED if content.is_verified else Tail.OPEN,
    )
    at_most = room if content.length is None else content.length
    return AppendPlan(begun, at_most, not content.is_verified)


def _late_length(sent: int | None, upload: Upload, limits: Limits) -> int | None:
    known = upload.upload_length
    if sent is None or sent == known:
        return known
    # "Once set the length MUST NOT be changed" (Creation, POST).
    if known is not None:
        raise InvalidUploadLength("Upload-Length", f"is {known} already and cannot change")
    if sent < upload.upload_offset:
        raise InvalidUploadLength(
            "Upload-Length", f"is below the {upload.upload_offset} bytes that are here", str(sent)
        )
    limits.check_size(sent)
    return sent


def check_part(part: Upload | None, url: str, now: float, grant: Grant | None = None) -> Upload:
    """Whether an upload can be a part of a final one; it may still be unfinished.

    Raises:
        InvalidPart: There is none, or it is another's, it is gone, or it was not created as a
            partial upload.
    """
    part = _reached(part, grant)
    if part is None or part.phase in GONE or part.has_expired(now):
        raise InvalidPart(url, "does not exist here, or not any more")
    if part.phase is Phase.FAILED:
        raise InvalidPart(url, "has failed and will never be finished")
    if not part.is_partial:
        raise InvalidPart(url, "was not created with 'Upload-Concat: partial'")
    return part


def final_length(parts: list[Upload], limits: Limits) -> int | None:
    """Bytes of a final upload: "the sum of the length of all partial uploads" (Concatenation).

    Returns:
        None while the length of a part is not known.

    Raises:
        UploadTooLarge: The sum exceeds the maximum.
    """
    total = 0
    for part in parts:
        if part.upload_length is None:
            return None
        total += part.upload_length
    limits.check_size(total)
    if total > abnf.LARGEST_INTEGER:
        raise UploadTooLarge(total, abnf.LARGEST_INTEGER)
    return total


def download(
    upload: Upload | None, upload_id: str, now: float, grant: Grant | None = None
) -> Upload:
    """The upload whose bytes may be given out.

    Raises:
        UploadNotFound: There is none, it is another's or gone, or its file was taken away.
        UploadNotFinished: It is not complete.
        Rejected: The application refused it at its finish.
    """
    if upload is None or upload.phase in GONE or upload.has_expired(now):
        raise UploadNotFound(upload_id)
    found = find(upload, upload_id, now, grant)
    if found.phase is not Phase.COMPLETE:
        raise UploadNotFinished(upload_id, found.upload_offset, found.upload_length)
    if found.path is None:
        raise UploadNotFound(upload_id)
    return found
