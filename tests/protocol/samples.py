"""Requests and records that the tests of this room begin with."""

import pytest
from hypothesis import settings

from tusd_py.protocol.commands import Append, Create
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import TusError
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.tus1 import Request, Response, build_error, parse_request
from tusd_py.protocol.upload import Tail, Upload

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT."""

UPLOAD = Upload(id="a", created_at=NOW, upload_length=100, expires_at=NOW + 3600)
DEFERRED = UPLOAD._replace(upload_length=None)
PARTIAL = UPLOAD._replace(concat=Partial())
FINAL = UPLOAD._replace(
    concat=Final(("/files/a", "/files/b")),
    parts=("a", "b"),
    upload_length=None,
    tail=Tail.SEALED,
)

OFFSET_TYPE = ("Content-Type", "application/offset+octet-stream")
LONG = 100_000
"""Characters of a value that no honest client sends."""

steady = settings(deadline=None)
"""Hypothesis without its clock: a busy machine is no defect."""


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers([(name.encode(), value.encode("latin-1")) for name, value in pairs])


def request(
    method: str,
    upload_id: str | None,
    *pairs: tuple[str, str],
    version: str | None = "1.0.0",
    trailers: bool = False,
) -> Request:
    resumable = () if version is None else (("Tus-Resumable", version),)
    return Request(
        method=method,
        upload_id=upload_id,
        headers=headers(*resumable, *pairs),
        base_path="/files/",
        trailers=trailers,
    )


def post(*pairs: tuple[str, str]) -> Request:
    return request("POST", None, *pairs)


def patch(*pairs: tuple[str, str], trailers: bool = False) -> Request:
    return request("PATCH", "a", OFFSET_TYPE, *pairs, trailers=trailers)


def created(*pairs: tuple[str, str]) -> Create:
    command = parse_request(post(*pairs))
    assert isinstance(command, Create)
    return command


def appended(*pairs: tuple[str, str], trailers: bool = False) -> Append:
    command = parse_request(patch(*pairs, trailers=trailers))
    assert isinstance(command, Append)
    return command


def refused(request: Request) -> Response:
    """What a client gets for a request that asks for nothing that can be done."""
    with pytest.raises(TusError) as caught:
        parse_request(request)
    return build_error(caught.value)


def header(response: Response, name: str) -> str | None:
    """The value of a header, which stands at most once."""
    values = [value for key, value in response.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None
