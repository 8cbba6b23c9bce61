"""The syntax of what the user types: sizes, durations, headers, metadata, the URL.

Each raises `click.BadParameter`, which ends the command with exit status 2.
"""

import re

import click
import httpx

from tusd_py import config
from tusd_py.protocol.abnf import LARGEST_INTEGER, METADATA_KEY, TOKEN

_OURS = frozenset(
    {"connection", "content-length", "content-type", "host", "tus-resumable", "transfer-encoding"}
)


def parse_size(value: str) -> int:
    """Bytes, at least one: see `config.parse_size`."""
    try:
        size = config.parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not 0 < size <= LARGEST_INTEGER:
        raise click.BadParameter(f"{value!r} is not a size that a file can have")
    return size


def parse_duration(value: str) -> float:
    """Seconds, zero or more: see `config.parse_duration`."""
    try:
        return config.parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


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
