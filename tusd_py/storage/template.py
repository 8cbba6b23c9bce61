"""Where a finished file lies: `{yyyy}/{mm}/{id}/{filename}` and the like, made safe."""

import datetime
import re
import string
import unicodedata

from tusd_py.protocol.upload import Upload

FIELDS = ("id", "filename", "yyyy", "mm", "dd")
_LONGEST_NAME = 200
"""Bytes of one name; file systems take 255, and a suffix must fit."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


class InvalidTemplate(ValueError):
    """A file template that names an unknown field, or leads out of its folder."""


def check_template(template: str) -> str:
    """The template itself, if it can be used.

    Raises:
        InvalidTemplate: It is empty or absolute, has `..`, or has a field that is not in `FIELDS`.
    """
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InvalidTemplate(f"the file template {template!r} is broken: {error}") from error
    unknown = sorted(fields - set(FIELDS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise InvalidTemplate(f"the file template has {{{unknown[0]}}}; it can have {known}")
    if not fields & {"id", "filename"}:
        raise InvalidTemplate("the file template needs {id} or {filename}, or all files are one")
    return safe_path(template)


def safe_path(path: str) -> str:
    """A relative path that stays below the folder it is taken from.

    Raises:
        InvalidTemplate: It does not.
    """
    segments = path.split("/")
    if "\x00" in path or any(segment in ("", ".", "..") for segment in segments):
        raise InvalidTemplate(f"{path!r} must be a relative path without '..' or empty names")
    return path


def render(template: str, upload: Upload) -> str:
    """The relative path of a finished upload."""
    created = datetime.datetime.fromtimestamp(upload.created_at, datetime.UTC)
    metadata = upload.metadata
    name = metadata.get("filename") or metadata.get("name") or b""
    return template.format(
        id=upload.id,
        filename=safe_name(name.decode("utf-8", "replace")) or upload.id,
        yyyy=f"{created:%Y}",
        mm=f"{created:%m}",
        dd=f"{created:%d}",
    )


def safe_name(name: str) -> str:
    """A name that can stand in any folder: no separators, no control or direction characters,
    neither hidden nor `..`, at most 200 bytes of UTF-8 with its ending kept. May be empty.
    """
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    clean = _UNSAFE.sub("_", unicodedata.normalize("NFC", visible)).strip().lstrip(".")
    stem, dot, ending = clean.rpartition(".")
    if not dot or len(ending.encode()) > 20:
        return _cut(clean, _LONGEST_NAME)
    return _cut(stem, _LONGEST_NAME - len(ending.encode()) - 1) + dot + ending


def with_id(path: str, upload_id: str) -> str:
    """Another name beside `path`, for when that one is taken by another upload."""
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    named = f"{stem}-{upload_id}.{ending}" if dot and stem else f"{name}-{upload_id}"
    return folder + slash + named


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode("utf-8", "ignore").rstrip()
