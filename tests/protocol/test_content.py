"""What a client calls a file, made fit for a header and for a browser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.content import build_content_disposition, declared_type, harmless_type

OPAQUE = "application/octet-stream"


@pytest.mark.parametrize(
    ("metadata", "declared", "harmless"),
    [
        ({"filetype": b"image/png"}, "image/png", "image/png"),
        ({"type": b" Video/MP4 "}, "video/mp4", "video/mp4"),
        ({"filetype": b"", "type": b"audio/ogg"}, "audio/ogg", "audio/ogg"),
        ({"filetype": b"text/html"}, "text/html", OPAQUE),
        ({"filetype": b"application/vnd.ms-excel"}, "application/vnd.ms-excel", OPAQUE),
        ({}, OPAQUE, OPAQUE),
        ({"filetype": b"text/html; charset=utf-8"}, OPAQUE, OPAQUE),
        ({"filetype": b"image/png\r\nX-Evil: 1"}, OPAQUE, OPAQUE),
        ({"filetype": b"image/png\n"}, "image/png", "image/png"),
        ({"filetype": b"image"}, OPAQUE, OPAQUE),
        ({"filetype": b"*/*"}, OPAQUE, OPAQUE),
        ({"filetype": "bild/größe".encode()}, OPAQUE, OPAQUE),
        ({"filetype": b"a/" + b"b" * 128}, OPAQUE, OPAQUE),
    ],
)
def test_the_type(metadata: dict[str, bytes], declared: str, harmless: str) -> None:
    assert declared_type(metadata) == declared
    assert harmless_type(metadata) == harmless


@given(name=st.binary(max_size=80), kind=st.binary(max_size=40))
def test_no_name_and_no_type_leaves_its_line(name: bytes, kind: bytes) -> None:
    metadata = {"filename": name, "filetype": kind}
    for built in (build_content_disposition(metadata), declared_type(metadata)):
        assert built.isascii()
        assert built.isprintable()
        assert "\\" not in built
    assert "/" not in build_content_disposition(metadata)
