"""A new upload: the record first, then the file, then whatever bytes came along."""

import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial

from tusd_py.body import Body, Reason
from tusd_py.engine.append import Confirm, append
from tusd_py.engine.finish import resume
from tusd_py.engine.rebuild import make_anew
from tusd_py.engine.services import Fsync, Services, to_the_end
from tusd_py.engine.small import Memory, append_small, create_now
from tusd_py.engine.telling import has_come_to
from tusd_py.engine.terminate import bury
from tusd_py.hooks.interface import Changes, NewUpload, RequestInfo
from tusd_py.protocol import abnf, decide
from tusd_py.protocol.commands import Append, Create
from tusd_py.protocol.concat import Final
from tusd_py.protocol.errors import (
    ChecksumMismatch,
    InvalidHeader,
    LengthExceeded,
    NotAllowed,
    NotAuthenticated,
    Rejected,
    StorageFull,
    TusError,
    UnsupportedAlgorithm,
    UploadTooLarge,
)
from tusd_py.protocol.metadata import build_upload_metadata, parse_upload_metadata
from tusd_py.protocol.upload import SLOWEST, Phase, Reply, Upload


async def create(
    services: Services,
    command: Create,
    body: Body,
    request: RequestInfo,
    authorize_part: Callable[[str], Awaitable[None]],
    confirm: Confirm | None = None,
    on_reply: Callable[[Reply], None] = lambda _: None,
) -> Upload:
    """Answers a `POST`; runs to its end, also when it is cancelled.

    Args:
        services: What to work with.
        command: What is asked for.
        body: What came along, if `command.content` says so.
        request: For the application.
        authorize_part: Asks whether the client may use an upload, by id, as a part.
        confirm: As for `append`.
        on_reply: Called with what the application adds to the response.

    Returns:
        The record, as far as the bytes that came along brought it.

    Raises:
        TusError: See `decide.create`, `decide.check_part`, `Services.check_room`,
            `OpenUploads.check` and `append`; `UploadExists`, and whatever the application refuses
            with. There is no upload then.
    """
    upload = _decided(services, command)
    if not _asks(services) and not upload.is_final:
        return await _begin(services, upload, command, body, request, confirm)

    async def prepare_and_begin() -> Upload:
        ready = await _prepare(services, upload, command, request, authorize_part, on_reply)
        return await _begin(services, ready, command, body, request, confirm)

    return await to_the_end(prepare_and_begin(), lambda: body.interrupt(Reason.CANCELLED))


def create_at_once(services: Services, command: Create, data: bytes) -> Upload | None:
    """As `create`, for content that is in memory, and without waiting for anything.

    Returns:
        None if that cannot be; nothing was changed then.

    Raises:
        TusError: As `create`.
    """
    if _asks(services) or services.hooks.on_created or command.concat is not None:
        return None
    if services.storage.is_enough:
        return None  # it has to be noted before anybody is told
    upload = _decided(services, command)
    if upload.phase is not Phase.RECEIVING:
        return None
    return create_now(services, upload, _first(upload, command), data)


def _asks(services: Services) -> bool:
    """Whether the application takes part in a creation."""
    return services.hooks.new_id is not None or services.hooks.on_create is not None


def _decided(services: Services, command: Create) -> Upload:
    upload = decide.create(command, secrets.token_hex(16), services.limits, services.clock())
    content = command.content.length if command.content is not None else None
    services.check_room(upload.upload_length or content or 0)
    services.open_uploads.check(upload.made_by, services.limits)
    return upload


def _first(upload: Upload, command: Create) -> Append | None:
    """The append that comes along, if there is one."""
    if command.content is None:
        return None
    return Append(upload.id, 0, command.content, None, command.grant, command.client)


async def _prepare(
    services: Services,
    upload: Upload,
    command: Create,
    request: RequestInfo,
    authorize_part: Callable[[str], Awaitable[None]],
    on_reply: Callable[[Reply], None],
) -> Upload:
    """Asks whoever is to be asked about a new upload."""
    if isinstance(command.concat, Final):
        upload = await _with_parts(services, upload, command, command.concat, authorize_part)
    return await _ask_application(services, upload, request, on_reply)


async def _begin(
    services: Services,
    upload: Upload,
    command: Create,
    body: Body,
    request: RequestInfo,
    confirm: Confirm | None,
) -> Upload:
    first = _first(upload, command)
    if first is not None and upload.phase is Phase.RECEIVING:
        data = body.whole()
        if data is not None:
            body = Memory(data, body.trailers)
            done = await append_small(services, first, body, request, new=upload)
            if done is not None:
                return done
        return await to_the_end(
            _with_content(services, upload, first, body, request, confirm),
            lambda: body.interrupt(Reason.CANCELLED),
        )
    upload = await _insert(services, upload, request)
    if upload.is_final or upload.phase is Phase.FINISHING:
        work = partial(resume, services, upload.id, request=request)
        upload = await services.jobs.join(upload.id, work, within=None)
    return decide.find(upload, upload.id, services.clock())


async def _insert(services: Services, upload: Upload, request: RequestInfo) -> Upload:
    if services.recalls:
        # An application may choose an id that was given before its record was lost.
        await make_anew(services, upload.id)
    # Many may have been let in while the application was asked about each of them.
    with services.open_uploads.place(upload.made_by, services.limits):
        if events := has_come_to(services, upload, Phase.RECEIVING, request):
            durable = services.fsync is Fsync.ALWAYS
            upload = await services.state.insert(upload, events=events, durable=durable)
            services.wake_outbox()
        else:
            upload = await services.insert(upload)
        services.note_created(upload)
    try:
        if upload.max_speed is not None:
            # Nobody knows of the upload yet, so this need not be one with its record.
            await services.state.set_speed_ceiling(upload.id, upload.max_speed)
        await services.storage.note(upload)
    except TusError:
        await _withdraw(services, upload.id, request)
        raise
    return upload


async def _with_parts(
    services: Services,
    upload: Upload,
    command: Create,
    concat: Final,
    authorize_part: Callable[[str], Awaitable[None]],
) -> Upload:
    for part_id in upload.parts:
        await authorize_part(part_id)
    found = await services.state.load_many(upload.parts)
    now, grant = services.clock(), command.grant
    parts = [
        decide.check_part(found.get(part_id), url, now, grant)
        for part_id, url in zip(upload.parts, concat.urls, strict=True)
    ]
    limits = services.limits.narrowed(grant)
    length = decide.final_length(parts, limits)
    if length is None and limits is not services.limits:
        # Nobody would know of the smaller limit when the length comes.
        raise NotAllowed("the length of all parts must be known first: it is limited for you")
    services.check_room(length or 0)
    return upload._replace(upload_length=length)


async def _ask_application(
    services: Services, upload: Upload, request: RequestInfo, on_reply: Callable[[Reply], None]
) -> Upload:
    hooks = services.hooks
    if hooks.new_id is not None:
        chosen = await hooks.new_id(_describe(upload, request))
        upload = upload._replace(id=_checked_id(chosen))
    if hooks.on_create is not None:
        begun = time.perf_counter()
        changes = await hooks.on_create(_describe(upload, request)) or Changes()
        services.step("on_create", begun)
        upload = _changed(services, upload, changes)
        if changes.reply is not None:
            on_reply(changes.reply)
    return upload


def _describe(upload: Upload, request: RequestInfo) -> NewUpload:
    return NewUpload(
        id=upload.id,
        length=upload.upload_length,
        metadata=parse_upload_metadata(upload.upload_metadata or ""),
        is_partial=upload.is_partial,
        is_final=upload.is_final,
        parts=upload.parts,
        principal=upload.principal,
        request=request,
    )


def _changed(services: Services, upload: Upload, changes: Changes) -> Upload:
    metadata = upload.changed_metadata
    if changes.target is not None:
        _check_target(services, changes.target)
    if changes.metadata is not None:
        metadata = build_upload_metadata(changes.metadata)
    return upload._replace(
        id=upload.id if changes.id is None else _checked_id(changes.id),
        changed_metadata=metadata,
        target=upload.target if changes.target is None else changes.target,
        max_speed=None if changes.max_speed is None else _checked_speed(changes.max_speed),
    )


def _checked_speed(max_speed: int) -> int:
    if max_speed < SLOWEST:
        raise ValueError(f"the application chose the speed {max_speed}; {SLOWEST} is the least")
    return max_speed


def _checked_id(upload_id: str) -> str:
    if not abnf.UPLOAD_ID.fullmatch(upload_id):
        raise ValueError(f"the application chose the id {upload_id!r}, which a URL cannot end with")
    return upload_id


def _check_target(services: Services, target: str) -> None:
    # Said now, since the finish could not go on with it, nor back.
    if "\0" in target or any(segment in ("", ".", "..") for segment in target.split("/")):
        raise ValueError(f"the application chose the target {target!r}, which is no relative path")
    try:
        services.storage.check_target(target)
    except ValueError as error:
        raise ValueError(f"the application chose the target {target!r}: {error}") from error


_REFUSALS = (
    ChecksumMismatch,
    InvalidHeader,  # of a trailer
    LengthExceeded,
    NotAllowed,
    NotAuthenticated,
    Rejected,  # by `confirm`
    StorageFull,
    UnsupportedAlgorithm,
    UploadTooLarge,
)
"""What the content of a new upload is refused with when it has come."""


async def _with_content(
    services: Services,
    upload: Upload,
    first: Append,
    body: Body,
    request: RequestInfo,
    confirm: Confirm | None,
) -> Upload:
    upload = await _insert(services, upload, request)
    try:
        return await append(services, first, body, request, confirm)
    except _REFUSALS:
        await _withdraw(services, upload.id, request)
        raise


async def _withdraw(services: Services, upload_id: str, request: RequestInfo) -> None:
    """The client learns of no URL, so nobody could ever go on with it."""
    async with services.locks.hold(upload_id, within=services.timing.acquire_lock):
        left = await services.load(upload_id)
        if left is not None and left.is_unfinished:
            await bury(services, left, Phase.TERMINATED, request=request)
