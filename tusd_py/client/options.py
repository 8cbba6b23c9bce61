"""The syntax of what the user types: sizes, durations, headers, metadata, the URL.

Each raises `click.BadParameter`, which ends the command with exit status 2.
"""

import re

import click
import httpx

from tusd_py.protocol.abnf import LARGEST_INTEGER, METADATA_KEY, TOKEN

_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_OURS = frozenset(
    {"connection", "content-length", "content-type", "host", "tus-resumable", "transfer-encoding"}
)


def parse_size(value: str) -> int:
    """Bytes, at least one: `65536`, `64MiB`, `64M` (the same), `64MB` (decimal)."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([kmgt]?)(i?b)?", value.lower(), re.ASCII)
    if match is not None:
        number, unit, suffix = match.groups()
        size = int(float(number) * (_DECIMAL if suffix == "b" else _BINARY)[unit])
        if 0 < size <= LARGEST_INTEGER:
            return size
    raise click.BadParameter(f"{value!r} is not a size such as 65536, 512KiB, 64MiB or 1.5GB")


def parse_duration(value: str) -> float:
    """Seconds, zero or more: `30`, `30s`, `500ms`, `5m`, `2h`, `1d`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(ms|[smhd]?)", value, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 0, 30s, 5m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def parse_header(value: str) -> tuple[str, str]:
    """Name and value of `Name: value`; not of one that the protocol itself needs."""
    name, colon, content = value.partition(":")
    content = content.strip(" \t")
    if not colon or not TOKEN.fullmatch(name) or not re.fullmatch(r"[\t -~]*", content):
        raise click.BadParameter(f"{value!r} is not a header such as 'Authorization: Bearer abc'")
    if name.lower() in _OURS or name.lower().startswith("upload-"):
        raise click.BadParameter(f"{name} is a header that the upload itself needs")
    return name, content


def parse_metadata(value: str) -> tuple[str, bytes]:
    """Key and value of `key=value`."""
    key, equals, content = value.partition("=")
    if not equals or not METADATA_KEY.fullmatch(key):
        raise click.BadParameter(
            f"{value!r} is not a pair such as album=holidays; "
            "a key has no spaces, no commas and no letters beyond ASCII"
        )
    return key, content.encode("utf-8", "surrogateescape")


def parse_endpoint(value: str) -> httpx.URL:
    """The URL where uploads are made, with scheme and host."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise click.BadParameter(f"{value!r} is not a URL such as https://example.org/files/")
    return url
