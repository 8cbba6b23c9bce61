"""What a file is called and is, for whoever it is sent to: from metadata that a client chose.

The rules:
- Whatever the metadata has, a header made of it is one line of ASCII, and a name leads nowhere.
- Only types that run no script are shown by a browser; all others are offered to be saved.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

_INLINE = frozenset(
    {
        "application/pdf",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
        "video/mp4",
        "video/ogg",
        "video/webm",
    }
)
"""Types that run no script."""

_OPAQUE = "application/octet-stream"

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
"""RFC 6838, 4.2; without parameters."""


def declared_type(metadata: Mapping[str, bytes]) -> str:
    """The media type that the client said, if it is one; opaque bytes otherwise."""
    given = metadata.get("filetype") or metadata.get("type") or b""
    media_type = given.decode("latin-1").strip().lower()
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else _OPAQUE


def harmless_type(metadata: Mapping[str, bytes]) -> str:
    """As `declared_type`, where a browser may show it; opaque bytes otherwise."""
    media_type = declared_type(metadata)
    return media_type if media_type in _INLINE else _OPAQUE


def build_content_disposition(metadata: Mapping[str, bytes]) -> str:
    """RFC 6266: the file's name in `filename*`, and an ASCII shape of it for old browsers."""
    kind = "inline" if declared_type(metadata) in _INLINE else "attachment"
    raw = metadata.get("filename") or metadata.get("name") or b""
    name = "".join(c for c in raw.decode("utf-8", "replace") if c.isprintable())
    name = name.replace("/", "_").replace("\\", "_")[:200]
    if not name:
        return kind
    ascii_name = name.encode("ascii", "replace").decode().replace('"', "'").replace("?", "_")
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
