"""`tusd-py`, over the other body or the other event loop: `python -m tests.launch serve ...`.

`TUSD_PY_TEST_BODY=receive` lets every body come through `receive()`, as on any ASGI server, and
`TUSD_PY_TEST_LOOP=asyncio` runs it on the event loop of the standard library. With neither it is
`python -m tusd_py`.
"""

import asyncio
import os

import uvloop

from tusd_py import TusApp
from tusd_py.cli import main
from tusd_py.wire import http

BODY = "TUSD_PY_TEST_BODY"
LOOP = "TUSD_PY_TEST_LOOP"


def _make_no_body(*_: object) -> None:
    """Stands in for `http._make_body`."""


def switch() -> None:
    """Does what the environment asks for."""
    if os.environ.get(BODY) == "receive":
        # It must be there: to replace what nobody calls would test the same body twice.
        assert callable(http._make_body)
        http._make_body = _make_no_body  # type: ignore[assignment]
        TusApp.answer_at_once = lambda *_: None  # type: ignore[method-assign]
    if os.environ.get(LOOP) == "asyncio":
        uvloop.new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]


if __name__ == "__main__":
    switch()
    main()
