"""The three requests that an upload is made of: create it, ask where it stands, append to it.

Each is sent once. Answers that are not the one hoped for are raised, see `Answer.error`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

from tusd_py.client.errors import NotNow, Refused, Unsuitable
from tusd_py.client.link import Answer, Link
from tusd_py.protocol.headers import OFFSET_CONTENT_TYPE, TUS_VERSION, build_upload_offset

RESUMABLE = {"Tus-Resumable": TUS_VERSION}
"""'MUST be included in every request and response except for OPTIONS' ("Tus-Resumable")."""
FINAL_WITHIN = 600.0
"""Seconds that a server may take to put parts together before it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where an upload stands.

    Args:
        offset: bytes that the server has.
        length: bytes of the whole; None while it is deferred.
    """

    offset: int
    length: int | None

    @property
    def is_complete(self) -> bool:
        """Nothing is left to be sent, or to be said about the length."""
        return self.offset == self.length


def create(link: Link, endpoint: str, headers: Mapping[str, str]) -> str:
    """Makes an upload ("Creation, POST") and returns its URL, absolute.

    Args:
        link: to the server.
        endpoint: the creation URL.
        headers: `Upload-Length` and the like.

    Raises:
        Passing: another try may succeed; it may have been made nevertheless.
        Refused, Unsuitable: another try would not.
    """
    within = FINAL_WITHIN if "Upload-Concat" in headers else None
    answer = link.ask("POST", endpoint, {**RESUMABLE, **headers}, answer_within=within)
    if answer.status != 201:
        raise answer.refusal()
    return _location(answer, endpoint)


def _location(answer: Answer, endpoint: str) -> str:
    """'This URL MAY be absolute or relative' ("Creation, POST")."""
    try:
        base = httpx.URL(endpoint)
        url = base.join(answer.headers["Location"])
    except (KeyError, httpx.InvalidURL) as error:
        raise Refused(answer.status, "no usable Location for the new upload") from error
    if base.scheme == "https" and url.scheme != "https":
        raise Unsuitable(
            f"the server wants the file to go unencrypted to {url}; "
            "is it behind a proxy whose headers it does not trust?"
        )
    return str(url)


def locate(link: Link, url: str) -> Position:
    """Asks what the server has ("Core Protocol, HEAD").

    Raises:
        Gone: nothing; the upload does not exist any more.
        Passing, Refused, Unsuitable: it did not say.
    """
    answer = link.ask("HEAD", url, RESUMABLE)
    if answer.status not in (200, 204):
        raise answer.error()
    offset = answer.number("Upload-Offset")
    if offset is None:
        raise Refused(answer.status, "no Upload-Offset in the answer to HEAD")
    return Position(offset=offset, length=answer.number("Upload-Length"))


def append(
    link: Link,
    url: str,
    headers: Mapping[str, str],
    *,
    start: int,
    count: int,
    body: Iterator[bytes],
) -> int:
    """Sends bytes ("Core Protocol, PATCH") and returns the offset behind those that are stored.

    Args:
        link: to the server.
        url: of the upload.
        headers: `Upload-Checksum`, `Upload-Length`.
        start: offset of the first byte.
        count: bytes in the body.
        body: in pieces; what it raises is raised here.

    Raises:
        Gone, Mismatch, Passing, Refused, Unsuitable: nothing is known about the offset.
    """
    framing = {
        "Upload-Offset": build_upload_offset(start),
        "Content-Type": OFFSET_CONTENT_TYPE,
        "Content-Length": str(count),
    }
    answer = link.ask("PATCH", url, {**RESUMABLE, **framing, **headers}, body)
    if answer.status not in (200, 204):
        raise answer.error()
    offset = answer.number("Upload-Offset")
    if offset is None or not start <= offset <= start + count:
        raise NotNow(answer.status, "no sensible Upload-Offset in the answer to PATCH")
    if offset == start and count > 0:
        raise NotNow(answer.status, "none of the bytes were stored")
    return offset
