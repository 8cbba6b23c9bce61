"""The upload directory of tusd's `filestore`, as its source has it: what lies there of uploads.

The rules:
- `<id>.info` is JSON, tusd's `FileInfo`; `<id>` has the bytes, and its size is the offset. An id
  with slashes lies in folders. Where the file of bytes is elsewhere, `Storage.Path` says so.
- `<id>.lock` has the process that serves the upload just now; what a process that is gone has left
  means nothing.
- Nothing is changed there.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tusd_py.protocol import abnf
from tusd_py.protocol.concat import (
    Concat,
    Final,
    Partial,
    build_upload_concat,
    parse_upload_concat,
)
from tusd_py.protocol.errors import InvalidUploadConcat, InvalidUploadMetadata
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Phase, Upload


class NotTaken(Exception):
    """An upload cannot be taken over; the message says why, without its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An upload of tusd.

    Attributes:
        upload: What is to be known of it here.
        file: Where its bytes are.
    """

    upload: Upload
    file: Path


def find_uploads(directory: Path) -> Iterator[str]:
    """The ids of the uploads below a folder, in order.

    Raises:
        OSError: The folder cannot be read.
    """
    os.scandir(directory).close()
    for path in sorted(directory.rglob("*.info")):
        if path.is_file():
            yield str(path.relative_to(directory)).removesuffix(".info")


def read_upload(directory: Path, upload_id: str, base_path: str) -> Found:
    """What tusd knows of an upload.

    Args:
        directory: tusd's.
        upload_id: Of `find_uploads`.
        base_path: What uploads lie under, for the URLs of the parts of a final one.

    Raises:
        NotTaken: It cannot be taken over.
    """
    if not abnf.UPLOAD_ID.fullmatch(upload_id):
        raise NotTaken(
            "ids are one segment of a URL here, of at most 128 letters, digits and '-_.~'"
        )
    _check_lock(directory / f"{upload_id}.lock")
    info_file = directory / f"{upload_id}.info"
    info = _read_info(info_file)
    if info.get("ID") != upload_id:
        raise NotTaken("its .info is that of another upload")
    file = _find_file(directory / upload_id, info)
    offset = file.stat().st_size
    length = _length(info)
    if length is not None and offset > length:
        raise NotTaken(f"its file has {offset} bytes, more than its length of {length}")
    concat = _concat(info, base_path)
    if isinstance(concat, Final) and offset != length:
        raise NotTaken("it is a final upload that tusd has not put together; have it made anew")
    upload = Upload(
        id=upload_id,
        created_at=info_file.stat().st_mtime,
        phase=Phase.FINISHING if offset == length else Phase.RECEIVING,
        upload_offset=offset,
        upload_length=length,
        upload_metadata=_metadata(info),
        concat=concat,
    )
    return Found(upload=upload, file=file)


def _check_lock(path: Path) -> None:
    try:
        holder = path.read_text("ascii").strip()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        holder = ""
    if abnf.INTEGER.fullmatch(holder) and not Path(f"/proc/{holder}").exists():
        return
    raise NotTaken(
        f"tusd is at work on it (process {holder or '?'} in {path.name}); "
        "stop tusd, and run this again"
    )


def _read_info(path: Path) -> Mapping[str, object]:
    try:
        info = json.loads(path.read_bytes())
    except OSError as error:
        raise NotTaken(f"its .info cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise NotTaken(f"its .info is no JSON: {error}") from error
    if not isinstance(info, dict):
        raise NotTaken("its .info is no JSON object")
    return info


def _find_file(beside: Path, info: Mapping[str, object]) -> Path:
    # First beside it: the folder may be a copy, or have been moved.
    storage = info.get("Storage")
    elsewhere = storage.get("Path") if isinstance(storage, dict) else None
    candidates = [beside]
    if isinstance(elsewhere, str) and os.path.isabs(elsewhere):
        candidates.append(Path(elsewhere))
    for path in candidates:
        if path.is_file() and not path.is_symlink():
            return path
    raise NotTaken("there is no file with its bytes")


def _length(info: Mapping[str, object]) -> int | None:
    if info.get("SizeIsDeferred") is True:
        return None
    size = info.get("Size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= abnf.LARGEST_INTEGER:
        raise NotTaken("its .info has no length")
    return size


def _metadata(info: Mapping[str, object]) -> str | None:
    metadata = info.get("MetaData") or {}
    if not isinstance(metadata, dict):
        raise NotTaken("the metadata in its .info cannot be read")
    pairs = {key: value.encode() for key, value in metadata.items() if isinstance(value, str)}
    try:
        return build_upload_metadata(pairs) or None
    except InvalidUploadMetadata as error:
        raise NotTaken(f"its metadata: {error}") from error


def _concat(info: Mapping[str, object], base_path: str) -> Concat | None:
    if info.get("IsPartial") is True:
        return Partial()
    if info.get("IsFinal") is not True:
        return None
    parts = info.get("PartialUploads")
    if not isinstance(parts, list) or not parts:
        raise NotTaken("its .info does not name its parts")
    final = Final(urls=tuple(f"{base_path}{part}" for part in parts))
    try:
        same = parse_upload_concat(build_upload_concat(final)) == final
    except InvalidUploadConcat:
        same = False
    if not same:
        raise NotTaken("its .info names parts that no URL has, or more than 1,000")
    return final
