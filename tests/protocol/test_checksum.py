"""A chunk is checked against what the client said, with the algorithm that it said."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import LONG, steady
from tusd_py.protocol.checksum import (
    ALGORITHMS,
    TUS_CHECKSUM_ALGORITHM,
    Checksum,
    build_upload_checksum,
    parse_upload_checksum,
    parse_upload_checksum_trailer,
)
from tusd_py.protocol.commands import Content
from tusd_py.protocol.errors import (
    ChecksumMismatch,
    InvalidHeader,
    InvalidUploadChecksum,
    TusError,
    UnsupportedAlgorithm,
)

SHA1 = "Kq5sNclPz7QV2+lfQIuc6R7oRu0="


def test_the_example_of_the_specification_is_hello_world() -> None:
    checksum = parse_upload_checksum(f"sha1 {SHA1}")
    digest = checksum.start()
    digest.update(b"hello")
    digest.update(memoryview(b" world"))
    assert digest.digest() == checksum.digest


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("sha1", hashlib.sha1(b"hello world").digest()),
        ("md5", hashlib.md5(b"hello world").digest()),
        ("sha256", hashlib.sha256(b"hello world").digest()),
        ("sha512", hashlib.sha512(b"hello world").digest()),
        ("crc32", bytes.fromhex("0d4a1185")),
    ],
)
def test_each_algorithm_that_is_offered_digests(algorithm: str, expected: bytes) -> None:
    encoded = base64.b64encode(expected).decode()
    checksum = parse_upload_checksum(f"{algorithm} {encoded}")
    assert checksum == Checksum(algorithm=algorithm, digest=expected)
    digest = checksum.start()
    digest.update(bytearray(b"hello "))
    digest.update(b"world")
    assert digest.digest() == expected
    assert checksum.start().digest() != expected, "each start is a fresh one"
    assert algorithm in TUS_CHECKSUM_ALGORITHM.split(",")


def test_every_algorithm_that_is_offered_is_tested_above() -> None:
    assert set(ALGORITHMS) == {"sha1", "md5", "sha256", "sha512", "crc32"}
    for make, size in ALGORITHMS.values():
        assert len(make().digest()) == size


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", InvalidUploadChecksum),
        ("sha1", InvalidUploadChecksum),
        ("sha1 ", InvalidUploadChecksum),
        (" ", InvalidUploadChecksum),
        (f" {SHA1}", InvalidUploadChecksum),
        (f"sha1  {SHA1}", InvalidUploadChecksum),
        (f"sha1\t{SHA1}", InvalidUploadChecksum),
        (f"sha1:{SHA1}", InvalidUploadChecksum),
        (f"SHA1 {SHA1}", InvalidUploadChecksum),
        (f"sh\u00e41 {SHA1}", InvalidUploadChecksum),
        (f"sha1 {SHA1[:-1]}", InvalidUploadChecksum),  # no padding
        (f"sha1 {SHA1}\n", InvalidUploadChecksum),
        (f"sha1 {SHA1} ", InvalidUploadChecksum),
        (f"sha1 {SHA1},sha1 {SHA1}", InvalidUploadChecksum),
        (f"sha1 {SHA1.replace('+', '-')}", InvalidUploadChecksum),  # the alphabet of URLs
        ("sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed", InvalidUploadChecksum),  # hexadecimal
        ("sha1 YQ==", InvalidUploadChecksum),  # 1 byte
        (f"sha256 {SHA1}", InvalidUploadChecksum),  # 20 bytes
        ("sha1 " + "A" * LONG, InvalidUploadChecksum),
        ("sha1 " + "\x00" * LONG, InvalidUploadChecksum),
        (f"sha-1 {SHA1}", UnsupportedAlgorithm),
        (f"whirlpool {SHA1}", UnsupportedAlgorithm),
        ("whirlpool !", UnsupportedAlgorithm),
        ("x" * LONG + " YQ==", UnsupportedAlgorithm),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, str) else value.__name__,
)
def test_what_cannot_be_checked_is_refused_in_a_short_sentence(
    value: str, error: type[TusError]
) -> None:
    with pytest.raises(error) as caught:
        parse_upload_checksum(value)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 1000


@steady
@given(st.data(), st.sampled_from(sorted(ALGORITHMS)))
def test_a_checksum_comes_back(data: st.DataObject, algorithm: str) -> None:
    size = ALGORITHMS[algorithm][1]
    digest = data.draw(st.binary(min_size=size, max_size=size))
    checksum = Checksum(algorithm=algorithm, digest=digest)
    assert parse_upload_checksum(build_upload_checksum(checksum)) == checksum


@steady
@given(st.lists(st.binary()))
def test_a_crc_does_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    digest = ALGORITHMS["crc32"][0]()
    for piece in pieces:
        digest.update(piece)
    assert int.from_bytes(digest.digest(), "big") == zlib.crc32(b"".join(pieces))


HELLO = b"hello world"
SHA1_OF_HELLO = Checksum(algorithm="sha1", digest=hashlib.sha1(HELLO).digest())
MD5_OF_HELLO = Checksum(algorithm="md5", digest=hashlib.md5(HELLO).digest())
WRONG = Checksum(algorithm="sha1", digest=bytes(20))
TRAILER = (b"upload-checksum", build_upload_checksum(SHA1_OF_HELLO).encode())


def test_a_trailer_is_parsed_as_the_header_is() -> None:
    """Its name may come in any case, and others beside it."""
    others = [(b"expires", b"never"), (b"Upload-Checksum", TRAILER[1])]
    assert parse_upload_checksum_trailer(others) == SHA1_OF_HELLO


@pytest.mark.parametrize(
    ("trailers", "error"),
    [
        ([], InvalidUploadChecksum),
        ([(b"expires", b"never")], InvalidUploadChecksum),
        ([(b"upload-checksum", b"sha1")], InvalidUploadChecksum),
        ([(b"upload-checksum", b"md4 YQ==")], UnsupportedAlgorithm),
        ([TRAILER, TRAILER], InvalidHeader),
    ],
)
def test_a_trailer_that_cannot_be_read(
    trailers: list[tuple[bytes, bytes]], error: type[TusError]
) -> None:
    """It was announced, so the bytes before it do not count without it."""
    with pytest.raises(error):
        parse_upload_checksum_trailer(trailers)


@pytest.mark.parametrize(
    ("content", "trailers", "refusal"),
    [
        (Content(length=11, checksum=SHA1_OF_HELLO), [], None),
        (Content(length=11, checksum=WRONG), [], ChecksumMismatch),
        (Content(length=11, checksum=SHA1_OF_HELLO), [(b"upload-checksum", b"x")], None),
        (Content(length=None, checksum_in_trailer=True), [TRAILER], None),
        (Content(length=None, checksum_in_trailer=True), [], InvalidUploadChecksum),
        (Content(length=None, checksum=MD5_OF_HELLO, checksum_in_trailer=True), [TRAILER], None),
        (
            Content(length=None, checksum=WRONG, checksum_in_trailer=True),
            [TRAILER],
            ChecksumMismatch,
        ),
    ],
)
def test_whether_content_counts(
    content: Content, trailers: list[tuple[bytes, bytes]], refusal: type[TusError] | None
) -> None:
    """Each statement about the bytes must be true; a trailer that was not announced is none."""
    assert content.is_verified
    digests = content.start_digests()
    assert digests is not None
    digests.update(HELLO[:3])
    digests.update(memoryview(HELLO)[3:])
    assert type(content.refusal(digests, trailers)) is (refusal or type(None))


def test_content_without_a_checksum_is_not_digested() -> None:
    content = Content(length=11)
    assert not content.is_verified
    assert content.start_digests() is None
