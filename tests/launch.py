"""`tusd-py`, over the other body or the other event loop: `python -m tests.launch serve ...`.

`TUSD_PY_TEST_BODY=receive` lets every body come through `receive()`, as on any ASGI server, and
`TUSD_PY_TEST_LOOP=asyncio` runs it on the event loop of the standard library. With neither it is
`python -m tusd_py`.
"""

import asyncio
import os
from collections.abc import Callable

import uvloop

from tusd_py.cli import main
from tusd_py.wire.body import SocketBody
from tusd_py.wire.http import HttpProtocol

BODY = "TUSD_PY_TEST_BODY"
LOOP = "TUSD_PY_TEST_LOOP"


def _make_no_body(idle_timeout: float, slowest_speed: float) -> None:
    """Stands in for `tusd_py.asgi.body.MakeBody`."""


def _offer_no_body(_: HttpProtocol, length: int) -> Callable[[float, float], SocketBody | None]:
    """Stands in for `HttpProtocol._offer_body`."""
    return _make_no_body


def switch() -> None:
    """Does what the environment asks for."""
    if os.environ.get(BODY) == "receive":
        # It must be there: to replace what nobody calls would test the same body twice.
        assert callable(HttpProtocol._offer_body)
        HttpProtocol._offer_body = _offer_no_body  # type: ignore[method-assign, assignment]
    if os.environ.get(LOOP) == "asyncio":
        uvloop.new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]


if __name__ == "__main__":
    switch()
    main()
