"""Bytes that can be asked for again."""

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tusd_py.client.errors import StreamGone
from tusd_py.client.files import OpenFile
from tusd_py.client.source import PIECE, Pipe, Span, stretches


@given(size=st.integers(0, 3 * PIECE), count=st.integers(1, 7))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
def test_stretches_are_the_file_cut_without_loss(tmp_path: Path, size: int, count: int) -> None:
    path = tmp_path / "file"
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    path.write_bytes(data)
    with OpenFile.open(path) as file:
        parts = stretches(file, count, None)
        read = b"".join(b"".join(part.pieces(part.span(0))) for part in parts)
    assert read == data
    lengths = [part.length for part in parts]
    assert len(lengths) == count
    assert max(lengths) - min(lengths) <= 1


def test_a_stretch_is_sent_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with OpenFile.open(path) as file:
        _, second = stretches(file, 2, 3)
        assert second.span(0) == Span(start=0, count=3, length=5)
        assert second.span(3) == Span(start=3, count=2, length=5)
        assert b"".join(second.pieces(second.span(3))) == b"89"


def test_a_pipe_keeps_one_chunk() -> None:
    pipe = Pipe(stream=io.BytesIO(b"0123456"), chunk_size=3)
    first = pipe.span(0)
    assert first == Span(start=0, count=3, length=None)
    assert [b"".join(pipe.pieces(first)) for _ in range(2)] == [b"012"] * 2
    assert pipe.span(0) == first
    assert b"".join(pipe.pieces(pipe.span(2))) == b"234"
    assert pipe.span(5) == Span(start=5, count=2, length=7)
    assert pipe.span(7) == Span(start=7, count=0, length=7)


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_a_pipe_cannot_go_back_or_ahead(offset: int) -> None:
    pipe = Pipe(stream=io.BytesIO(b"0123456"), chunk_size=2)
    pipe.span(0)
    pipe.span(2)
    with pytest.raises(StreamGone, match=f"the server has only {offset} bytes"):
        pipe.span(offset)
