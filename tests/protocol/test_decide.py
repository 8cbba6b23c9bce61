"""What a command means for an upload as it stands: a plan that keeps the promises, or an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import DEFERRED, FINAL, NOW, PARTIAL, UPLOAD, steady
from tusd_py.protocol import decide
from tusd_py.protocol.abnf import LARGEST_INTEGER
from tusd_py.protocol.checksum import Checksum
from tusd_py.protocol.commands import Append, Content, Create
from tusd_py.protocol.decide import Limits
from tusd_py.protocol.errors import (
    FinalNotModifiable,
    FloorReached,
    InvalidPart,
    InvalidUploadLength,
    InvalidUploadMetadata,
    LengthExceeded,
    OffsetMismatch,
    Rejected,
    TusError,
    UploadGone,
    UploadNotFinished,
    UploadNotFound,
    UploadPaused,
    UploadTooLarge,
)
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload

LIMITS = Limits(max_size=1000, expire_after=60)
SHA1 = Checksum(algorithm="sha1", digest=bytes(20))
TEN = UPLOAD._replace(upload_offset=10)
COMPLETE = UPLOAD._replace(upload_offset=100, phase=Phase.COMPLETE, path="data/a")
SIZES = st.integers(0, LARGEST_INTEGER) | st.integers(0, 200)


def refusing(upload: Upload, reply: Reply) -> Upload:
    return upload._replace(upload_offset=100, phase=Phase.FAILED, reply=reply)


GONE = [
    (None, UploadNotFound),
    (UPLOAD._replace(phase=Phase.TERMINATED), UploadGone),
    (UPLOAD._replace(phase=Phase.EXPIRED), UploadGone),
    (UPLOAD._replace(expires_at=NOW), UploadGone),
    (PARTIAL._replace(phase=Phase.COMPLETE, expires_at=NOW), UploadGone),
    (refusing(UPLOAD, Reply(status=422, body="a virus")), Rejected),
]


def patch(
    upload_offset: int,
    length: int | None,
    *,
    upload_length: int | None = None,
    checksum: Checksum | None = None,
    in_trailer: bool = False,
) -> Append:
    content = Content(length=length, checksum=checksum, checksum_in_trailer=in_trailer)
    return Append(
        upload_id="a", upload_offset=upload_offset, upload_length=upload_length, content=content
    )


@pytest.mark.parametrize(("upload", "error"), GONE)
def test_a_url_that_leads_nowhere_says_so_to_everyone(
    upload: Upload | None, error: type[TusError]
) -> None:
    with pytest.raises(error):
        decide.find(upload, "a", NOW)
    with pytest.raises(error):
        decide.refuse_early(patch(0, 1), upload, NOW)
    with pytest.raises(error):
        decide.append(patch(0, 1), upload, LIMITS, NOW)


@pytest.mark.parametrize("upload", [UPLOAD, COMPLETE, COMPLETE._replace(expires_at=NOW - 1), FINAL])
def test_an_upload_that_is_here_is_found(upload: Upload) -> None:
    assert decide.find(upload, "a", NOW) is upload


@pytest.mark.parametrize(("said", "status"), [(422, 422), (None, 400)])
def test_what_the_application_refused_stays_refused_in_its_own_words(
    said: int | None, status: int
) -> None:
    reply = Reply(status=said, headers={"X-Why": "virus"}, body="a virus")
    with pytest.raises(Rejected) as caught:
        decide.find(refusing(UPLOAD, reply), "a", NOW)
    error = caught.value
    assert (error.status, str(error), error.headers) == (status, "a virus", (("X-Why", "virus"),))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            Create(upload_length=100, upload_metadata="a YQ=="),
            Upload(id="n", created_at=NOW, upload_length=100, upload_metadata="a YQ=="),
        ),
        (Create(upload_length=None), Upload(id="n", created_at=NOW)),
        (
            Create(upload_length=0),
            Upload(id="n", created_at=NOW, upload_length=0, phase=Phase.FINISHING),
        ),
        (Create(upload_length=1000), Upload(id="n", created_at=NOW, upload_length=1000)),
        (
            Create(upload_length=5, concat=PARTIAL.concat, content=Content(length=5)),
            Upload(id="n", created_at=NOW, upload_length=5, concat=PARTIAL.concat),
        ),
        (
            Create(upload_length=5, content=Content(length=None)),
            Upload(id="n", created_at=NOW, upload_length=5),
        ),
        (
            Create(upload_length=None, concat=FINAL.concat, part_ids=("a", "b")),
            Upload(id="n", created_at=NOW, concat=FINAL.concat, parts=("a", "b"), tail=Tail.SEALED),
        ),
    ],
)
def test_a_new_upload_is_what_was_asked_for(command: Create, expected: Upload) -> None:
    assert decide.create(command, "n", LIMITS, NOW) == expected._replace(expires_at=NOW + 60)
    never = Limits(expire_after=None)
    assert decide.create(command, "n", never, NOW).expires_at is None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Create(upload_length=1001), UploadTooLarge),
        (Create(upload_length=LARGEST_INTEGER), UploadTooLarge),
        (Create(upload_length=None, content=Content(length=1001)), UploadTooLarge),
        (Create(upload_length=5, content=Content(length=6)), LengthExceeded),
        (Create(upload_length=0, content=Content(length=1)), LengthExceeded),
        (Create(upload_length=5, upload_metadata="a" * 16_385), InvalidUploadMetadata),
    ],
)
def test_a_new_upload_that_can_never_be_finished_is_refused_at_once(
    command: Create, error: type[TusError]
) -> None:
    with pytest.raises(error):
        decide.create(command, "n", LIMITS, NOW)


def test_metadata_up_to_the_limit_are_taken() -> None:
    command = Create(upload_length=5, upload_metadata="a" * 16_384)
    assert decide.create(command, "n", LIMITS, NOW).upload_metadata == command.upload_metadata


@pytest.mark.parametrize(
    ("command", "upload", "at_most", "upload_length"),
    [
        (patch(10, 90), TEN, 90, 100),
        (patch(10, 5), TEN, 5, 100),
        (patch(10, 0), TEN, 0, 100),
        (patch(10, None), TEN, 90, 100),
        (patch(100, 0), COMPLETE, 0, 100),
        (patch(10, 90, upload_length=100), TEN, 90, 100),
        (patch(0, 5), DEFERRED, 5, None),
        (patch(0, 1000), DEFERRED, 1000, None),
        (patch(0, None), DEFERRED, 1000, None),
        (patch(0, 5, upload_length=5), DEFERRED, 5, 5),
        (patch(0, None, upload_length=7), DEFERRED, 7, 7),
        (patch(10, 0, upload_length=10), DEFERRED._replace(upload_offset=10), 0, 10),
        (patch(0, 0, upload_length=0), DEFERRED, 0, 0),
        (patch(0, 1, upload_length=1000), DEFERRED, 1, 1000),
    ],
)
def test_an_append_takes_what_fits(
    command: Append, upload: Upload, at_most: int, upload_length: int | None
) -> None:
    plan = decide.append(command, upload, LIMITS, NOW)
    assert plan.at_most == at_most
    assert plan.keep_partial
    assert plan.upload == upload._replace(
        upload_length=upload_length,
        expires_at=NOW + 60 if upload.phase is Phase.RECEIVING else upload.expires_at,
    )


@pytest.mark.parametrize(
    ("command", "upload", "error"),
    [
        (patch(9, 1), TEN, OffsetMismatch),
        (patch(11, 1), TEN, OffsetMismatch),
        (patch(0, 100), COMPLETE, OffsetMismatch),
        (patch(LARGEST_INTEGER, 1), TEN, OffsetMismatch),
        (patch(10, 91), TEN, LengthExceeded),
        (patch(100, 1), COMPLETE, LengthExceeded),
        (patch(0, 6, upload_length=5), DEFERRED, LengthExceeded),
        (patch(0, 1001), DEFERRED, UploadTooLarge),
        (patch(0, 1, upload_length=1001), DEFERRED, UploadTooLarge),
        (patch(10, 1, upload_length=101), TEN, InvalidUploadLength),
        (patch(10, 1, upload_length=99), TEN, InvalidUploadLength),
        (patch(10, 0, upload_length=9), DEFERRED._replace(upload_offset=10), InvalidUploadLength),
        (patch(0, 1), FINAL, FinalNotModifiable),
        (patch(5, 0), FINAL, FinalNotModifiable),
    ],
)
def test_an_append_that_cannot_be_served_is_refused_before_its_body(
    command: Append, upload: Upload, error: type[TusError]
) -> None:
    with pytest.raises(error):
        decide.append(command, upload, LIMITS, NOW)


@pytest.mark.parametrize(
    ("command", "upload", "error"),
    [(patch(9, 1), TEN, OffsetMismatch), (patch(0, 1), FINAL, FinalNotModifiable)],
)
def test_an_append_without_hope_is_refused_without_the_lock(
    command: Append, upload: Upload, error: type[TusError]
) -> None:
    with pytest.raises(error):
        decide.refuse_early(command, upload, NOW)


@pytest.mark.parametrize(
    "upload",
    [
        *[gone for gone, _ in GONE if gone is not None],
        *[UPLOAD, COMPLETE, FINAL, FINAL._replace(phase=Phase.FAILED, reply=Reply(status=410))],
    ],
)
def test_what_is_anothers_is_not_there(upload: Upload) -> None:
    """Whatever it is, and whatever became of it, is told to nobody else."""
    hers, bob = upload._replace(principal="alice"), Grant(principal="bob")
    for ask in (
        lambda: decide.find(hers, "a", NOW, bob),
        lambda: decide.refuse_early(patch(0, 1)._replace(grant=bob), hers, NOW),
        lambda: decide.append(patch(0, 1)._replace(grant=bob), hers, LIMITS, NOW),
        lambda: decide.download(hers, "a", NOW, bob),
    ):
        with pytest.raises(UploadNotFound):
            ask()


@pytest.mark.parametrize(
    ("grant", "owner", "reaches"),
    [
        (Grant(principal="alice"), "alice", True),
        (Grant(principal="alice"), "Alice", False),
        (Grant(principal="alice"), None, True),
        (Grant(), "alice", False),
        (Grant(), None, True),
        (Grant(has_all=True), "alice", True),
    ],
)
def test_whom_an_upload_is_there_for(grant: Grant, owner: str | None, reaches: bool) -> None:
    assert grant.reaches(owner) is reaches


@pytest.mark.parametrize(
    ("ours", "granted", "most"), [(None, 5, 5), (9, 5, 5), (5, 9, 5), (9, None, 9), (5, 0, 0)]
)
def test_a_grant_never_widens_a_limit(ours: int | None, granted: int | None, most: int) -> None:
    assert Limits(max_size=ours).narrowed(Grant(max_size=granted)).max_size == most


def test_a_paused_upload_takes_nothing_but_a_repeated_end() -> None:
    with pytest.raises(UploadPaused):
        decide.refuse_early(patch(10, 1), TEN._replace(paused=True), NOW)
    with pytest.raises(OffsetMismatch):
        decide.refuse_early(patch(9, 1), TEN._replace(paused=True), NOW)
    decide.refuse_early(patch(100, 0), COMPLETE._replace(paused=True), NOW)


def test_an_append_with_hope_goes_on_to_the_lock() -> None:
    """Whoever holds it may be about to commit the bytes that make the offset the right one."""
    decide.refuse_early(patch(10, 1), TEN, NOW)
    decide.refuse_early(patch(11, 1), TEN, NOW)


@pytest.mark.parametrize("command", [patch(10, 5, checksum=SHA1), patch(10, 5, in_trailer=True)])
def test_bytes_that_are_to_be_verified_do_not_count_before_they_are(command: Append) -> None:
    plan = decide.append(command, TEN, LIMITS, NOW)
    assert not plan.keep_partial
    assert plan.upload.tail is Tail.SEALED


def test_a_plain_append_opens_the_tail_again() -> None:
    plan = decide.append(patch(10, 5), TEN._replace(tail=Tail.SEALED), LIMITS, NOW)
    assert plan.upload.tail is Tail.OPEN


@pytest.mark.parametrize("length", [40, None])
def test_an_upload_begun_under_a_larger_limit_can_be_finished(length: int | None) -> None:
    """The server promised to take its next bytes; a restart with a smaller limit is no excuse."""
    begun = UPLOAD._replace(upload_offset=60)
    assert decide.append(patch(60, length), begun, Limits(max_size=50), NOW).at_most == 40


@pytest.mark.parametrize(
    ("floor", "needed", "free", "fits"),
    [
        (100, 0, 100, True),
        (100, 0, 99, False),
        (100, 50, 150, True),
        (100, 50, 149, False),
        (100, LARGEST_INTEGER, 1 << 50, False),
        (0, LARGEST_INTEGER, 0, True),
    ],
)
def test_a_floor_stays_free(floor: int, needed: int, free: int, fits: bool) -> None:
    limits = Limits(min_free_disk=floor)
    if fits:
        limits.check_room(needed, free)
    else:
        with pytest.raises(FloorReached, match=str(floor)):
            limits.check_room(needed, free)


@steady
@given(
    upload_offset=SIZES,
    upload_length=st.none() | SIZES,
    max_size=st.none() | SIZES,
    content_length=st.none() | SIZES,
    late_length=st.none() | SIZES,
)
def test_a_plan_never_reaches_beyond_its_bound(
    upload_offset: int,
    upload_length: int | None,
    max_size: int | None,
    content_length: int | None,
    late_length: int | None,
) -> None:
    """Whatever limits an operator sets between two appends: no negative room, no overflow."""
    if upload_length is not None:
        upload_offset = min(upload_offset, upload_length)
    upload = UPLOAD._replace(upload_offset=upload_offset, upload_length=upload_length)
    command = patch(upload_offset, content_length, upload_length=late_length)
    try:
        plan = decide.append(command, upload, Limits(max_size=max_size), NOW)
    except TusError:
        return
    length = plan.upload.upload_length
    bound = LARGEST_INTEGER if length is None else length
    assert plan.at_most >= 0
    assert upload_offset + plan.at_most <= bound
    assert upload_length is None or length == upload_length, "once set it does not change"


def test_a_part_may_be_unfinished() -> None:
    assert decide.check_part(PARTIAL, "/files/a", NOW) is PARTIAL


@pytest.mark.parametrize(
    "part",
    [
        None,
        UPLOAD,
        FINAL,
        COMPLETE,
        PARTIAL._replace(phase=Phase.TERMINATED),
        PARTIAL._replace(phase=Phase.EXPIRED),
        PARTIAL._replace(expires_at=NOW),
        PARTIAL._replace(phase=Phase.FAILED, reply=Reply()),
    ],
)
def test_what_can_never_be_a_part_is_refused(part: Upload | None) -> None:
    """A final that waits for it would wait for ever."""
    with pytest.raises(InvalidPart, match="'/files/a'"):
        decide.check_part(part, "/files/a", NOW)


@pytest.mark.parametrize(
    ("lengths", "total"),
    [([5, 6], 11), ([5, 5], 10), ([0], 0), ([], 0), ([500, 500], 1000), ([5, None], None)],
)
def test_a_final_is_as_long_as_its_parts(lengths: list[int | None], total: int | None) -> None:
    parts = [PARTIAL._replace(upload_length=length) for length in lengths]
    assert decide.final_length(parts, LIMITS) == total


@pytest.mark.parametrize(
    ("lengths", "limits"),
    [([500, 501], LIMITS), ([LARGEST_INTEGER, 1], Limits()), ([LARGEST_INTEGER] * 2, Limits())],
)
def test_a_final_beyond_the_limit_or_the_largest_integer_is_refused(
    lengths: list[int], limits: Limits
) -> None:
    """SQLite cannot hold such a length: without a refusal the server fails with a 500."""
    parts = [PARTIAL._replace(upload_length=length) for length in lengths]
    with pytest.raises(UploadTooLarge):
        decide.final_length(parts, limits)


@pytest.mark.parametrize(
    ("upload", "error"),
    [
        (None, UploadNotFound),
        (UPLOAD._replace(phase=Phase.TERMINATED), UploadNotFound),
        (UPLOAD._replace(phase=Phase.EXPIRED), UploadNotFound),
        (UPLOAD._replace(expires_at=NOW), UploadNotFound),
        (COMPLETE._replace(path=None), UploadNotFound),
        (UPLOAD, UploadNotFinished),
        (UPLOAD._replace(upload_offset=100, phase=Phase.FINISHING), UploadNotFinished),
        (refusing(UPLOAD, Reply(status=422)), Rejected),
    ],
)
def test_only_a_finished_file_that_is_here_is_given_out(
    upload: Upload | None, error: type[TusError]
) -> None:
    with pytest.raises(error):
        decide.download(upload, "a", NOW)


def test_a_finished_file_is_given_out() -> None:
    assert decide.download(COMPLETE, "a", NOW) is COMPLETE
