"""`Upload-Checksum`: what a body must hash to, and the digests that can be asked for."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from tusd_py.protocol import abnf
from tusd_py.protocol.errors import (
    ChecksumMismatch,
    InvalidUploadChecksum,
    UnsupportedAlgorithm,
)
from tusd_py.protocol.headers import Headers

_HEADER = "Upload-Checksum"
_SHAPE = "must be an algorithm, a space and the digest in Base64"


class Digest(Protocol):
    """What bytes are fed to as they arrive; `update` may run in a thread."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes the next bytes in."""
        ...


class Hash(Digest, Protocol):
    """A digest of one algorithm."""

    def digest(self) -> bytes:
        """The digest of all bytes so far."""
        ...


class Crc32:
    """CRC-32 (ISO 3309) as a digest: four bytes, big-endian."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes the next bytes in."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """The digest of all bytes so far."""
        return self._value.to_bytes(4, "big")


def _md5() -> Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Hash:
    return hashlib.sha1(usedforsecurity=False)


ALGORITHMS: dict[str, tuple[Callable[[], Hash], int]] = {
    "sha1": (_sha1, 20),
    "md5": (_md5, 16),
    "sha256": (hashlib.sha256, 32),
    "sha512": (hashlib.sha512, 64),
    "crc32": (Crc32, 4),
}
"""Names to makers and digest sizes in bytes. Checksum: "MUST support at least [...] sha1"."""

TUS_CHECKSUM_ALGORITHM = ",".join(ALGORITHMS)
"""The value of the header of that name; no spaces, since some clients do not trim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """What the bytes of one body must hash to."""

    algorithm: str
    digest: bytes

    def start(self) -> Hash:
        """A fresh digest of this checksum's algorithm."""
        return ALGORITHMS[self.algorithm][0]()


class Digests:
    """Digests of the same bytes, for checksums some of which may be told only at the end.

    Args:
        algorithms: Names of those that can be asked for.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._by_name = {name: ALGORITHMS[name][0]() for name in algorithms}

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes the next bytes in."""
        for digest in self._by_name.values():
            digest.update(data)

    def check(self, checksum: Checksum) -> None:
        """Makes sure that the bytes so far hash to `checksum`.

        Raises:
            ChecksumMismatch: They do not.
        """
        if self._by_name[checksum.algorithm].digest() != checksum.digest:
            raise ChecksumMismatch(checksum.algorithm)


def parse_upload_checksum(value: str) -> Checksum:
    """Checksum, Upload-Checksum: "the name of the used checksum algorithm and the Base64 encoded
    checksum separated by a space".

    Raises:
        InvalidUploadChecksum: The grammar is broken, or the digest has the wrong size.
        UnsupportedAlgorithm: The algorithm is not offered.
    """
    algorithm, space, encoded = value.partition(" ")
    if not space or not abnf.CHECKSUM_ALGORITHM.fullmatch(algorithm):
        raise InvalidUploadChecksum(_HEADER, _SHAPE, value)
    if algorithm not in ALGORITHMS:
        raise UnsupportedAlgorithm(algorithm, TUS_CHECKSUM_ALGORITHM)
    if not abnf.BASE64.fullmatch(encoded):
        raise InvalidUploadChecksum(_HEADER, _SHAPE, value)
    digest = base64.b64decode(encoded)
    size = ALGORITHMS[algorithm][1]
    if len(digest) != size:
        raise InvalidUploadChecksum(
            _HEADER, f"has {len(digest)} bytes; a {algorithm} has {size}", value
        )
    return Checksum(algorithm=algorithm, digest=digest)


def parse_upload_checksum_trailer(trailers: Collection[tuple[bytes, bytes]]) -> Checksum:
    """Checksum, Upload-Checksum, behind a body that announced it in `Trailer`.

    Raises:
        InvalidUploadChecksum: It did not come, or cannot be read.
        InvalidHeader: It came more than once.
        UnsupportedAlgorithm: The algorithm is not offered.
    """
    value = Headers(trailers).one(_HEADER)
    if value is None:
        raise InvalidUploadChecksum(_HEADER, "was announced as a trailer, and did not come")
    return parse_upload_checksum(value)


def build_upload_checksum(checksum: Checksum) -> str:
    """The reverse of `parse_upload_checksum`."""
    return f"{checksum.algorithm} {base64.b64encode(checksum.digest).decode()}"
