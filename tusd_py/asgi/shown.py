"""An upload as pages and programs are told of it."""

import json
from collections.abc import Callable

from tusd_py.engine.listing import state_of
from tusd_py.protocol.errors import Header
from tusd_py.protocol.tus1 import Response
from tusd_py.protocol.upload import Phase, Upload

Show = Callable[[Upload], dict[str, object]]
"""See `build_upload`, for whoever asks."""


def build_upload(upload: Upload, url: str, now: float) -> dict[str, object]:
    """An upload, as pages and programs are told of it.

    Args:
        upload: Its record.
        url: Where it is.
        now: Seconds since the epoch.
    """
    metadata = {key: value.decode("utf-8", "replace") for key, value in upload.metadata.items()}
    is_complete = upload.phase is Phase.COMPLETE
    return {
        "id": upload.id,
        "url": url,
        "state": state_of(upload, now).value,
        "offset": upload.upload_offset,
        "length": upload.upload_length,
        "max_speed": upload.max_speed,
        "filename": metadata.get("filename") or metadata.get("name") or "",
        "filetype": metadata.get("filetype") or metadata.get("type") or "",
        "metadata": metadata,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at if upload.may_expire else None,
        "partial": upload.is_partial,
        "final": upload.is_final,
        "download": is_complete and upload.path is not None and not upload.has_expired(now),
        "principal": upload.principal,
    }


def build_json(content: dict[str, object]) -> Response:
    """The answer to a question."""
    headers: tuple[Header, ...] = (("Content-Type", "application/json"),)
    return Response(200, headers, json.dumps(content).encode())
