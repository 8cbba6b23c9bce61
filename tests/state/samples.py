"""Records that the tests of state begin with."""

from hypothesis import strategies as st

from tusd_py.hooks.events import OutboxEvent
from tusd_py.protocol.concat import Concat, Final, Partial
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT."""

UPLOAD = Upload(id="a", created_at=NOW, upload_length=100)
PART = UPLOAD._replace(concat=Partial())


def final(upload_id: str, *parts: str) -> Upload:
    """A record that refers to others."""
    concat = Final(tuple(f"/files/{part}" for part in parts))
    return UPLOAD._replace(id=upload_id, concat=concat, parts=parts, tail=Tail.SEALED)


def event(upload_id: str, at: float = NOW) -> OutboxEvent:
    return OutboxEvent(
        upload_id=upload_id, phase=Phase.TERMINATED, at=at, upload_offset=7, metadata="k dg=="
    )


IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._~-]{0,127}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
BYTES = st.integers(0, 2**63 - 1)
MOMENTS = st.floats(0, 1e12)
URLS = st.lists(st.from_regex(r"[!-~]{1,60}", fullmatch=True), min_size=1, max_size=5)
CONCATS: st.SearchStrategy[Concat | None] = (
    st.none() | st.just(Partial()) | URLS.map(lambda urls: Final(tuple(urls)))
)

UPLOADS = st.builds(
    Upload,
    id=IDS,
    created_at=MOMENTS,
    generation=st.integers(0, 2**62),
    phase=st.sampled_from(Phase),
    upload_offset=BYTES,
    upload_length=st.none() | BYTES,
    upload_metadata=st.none() | TEXT,
    changed_metadata=st.none() | TEXT,
    concat=CONCATS,
    parts=st.just(()),
    expires_at=st.none() | MOMENTS,
    tail=st.sampled_from(Tail),
    synced_offset=BYTES,
    placement=TEXT,
    target=st.none() | TEXT,
    path=st.none() | TEXT,
    released=st.booleans(),
    reply=st.none()
    | st.builds(
        Reply,
        status=st.none() | st.integers(100, 599),
        headers=st.dictionaries(TEXT, TEXT, max_size=3),
        body=TEXT,
    ),
    principal=st.none() | TEXT,
    paused=st.just(False),
    max_speed=st.none(),
)
"""Any record, but for the parts of a final one: those must be there."""
