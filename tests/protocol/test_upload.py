"""The life of an upload: no transition takes back what was promised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import DEFERRED, FINAL, NOW, PARTIAL, UPLOAD, steady
from tusd_py.protocol.upload import (
    Phase,
    Reply,
    Tail,
    Upload,
    buried,
    completed,
    disassembled,
    failed,
    received,
    synced,
)

REPLY = Reply(status=201, headers={"X-Id": "7"}, body="thanks")


@pytest.mark.parametrize(
    ("upload", "upload_offset", "phase"),
    [
        (UPLOAD, 0, Phase.RECEIVING),
        (UPLOAD, 99, Phase.RECEIVING),
        (UPLOAD, 100, Phase.FINISHING),
        (DEFERRED, 100, Phase.RECEIVING),
        (UPLOAD._replace(upload_length=0), 0, Phase.FINISHING),
        (FINAL._replace(upload_length=11), 11, Phase.FINISHING),
    ],
)
def test_the_last_byte_begins_the_finish(upload: Upload, upload_offset: int, phase: Phase) -> None:
    after = received(upload._replace(tail=Tail.SEALED), upload_offset)
    assert after == upload._replace(upload_offset=upload_offset, phase=phase, tail=Tail.OPEN)


@pytest.mark.parametrize("phase", [Phase.FINISHING, Phase.COMPLETE, Phase.FAILED])
def test_an_empty_append_to_a_finished_upload_does_not_finish_it_again(phase: Phase) -> None:
    """Else the application would be told twice, and a refusal could be taken back."""
    upload = UPLOAD._replace(upload_offset=100, phase=phase)
    assert received(upload, 100).phase is phase


@steady
@given(st.integers(0, 100))
def test_what_is_synced_is_what_was_received(upload_offset: int) -> None:
    upload = received(UPLOAD, upload_offset)
    assert upload.synced_offset == 0, "received is not synced"
    assert synced(upload) == upload._replace(synced_offset=upload_offset)


def test_a_finish_ends_in_success_or_in_a_refusal_that_is_kept() -> None:
    finishing = received(UPLOAD, 100)
    assert completed(finishing, "data/a", REPLY) == finishing._replace(
        phase=Phase.COMPLETE, path="data/a", reply=REPLY
    )
    assert failed(finishing, REPLY, NOW + 9) == finishing._replace(
        phase=Phase.FAILED, reply=REPLY, expires_at=NOW + 9
    )


def test_a_tombstone_still_has_bytes_to_let_go() -> None:
    tombstone = buried(UPLOAD._replace(released=True), Phase.TERMINATED, NOW + 9)
    assert tombstone == UPLOAD._replace(phase=Phase.TERMINATED, expires_at=NOW + 9, released=False)


@pytest.mark.parametrize(
    ("upload_metadata", "changed_metadata", "metadata"),
    [
        (None, None, {}),
        ("", None, {}),
        ("a YQ==", None, {"a": b"a"}),
        ("a YQ==", "b Yg==", {"b": b"b"}),
        ("a YQ==", "", {}),  # the application took it all away
        (None, "b Yg==", {"b": b"b"}),
    ],
)
def test_the_application_has_the_last_word_on_metadata(
    upload_metadata: str | None, changed_metadata: str | None, metadata: dict[str, bytes]
) -> None:
    upload = UPLOAD._replace(upload_metadata=upload_metadata, changed_metadata=changed_metadata)
    assert upload.metadata == metadata


@pytest.mark.parametrize(
    ("upload", "partial", "final"),
    [(UPLOAD, False, False), (PARTIAL, True, False), (FINAL, False, True)],
)
def test_a_part_and_a_whole_know_what_they_are(upload: Upload, partial: bool, final: bool) -> None:
    assert (upload.is_partial, upload.is_final) == (partial, final)


@pytest.mark.parametrize("phase", Phase)
def test_an_upload_is_unfinished_until_its_finish_is_over(phase: Phase) -> None:
    unfinished = phase in (Phase.RECEIVING, Phase.FINISHING)
    assert UPLOAD._replace(phase=phase).is_unfinished is unfinished


@pytest.mark.parametrize(
    ("upload", "may_expire"),
    [
        (UPLOAD, True),
        (UPLOAD._replace(expires_at=None), False),
        (UPLOAD._replace(phase=Phase.FINISHING), False),
        (UPLOAD._replace(phase=Phase.FAILED), True),
        (UPLOAD._replace(phase=Phase.TERMINATED), True),
        (UPLOAD._replace(phase=Phase.COMPLETE), False),
        (FINAL._replace(phase=Phase.COMPLETE), False),
        (PARTIAL._replace(phase=Phase.COMPLETE), True),
        (PARTIAL._replace(phase=Phase.COMPLETE, expires_at=None), False),
    ],
)
def test_a_finished_file_never_expires(upload: Upload, may_expire: bool) -> None:
    assert upload.may_expire is may_expire
    assert upload.has_expired(NOW + 10**9) is may_expire


def test_time_runs_out_at_the_second_that_was_told() -> None:
    assert not UPLOAD.has_expired(NOW + 3599.9)
    assert UPLOAD.has_expired(NOW + 3600)


def test_a_final_whose_bytes_were_lost_is_made_of_its_parts_again() -> None:
    begun = FINAL._replace(upload_length=11, upload_offset=11, synced_offset=11, tail=Tail.OPEN)
    again = disassembled(begun._replace(phase=Phase.FINISHING))
    assert again == begun._replace(upload_offset=0, synced_offset=0, tail=Tail.SEALED)
    assert (again.phase, again.parts) == (Phase.RECEIVING, FINAL.parts)
