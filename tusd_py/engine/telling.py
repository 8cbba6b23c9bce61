"""What the application is told of an upload: a copy of its record, as it is just then."""

import os
from typing import Any

from tusd_py.engine.services import Services
from tusd_py.hooks.events import OutboxEvent
from tusd_py.hooks.interface import (
    NO_REQUEST,
    FinishedUpload,
    Progress,
    RequestInfo,
    UploadInfo,
    build_details,
)
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Phase, Upload


def describe(services: Services, upload: Upload, request: RequestInfo = NO_REQUEST) -> UploadInfo:
    """An upload that has a record."""
    return UploadInfo(**_known(services, upload, request), length=upload.upload_length)


def describe_progress(services: Services, upload: Upload, request: RequestInfo) -> Progress:
    """An upload to which bytes come."""
    return Progress(**_known(services, upload, request), length=upload.upload_length)


def describe_finished(services: Services, upload: Upload, request: RequestInfo) -> FinishedUpload:
    """An upload whose bytes are all here."""
    return FinishedUpload(
        **_known(services, upload, request),
        length=upload.upload_offset,
        created_at=upload.created_at,
    )


def _known(services: Services, upload: Upload, request: RequestInfo) -> dict[str, Any]:
    return {
        "id": upload.id,
        "metadata": upload.metadata,
        "offset": upload.upload_offset,
        "is_partial": upload.is_partial,
        "is_final": upload.is_final,
        "parts": upload.parts,
        "location": _locate(services, upload),
        "request": request,
        "principal": upload.principal,
    }


def _locate(services: Services, upload: Upload) -> str:
    # None where the application took the file.
    if upload.phase is Phase.COMPLETE and upload.path is None:
        return ""
    location = str(services.storage.locate(upload))
    return location if "://" in location else os.path.abspath(location)


def has_come_to(
    services: Services, upload: Upload, phase: Phase, request: RequestInfo = NO_REQUEST
) -> tuple[OutboxEvent, ...]:
    """The event of a change, for the commit that makes it; none if nobody is told of such.

    Args:
        services: What to work with.
        upload: As it is from now on.
        phase: What it came to.
        request: Whose doing it is.
    """
    if not _is_told(services, phase):
        return ()
    event = OutboxEvent(
        upload_id=upload.id,
        phase=phase,
        at=services.clock(),
        upload_offset=upload.upload_offset,
        metadata=build_upload_metadata(upload.metadata),
        details=build_details(describe(services, upload, request)),
    )
    return (event,)


def _is_told(services: Services, phase: Phase) -> bool:
    if phase is Phase.RECEIVING:
        return services.hooks.on_created is not None
    if phase is Phase.COMPLETE:
        return services.hooks.on_finished is not None
    # Also by a tool that has no functions, such as `tusd-py cleanup`.
    return services.tells
