"""`Upload-Concat`: partial uploads, and final ones that are made of them."""

import urllib.parse
from dataclasses import dataclass

from tusd_py.protocol import abnf
from tusd_py.protocol.errors import InvalidPart, InvalidUploadConcat

_HEADER = "Upload-Concat"
_LARGEST_LIST = 1000


@dataclass(frozen=True, slots=True)
class Partial:
    """A chunk of a file, to be concatenated later."""


@dataclass(frozen=True, slots=True)
class Final:
    """An upload that is made of others; `urls` as they were sent, in order, may repeat."""

    urls: tuple[str, ...]


Concat = Partial | Final


def parse_upload_concat(value: str) -> Concat:
    """Concatenation, Upload-Concat: `partial`, or "`final` followed by a semicolon and a
    space-separated list of partial upload URLs".

    Raises:
        InvalidUploadConcat: It is neither, or the list is empty or has more than 1,000 entries.
    """
    if value == "partial":
        return Partial()
    kind, semicolon, rest = value.partition(";")
    if kind != "final" or not semicolon:
        raise InvalidUploadConcat(_HEADER, "must be 'partial' or 'final;URL URL...'", value)
    urls = tuple(rest.split(" "))
    if not all(abnf.URL.fullmatch(url) for url in urls):
        raise InvalidUploadConcat(_HEADER, "must list URLs with one space between them", value)
    if len(urls) > _LARGEST_LIST:
        raise InvalidUploadConcat(_HEADER, f"names more than {_LARGEST_LIST} partial uploads")
    return Final(urls)


def build_upload_concat(concat: Concat) -> str:
    """The reverse of `parse_upload_concat`; a final list that was sent comes back as it was."""
    if isinstance(concat, Partial):
        return "partial"
    return "final;" + " ".join(concat.urls)


def parse_part_url(url: str, base_path: str) -> str:
    """The id in the URL of a partial upload, absolute or a path.

    The host is not compared: behind proxies one server has several names, and an id is looked up
    in this server's own state whatever name it came under.

    Args:
        url: As in the list of a final upload.
        base_path: The path that the uploads of this server lie under, with a slash at its end.

    Raises:
        InvalidPart: It is not the URL of an upload under `base_path`.
    """
    try:
        path = urllib.parse.urlsplit(urllib.parse.urljoin(base_path, url)).path
    except ValueError as error:
        raise InvalidPart(url, "is not a URL") from error
    head, _, upload_id = path.rpartition("/")
    if not (head + "/").endswith(base_path) or not abnf.UPLOAD_ID.fullmatch(upload_id):
        raise InvalidPart(url, f"is not the URL of an upload under {base_path}")
    return upload_id
