"""Checksum as a trailer of a chunked PATCH."""

from tus_conformance import expect
from tus_conformance.case import MUST, Section
from tus_conformance.sections.checksum import DISCARD, upload_checksum
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Answer, Url, chunk, last_chunk

checksum_trailer = Section("checksum-trailer", "Checksum, trailer", needs=("checksum-trailer",))
case = checksum_trailer.case

SOURCE = "Checksum"
ANNOUNCED = (
    "If the Server can handle trailers, this behavior MUST be announced by adding "
    "`checksum-trailer` to the `Tus-Extension` header."
)
VERIFY = (
    "Once the entire request has been received, the Server MUST verify the uploaded chunk against "
    "the provided checksum using the specified algorithm."
)


@case(1, MUST, SOURCE, ANNOUNCED, always=True)
def announced(tus: Tus) -> None:
    """A wrong checksum trailer is refused if, and only if, checksum-trailer is announced."""
    url = tus.create()
    refused = not _patch(tus, url, b"hello", upload_checksum(b"HELLO")).ok
    if "checksum-trailer" in tus.features.extensions:
        expect.that(refused, "a wrong trailer to be refused, as announced", "it is taken")
    elif refused and _patch(tus, url, b"hello", upload_checksum(b"hello")).ok:
        expect.that(False, "`checksum-trailer` announced", "trailers are verified without it")
    else:
        raise NotApplicable("checksum-trailer is not announced")


@case(2, MUST, SOURCE, ANNOUNCED)
def right(tus: Tus) -> None:
    """PATCH with the right SHA1 as a trailer is taken."""
    url = tus.create()
    expect.status(_patch(tus, url, b"hello", upload_checksum(b"hello")), 204)
    tus.stays(url, 5)


@case(3, MUST, SOURCE, DISCARD)
def wrong(tus: Tus) -> None:
    """A mismatch in the trailer leaves the upload as it was."""
    url = tus.filled(b"hello", 11)
    _patch(tus, url, b" mars!", upload_checksum(b" world"), offset=5)
    tus.stays(url, 5)
    _patch(tus, url, b" world", upload_checksum(b" world"), offset=5)
    tus.stays(url, 11)
    tus.holds(url, b"hello world")


@case(4, MUST, SOURCE, DISCARD)
def unknown_algorithm(tus: Tus) -> None:
    """An unknown algorithm in the trailer discards the chunk."""
    url = tus.create()
    answer = _patch(tus, url, b"hello", ("Upload-Checksum", "nosuchsum aGVsbG8="))
    expect.refused(answer, "an unknown algorithm")
    tus.stays(url, 0)


@case(
    5,
    MUST,
    "RFC 9112 5",
    'Each field line consists of a case-insensitive field name followed by a colon (":"), '
    "optional leading whitespace, the field line value, and optional trailing whitespace.",
)
def name_in_any_case(tus: Tus) -> None:
    """The trailer's name is taken in lower and upper case."""
    for change in (str.lower, str.upper):
        url = tus.create()
        name, value = upload_checksum(b"HELLO")
        answer = _patch(tus, url, b"hello", (change(name), value))
        expect.refused(answer, f"a wrong {change(name)}")
        tus.stays(url, 0)


@case(6, MUST, SOURCE, VERIFY)
def many_chunks(tus: Tus) -> None:
    """The trailer's checksum covers all chunks of a large body."""
    data = bytes(range(256)) * 800
    pieces = b"".join(chunk(data[at : at + 999]) for at in range(0, len(data), 999))
    url = tus.create(len(data))
    expect.refused(_send(tus, url, pieces, upload_checksum(data[:-1])), "a wrong checksum")
    tus.stays(url, 0)
    expect.success(_send(tus, url, pieces, upload_checksum(data)), "the right checksum")
    tus.stays(url, len(data))


def _patch(tus: Tus, url: Url, data: bytes, trailer: tuple[str, str], *, offset: int = 0) -> Answer:
    half = len(data) // 2
    return _send(tus, url, chunk(data[:half]) + chunk(data[half:]), trailer, offset=offset)


def _send(
    tus: Tus, url: Url, chunks: bytes, trailer: tuple[str, str], *, offset: int = 0
) -> Answer:
    body = chunks + last_chunk([trailer])
    return tus.chunked(url, offset, body, ("Trailer", "Upload-Checksum"))
