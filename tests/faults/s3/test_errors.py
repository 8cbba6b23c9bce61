"""A sample of `python -m tests.faults.s3 errors`: a call fails, and nothing is lost."""

from dataclasses import replace

import pytest

from tests.faults.s3.errors import KINDS, Faulty
from tests.faults.s3.proxy import Call
from tests.faults.s3.scenarios import SCENARIOS
from tests.faults.s3.served import S3Served

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("is_lasting", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("name", "kind", "operation"),
    [
        ("plain", "500, but done", "CreateMultipartUpload"),
        ("plain", "reset in", "GetObject"),
        ("checksummed", "503 SlowDown", "UploadPart"),
        ("deferred", "no answer", "PutObject"),
        ("concatenated", "reset after", "UploadPartCopy"),
        ("terminated", "403 ExpiredToken", "CompleteMultipartUpload"),
    ],
)
def test_nothing_is_lost_by_an_error(
    server: S3Served, name: str, kind: str, operation: str, is_lasting: bool
) -> None:
    """Otherwise: a client is told that bytes are stored, and they are not, or something is left
    in the bucket that is paid for and belongs to nobody.
    """
    (wanted,) = (each for each in KINDS if each.name == kind)
    wanted = replace(wanted, fits=lambda call: call.operation == operation)
    fate = Faulty(SCENARIOS[name], server).meet(wanted, 1, lasting=is_lasting)
    assert fate is not None, "it came to that call"
    assert not fate.broken


@pytest.mark.parametrize(
    ("kind", "at"), [("late", 2), ("aborted", 4), ("404 NoSuchUpload", 4), ("200 with an error", 1)]
)
def test_a_store_that_behaves_oddly(server: S3Served, kind: str, at: int) -> None:
    (wanted,) = (each for each in KINDS if each.name == kind)
    fate = Faulty(SCENARIOS["plain"], server).meet(wanted, at, lasting=False)
    assert fate is not None, "it came to that call"
    assert not fate.broken


def test_a_final_upload_is_assembled_anew(server: S3Served) -> None:
    """What was being made of the parts is gone; they are there, so nothing is lost."""
    (wanted,) = (each for each in KINDS if each.name == "aborted")
    fate = Faulty(SCENARIOS["concatenated"], server).meet(wanted, 10, lasting=False)
    assert fate is not None, "it came to that call"
    assert (fate.broken, fate.seen) == ("", "POST 500 ERR_STORAGE")


def test_a_final_upload_that_was_assembled_is_so_anew(server: S3Served) -> None:
    """Likewise, aborted between the last copy and the completion."""
    copied: set[str] = set()

    def completes_copies(call: Call) -> bool:
        if call.operation == "UploadPartCopy":
            copied.add(call.multipart)
        return call.operation == "CompleteMultipartUpload" and call.multipart in copied

    (wanted,) = (each for each in KINDS if each.name == "aborted")
    wanted = replace(wanted, fits=completes_copies)
    fate = Faulty(SCENARIOS["concatenated"], server).meet(wanted, 1, lasting=False)
    assert fate is not None, "it came to that call"
    assert (fate.broken, fate.seen) == ("", "POST 500 ERR_STORAGE")


def test_a_store_that_asks_for_less_slows_the_client_down(server: S3Served) -> None:
    (wanted,) = (each for each in KINDS if each.name == "503 SlowDown")
    wanted = replace(wanted, fits=lambda call: call.operation == "UploadPart")
    fate = Faulty(SCENARIOS["plain"], server).meet(wanted, 1, lasting=True)
    assert fate is not None, "it came to that call"
    assert (fate.broken, fate.seen) == ("", "PATCH 503 ERR_STORAGE_BUSY")
