"""Resilience, continued: offsets and lengths at the ends of integer types."""

from tus_conformance import expect
from tus_conformance.case import MUST
from tus_conformance.sections.resilience import MISMATCH, PATCH_SOURCE, resilience
from tus_conformance.subject import Tus
from tus_conformance.verdict import Hangup
from tus_conformance.wire import Url

case = resilience.case


@case(21, MUST, PATCH_SOURCE, MISMATCH)
def offsets_around_2_31(tus: Tus) -> None:
    """PATCH at 2^31-1, 2^31 and 2^31+1 is answered with 409."""
    _wrong_offsets(tus, 31)


@case(22, MUST, PATCH_SOURCE, MISMATCH)
def offsets_around_2_32(tus: Tus) -> None:
    """PATCH at 2^32-1, 2^32 (0 in 32 bits) and 2^32+1 is answered with 409."""
    _wrong_offsets(tus, 32)


@case(23, MUST, PATCH_SOURCE, MISMATCH)
def offsets_around_2_53(tus: Tus) -> None:
    """PATCH at 2^53-1, 2^53 and 2^53+1 is answered with 409."""
    _wrong_offsets(tus, 53)


@case(24, MUST, PATCH_SOURCE, MISMATCH)
def offsets_around_2_63(tus: Tus) -> None:
    """PATCH at 2^63-1 is answered with 409; at 2^63 and 2^63+1, where no file ends, refused."""
    url = tus.create(16)
    expect.status(tus.patch(url, 2**63 - 1, b"hello"), 409)
    _refused_offsets(tus, url, 2**63, 2**63 + 1)


@case(25, MUST, PATCH_SOURCE, MISMATCH)
def offsets_around_2_64(tus: Tus) -> None:
    """PATCH at 2^64-1, 2^64 (0 in 64 bits) and 2^64+1 stores nothing."""
    _refused_offsets(tus, tus.create(16), 2**64 - 1, 2**64, 2**64 + 1)


@case(
    26,
    MUST,
    "Core Protocol, HEAD",
    "If the size of the upload is known, the Server MUST include the `Upload-Length` header in "
    "the response.",
    needs=("creation",),
)
def lengths_are_exact(tus: Tus) -> None:
    """Lengths around 2^31, 2^32, 2^53 and 2^63 are refused, or kept to the last digit."""
    for power in (31, 32, 53, 63):
        for length in (2**power - 1, 2**power, 2**power + 1):
            try:
                answer = tus.post(("Upload-Length", str(length)))
            except Hangup:
                continue  # a rude refusal; no sentence forbids it
            if answer.ok:
                url = tus.located(expect.one(answer, "Location"))
                expect.integer(tus.head(url), "Upload-Length", length)


def _wrong_offsets(tus: Tus, power: int) -> None:
    """Offsets around a power of two, each of them a mismatch."""
    url = tus.create(16)
    for offset in (2**power - 1, 2**power, 2**power + 1):
        expect.status(tus.patch(url, offset, b"hello"), 409)
    tus.stays(url, 0)


def _refused_offsets(tus: Tus, url: Url, *offsets: int) -> None:
    """Offsets above that of any file (its type is a signed 64 bit integer): any refusal will do."""
    for offset in offsets:
        expect.refused(tus.patch(url, offset, b"hello"), f"Upload-Offset: {offset}")
        tus.stays(url, 0)
