"""One `parse_` and one `build_` for each header; after this nothing downstream sees a header."""

import datetime
import email.utils
from collections.abc import Collection, Sequence
from functools import lru_cache

from tusd_py.protocol import abnf
from tusd_py.protocol.errors import (
    InvalidHeader,
    InvalidUploadDeferLength,
    InvalidUploadLength,
    InvalidUploadOffset,
)

TUS_VERSION = "1.0.0"
OFFSET_CONTENT_TYPE = "application/offset+octet-stream"


class Headers:
    """The headers of a request, by lower-case name; values are Latin-1 text, trimmed.

    A value is decoded when it is asked for: of most requests a few are.

    Args:
        raw: Pairs of name and value as bytes, as ASGI gives them.
        are_lower: Whether the names are in lower case, as those of our own server.
    """

    __slots__ = ("_repeated", "_values")

    def __init__(self, raw: Collection[tuple[bytes, bytes]], *, are_lower: bool = False) -> None:
        self._values = dict(raw) if are_lower else {name.lower(): value for name, value in raw}
        self._repeated: dict[bytes, list[bytes]] = {}
        if len(self._values) != len(raw):
            for name, value in raw:
                self._repeated.setdefault(name.lower(), []).append(value)

    def __contains__(self, name: str) -> bool:
        return _KEYS[name] in self._values

    def one(self, name: str) -> str | None:
        """The value of a header that may stand once.

        Raises:
            InvalidHeader: It stands there more than once.
        """
        value = self._values.get(_KEYS[name])
        if value is None:
            return None
        if self._repeated and len(values := self._all(_KEYS[name])) > 1:
            sent = ", ".join(map(_text, values))
            raise InvalidHeader(name, "was sent more than once; send it once", sent)
        return value.decode("latin-1").strip(" \t")

    def first(self, name: str) -> str | None:
        """The first value of a header, where a second one would do no harm."""
        value = self._values.get(_KEYS[name])
        if value is None:
            return None
        return _text(self._repeated[_KEYS[name]][0] if self._repeated else value)

    def joined(self, name: str) -> str:
        """All values of a header that is a list, with commas; empty if it is not there."""
        return ",".join(map(_text, self._all(_KEYS[name])))

    def as_mapping(self) -> dict[str, str]:
        """All of them, by lower-case name; repeated ones joined by commas."""
        return {
            name.decode("latin-1"): ", ".join(map(_text, self._all(name))) for name in self._values
        }

    def _all(self, key: bytes) -> Sequence[bytes]:
        """The values of a header in the order of sending."""
        if self._repeated:
            return self._repeated.get(key, ())
        return (self._values[key],) if key in self._values else ()


class _Keys(dict[str, bytes]):
    """How the names that this server asks for are kept; there are few."""

    def __missing__(self, name: str) -> bytes:
        key = self[name] = name.lower().encode("latin-1")
        return key


_KEYS = _Keys()


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \t")


def _parse_integer(name: str, value: str, error: type[InvalidHeader]) -> int:
    if not abnf.INTEGER.fullmatch(value):
        raise error(name, "must be a whole number of bytes, digits only, at most 19", value)
    return int(value)


def _parse_size(name: str, value: str, error: type[InvalidHeader]) -> int:
    size = _parse_integer(name, value, error)
    if size > abnf.LARGEST_INTEGER:
        raise error(name, f"must be at most {abnf.LARGEST_INTEGER}", value)
    return size


def parse_upload_offset(value: str | None) -> int:
    """Bytes; "MUST be a non-negative integer" (Core Protocol, Upload-Offset).

    It may be larger than any upload: then it is not where the upload stands, as other wrong ones.

    Raises:
        InvalidUploadOffset: The header is missing or not such a number.
    """
    if value is None:
        raise InvalidUploadOffset("Upload-Offset", "is missing; ask with HEAD where to go on")
    return _parse_integer("Upload-Offset", value, InvalidUploadOffset)


def build_upload_offset(upload_offset: int) -> str:
    """The reverse of `parse_upload_offset`."""
    return str(upload_offset)


def parse_upload_length(value: str) -> int:
    """Bytes; "MUST be a non-negative integer" (Core Protocol, Upload-Length).

    Raises:
        InvalidUploadLength: It is not such a number.
    """
    return _parse_size("Upload-Length", value, InvalidUploadLength)


def build_upload_length(upload_length: int) -> str:
    """The reverse of `parse_upload_length`."""
    return str(upload_length)


def parse_upload_defer_length(value: str | None) -> bool:
    """Whether the length comes later. Creation, Upload-Defer-Length: "Its value MUST be 1".

    Raises:
        InvalidUploadDeferLength: It has another value.
    """
    if value is None:
        return False
    if value != "1":
        raise InvalidUploadDeferLength("Upload-Defer-Length", "must be 1 or absent", value)
    return True


def parse_content_length(value: str | None) -> int | None:
    """Bytes, or None where the body's length is not announced (RFC 9110, 8.6).

    Raises:
        InvalidHeader: It is not a non-negative integer.
    """
    if value is None:
        return None
    return _parse_size("Content-Length", value, InvalidHeader)


def parse_media_type(value: str | None) -> str | None:
    """A content type without its parameters, in lower case (RFC 9110, 8.3.1)."""
    if value is None:
        return None
    return value.partition(";")[0].strip(" \t").lower()


def build_upload_expires(expires_at: float) -> str:
    """An RFC 9110 date. Expiration, Upload-Expires.

    Args:
        expires_at: Seconds since the epoch, UTC; fractions are cut, never rounded up.
    """
    return _build_date(int(expires_at))


@lru_cache(maxsize=64)
def _build_date(second: int) -> str:
    # Uploads that are made at one time expire at one time.
    return email.utils.formatdate(second, usegmt=True)


def parse_upload_expires(value: str) -> float:
    """Seconds since the epoch, UTC: the reverse of `build_upload_expires`.

    Raises:
        InvalidHeader: It is not an RFC 9110 date.
    """
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError) as error:
        raise InvalidHeader("Upload-Expires", "must be an RFC 9110 date", value) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()
