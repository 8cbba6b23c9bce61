"""Checksum: Upload-Checksum is verified, and what does not match leaves no trace."""

import hashlib
import zlib
from base64 import b64encode

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import chunk, last_chunk

checksum = Section("checksum", "Checksum", needs=("checksum",))
case = checksum.case

SOURCE = "Checksum"
VERIFY = (
    "Once the entire request has been received, the Server MUST verify the uploaded chunk against "
    "the provided checksum using the specified algorithm."
)
DISCARD = (
    "In the first two cases the uploaded chunk MUST be discarded, and the upload and its offset "
    "MUST NOT be updated."
)
SHA1 = "The Server MUST support at least the SHA1 checksum algorithm identified by `sha1`."
STATUSES = "Depending on the result the Server MAY respond with one of the following status code:"
ALGORITHMS = (
    "The `Tus-Checksum-Algorithm` response header MUST be a comma-separated list of the checksum "
    "algorithms supported by the server."
)
FORM = (
    "The header MUST consist of the name of the used checksum algorithm and the Base64 encoded "
    "checksum separated by a space."
)
HASHLIB = {"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-512"}


@case(
    1,
    MUST,
    SOURCE,
    "If supported, the Server MUST add `checksum` to the `Tus-Extension` header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """A wrong checksum is refused if, and only if, checksum is announced."""
    url = tus.create()
    refused = not tus.patch(url, 0, b"hello", upload_checksum(b"other")).ok
    if "checksum" in tus.features.extensions:
        expect.that(refused, "a wrong checksum to be refused, as announced", "it is taken")
    elif refused and tus.patch(url, 0, b"hello", upload_checksum(b"hello")).ok:
        expect.that(False, "`checksum` in Tus-Extension", "checksums are verified without it")
    else:
        raise NotApplicable("checksum is not announced")


@case(
    2,
    MUST,
    SOURCE,
    "The `Tus-Checksum-Algorithm` header MUST be included in the response to an `OPTIONS` request.",
)
def algorithms(tus: Tus) -> None:
    """OPTIONS has Tus-Checksum-Algorithm."""
    expect.one(tus.features.options, "Tus-Checksum-Algorithm")


@case(3, MUST, SOURCE, SHA1)
def sha1_is_announced(tus: Tus) -> None:
    """Tus-Checksum-Algorithm is a list that has sha1."""
    names = expect.elements(tus.features.options, "Tus-Checksum-Algorithm")
    expect.that("sha1" in names, "sha1 among the algorithms", ", ".join(names))


@case(
    4,
    MUST,
    SOURCE,
    "The names of the checksum algorithms MUST only consist of ASCII characters with the "
    "modification that uppercase characters are excluded.",
)
def names_in_lower_case(tus: Tus) -> None:
    """The names of the algorithms are ASCII without upper case."""
    text = expect.one(tus.features.options, "Tus-Checksum-Algorithm")
    expect.that(text.isascii() and text == text.lower(), "ASCII in lower case", text)


@case(5, MUST, SOURCE, SHA1)
def right_sha1(tus: Tus) -> None:
    """PATCH with the right SHA1 is taken."""
    url = tus.create()
    expect.success(tus.patch(url, 0, b"hello", upload_checksum(b"hello")), "the right SHA1")
    tus.stays(url, 5)


@case(6, MUST, SOURCE, VERIFY)
def wrong_sha1(tus: Tus) -> None:
    """PATCH with the SHA1 of other bytes is refused."""
    answer = tus.patch(tus.create(), 0, b"hello", upload_checksum(b"HELLO"))
    expect.refused(answer, "a wrong checksum")


@case(7, MAY, SOURCE, STATUSES)
def mismatch_status(tus: Tus) -> None:
    """A mismatch is answered with 460."""
    answer = tus.patch(tus.create(), 0, b"hello", upload_checksum(b"HELLO"))
    expect.status(answer, 460)


@case(8, MUST, SOURCE, DISCARD)
def mismatch_moves_nothing(tus: Tus) -> None:
    """A mismatch leaves the offset of a new upload at 0."""
    url = tus.create()
    tus.patch(url, 0, b"hello", upload_checksum(b"HELLO"))
    tus.stays(url, 0)


@case(9, MUST, SOURCE, DISCARD)
def mismatch_keeps_what_was_there(tus: Tus) -> None:
    """A mismatch in a second chunk leaves the first one, and the right bytes then follow."""
    url = tus.filled(b"hello", 11)
    tus.patch(url, 5, b" mars!", upload_checksum(b" world"))
    tus.stays(url, 5)
    expect.success(tus.patch(url, 5, b" world", upload_checksum(b" world")), "the right bytes")
    tus.stays(url, 11)
    tus.holds(url, b"hello world")


@case(10, MAY, SOURCE, STATUSES)
def unknown_algorithm_status(tus: Tus) -> None:
    """An algorithm that nobody knows is answered with 400."""
    answer = tus.patch(tus.create(), 0, b"hello", ("Upload-Checksum", "nosuchsum aGVsbG8="))
    expect.status(answer, 400)


@case(11, MUST, SOURCE, DISCARD)
def unknown_algorithm_moves_nothing(tus: Tus) -> None:
    """A chunk under an unknown algorithm is discarded."""
    url = tus.create()
    tus.patch(url, 0, b"hello", ("Upload-Checksum", "nosuchsum aGVsbG8="))
    tus.stays(url, 0)


@case(12, MUST, "Checksum, Tus-Checksum-Algorithm", ALGORITHMS)
def every_algorithm(tus: Tus) -> None:
    """Every announced algorithm that this suite knows takes right sums and refuses wrong ones."""
    known = [name for name in tus.features.algorithms if _digest(name, b"") is not None]
    if not known:
        raise NotApplicable("no algorithm is announced that this suite knows")
    for name in known:
        url = tus.create()
        wrong = tus.patch(url, 0, b"hello", upload_checksum(b"HELLO", name))
        expect.refused(wrong, f"a wrong {name}")
        right = tus.patch(url, 0, b"hello", upload_checksum(b"hello", name))
        expect.success(right, f"the right {name}")


@case(13, MUST, "Checksum, Upload-Checksum", FORM)
def malformed(tus: Tus) -> None:
    """Upload-Checksum without a name, a sum or Base64 is refused and stores nothing."""
    url = tus.create()
    for text in ("sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00=", "sha1 !!!", "sha1 YQ=="):
        answer = tus.patch(url, 0, b"hello", ("Upload-Checksum", text))
        expect.refused(answer, f"Upload-Checksum: {text}")
    tus.stays(url, 0)


@case(
    14,
    MUST,
    "Checksum, Upload-Checksum",
    "The `Upload-Checksum` request header contains information about the checksum of the current "
    "body payload.",
)
def of_the_chunk_alone(tus: Tus) -> None:
    """The checksum of a second chunk is that of its own bytes."""
    url = tus.filled(b"hello", 11)
    answer = tus.patch(url, 5, b" world", upload_checksum(b" world"))
    expect.success(answer, "the checksum of the second chunk")
    tus.stays(url, 11)


@case(15, MUST, SOURCE, VERIFY)
def of_a_chunked_body(tus: Tus) -> None:
    """The checksum of a chunked body is that of its bytes without the framing."""
    url = tus.create(20)
    body = chunk(b"hel") + chunk(b"lo") + last_chunk()
    wrong = tus.chunked(url, 0, body, upload_checksum(b"HELLO"))
    expect.refused(wrong, "a wrong checksum of a chunked body")
    tus.stays(url, 0)
    right = tus.chunked(url, 0, body, upload_checksum(b"hello"))
    expect.success(right, "the right checksum of a chunked body")
    tus.stays(url, 5)


@case(16, MUST, SOURCE, VERIFY)
def of_a_large_body(tus: Tus) -> None:
    """The checksum covers all of a body that comes in many pieces."""
    data = bytes(range(256)) * 800  # below 256 KiB, which some servers take at most at once
    url = tus.create(len(data))
    wrong = tus.patch(url, 0, data[:-1] + b"\x00", upload_checksum(data))
    expect.refused(wrong, "200 KiB whose last byte is wrong")
    tus.stays(url, 0)
    expect.success(tus.patch(url, 0, data, upload_checksum(data)), "the right 200 KiB")
    tus.stays(url, len(data))


def upload_checksum(data: bytes, algorithm: str = "sha1") -> tuple[str, str]:
    """The header field for these bytes."""
    digest = _digest(algorithm, data)
    assert digest is not None, algorithm
    return "Upload-Checksum", f"{algorithm} {b64encode(digest).decode()}"


def _digest(name: str, data: bytes) -> bytes | None:
    """The sum as its bytes, most significant first; None for a name this suite does not know."""
    if name in HASHLIB:
        return hashlib.new(name.replace("-", "_"), data, usedforsecurity=False).digest()
    if name == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return None
