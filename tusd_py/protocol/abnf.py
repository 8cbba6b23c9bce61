"""The grammar, compiled once. Every pattern is meant for `fullmatch`."""

import re

LARGEST_INTEGER = 2**63 - 1
"""Bytes; the largest offset that a file system and SQLite can hold."""

INTEGER = re.compile(r"[0-9]{1,19}", re.ASCII)
"""A non-negative integer. `int()` alone would take `+1`, `1_0` and Arabic digits."""

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
"""RFC 9110, 5.6.2."""

BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII)
"""RFC 4648, section 4, padding included."""

METADATA_KEY = re.compile(r"[!-+\--~]+", re.ASCII)
"""Creation, Upload-Metadata: no spaces, no commas, not empty, ASCII."""

CHECKSUM_ALGORITHM = re.compile(r"[a-z0-9-]+", re.ASCII)
"""Checksum: "ASCII characters with the modification that uppercase characters are excluded"."""

UPLOAD_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]{0,127}", re.ASCII)
"""One segment of a path that needs no escaping, and is neither hidden nor `..` as a file name."""

URL = re.compile(r"[!-~]+", re.ASCII)
"""What a URL can be made of (RFC 3986): printable ASCII without spaces."""

HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
"""A host with an optional port, as in `Host` (RFC 9110, 7.2)."""
