"""Where a finished file lies: `{yyyy}/{mm}/{id}/{filename}` and the like, made safe."""

import datetime
import re
import string
import unicodedata

from tusd_py.protocol.upload import Upload

FIELDS = ("id", "filename", "yyyy", "mm", "dd")
LONGEST_NAME = 200
"""Bytes of a name that a client chose."""

LONGEST_SEGMENT = 255
"""Bytes of one name that file systems take."""

_LONGEST_ENDING = 20
"""Bytes behind the last dot that are still taken for an ending."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control, direction and the like, surrogates, line separators."""

_LEADING = re.compile(r"^[\s.]+")

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


class InvalidTemplate(ValueError):
    """A file template that names an unknown field, or leads out of its folder."""


def check_template(template: str) -> str:
    """The template itself, if it can be used.

    Raises:
        InvalidTemplate: It is empty or absolute, has `..`, or has a field that is not in `FIELDS`
            or is not a name alone.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidTemplate(f"the file template {template!r} is broken: {error}") from error
    fields = {name for _, name, _, _ in parsed if name is not None}
    unknown = sorted(fields - set(FIELDS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise InvalidTemplate(f"the file template has {{{unknown[0]}}}; it can have {known}")
    formatted = [name for _, name, layout, conversion in parsed if layout or conversion]
    if formatted:
        raise InvalidTemplate(
            f"the file template {template!r} has '!' or ':' in {{{formatted[0]}}}; "
            "a field is a name and nothing else"
        )
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
    path = template.format(
        id=upload.id,
        filename=safe_name(name.decode("utf-8", "replace")) or upload.id,
        yyyy=f"{created:%Y}",
        mm=f"{created:%m}",
        dd=f"{created:%d}",
    )
    return "/".join(_fitted(segment, LONGEST_SEGMENT) for segment in path.split("/"))


def safe_name(name: str) -> str:
    """A name that can stand in any folder: no separators, no control or direction characters,
    neither hidden nor `..`, at most 200 bytes of UTF-8 with its ending kept. May be empty.
    """
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(c for c in last if unicodedata.category(c) not in _INVISIBLE)
    clean = _UNSAFE.sub("_", unicodedata.normalize("NFC", visible))
    return _fitted(_LEADING.sub("", clean.rstrip()), LONGEST_NAME)


def with_id(path: str, upload_id: str) -> str:
    """Another name beside `path`, for when that one is taken by another upload."""
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > _LONGEST_ENDING:
        stem, dot, ending = name, "", ""
    behind = f"-{upload_id}{dot}{ending}"
    return folder + slash + _cut(stem, LONGEST_SEGMENT - len(behind.encode())) + behind


def _fitted(name: str, most: int) -> str:
    """The name, cut before its ending to a number of bytes."""
    if len(name.encode()) <= most:
        return name
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > _LONGEST_ENDING:
        return _cut(name, most)
    return _cut(stem, most - len(ending.encode()) - 1) + dot + ending


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode("utf-8", "ignore").rstrip()
