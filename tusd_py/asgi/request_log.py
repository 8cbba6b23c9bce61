"""The line of a request in the log, and the id that it can be found by."""

import itertools
import logging
import os
import secrets
import time
from typing import NamedTuple, TextIO

from tusd_py.hooks.events import RequestEnded
from tusd_py.protocol import abnf
from tusd_py.protocol.headers import Headers

logger = logging.getLogger("tusd_py")

_LONGEST = 512
"""Characters of a path; the log has to last as long as the disk does."""


def find_request_id(headers: Headers) -> str:
    """The client's id for the request, if it is harmless, or a new one."""
    given = headers.first("X-Request-ID")
    if given is not None and abnf.UPLOAD_ID.fullmatch(given):
        return given
    return f"{_own_ids[0]}{next(_numbers):08x}"


_own_ids = [secrets.token_hex(8)]
"""What tells this process's ids from those of others, such as the one that it was forked from."""


def _renew_ids() -> None:
    _own_ids[0] = secrets.token_hex(8)


os.register_at_fork(after_in_child=_renew_ids)

_numbers = itertools.count()


class Line(NamedTuple):
    """What a line of the log tells.

    Attributes:
        created: Seconds since the epoch.
        level: Such as `INFO`.
        message: What happened.
        request_id: Of the request that it belongs to; empty if there is none.
        upload_id: Likewise.
        milliseconds: How long the request took, None if that is no matter.
        exception: What went wrong, with its traceback.
    """

    created: float
    level: str
    message: str
    request_id: str = ""
    upload_id: str = ""
    milliseconds: float | None = None
    exception: str | None = None


class LineHandler(logging.StreamHandler[TextIO]):
    """A handler that needs no record: to make and pass one is most of what a line costs."""

    def write(self, line: Line) -> None:
        """Writes what it would write for a record that says this.

        Raises:
            OSError: It cannot be written.
            ValueError: Likewise, as the stream is closed.
        """
        raise NotImplementedError


def log(ended: RequestEnded, path: str, request_id: str, upload_id: str) -> None:
    """Writes the line of a request that has ended.

    Args:
        ended: How.
        path: Of its URL.
        request_id: See `find_request_id`.
        upload_id: As it was asked for; empty if it was for no upload.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    path, milliseconds = path[:_LONGEST], round(ended.seconds * 1000, 1)
    # What is no id is a part of the path, which stands there escaped and once.
    named = upload_id if abnf.UPLOAD_ID.fullmatch(upload_id) else ""
    handler = _find_only_handler()
    if handler is None:
        logger.handle(_record(ended, path, request_id, named, milliseconds))
        return
    message = f"{ended.method} {path!r} {ended.status} {ended.code}"
    try:
        handler.write(Line(time.time(), "INFO", message, request_id, named, milliseconds))
    except Exception:  # as in `logging.StreamHandler.emit`
        handler.handleError(_record(ended, path, request_id, named, milliseconds))


def _find_only_handler() -> LineHandler | None:
    """The handler that takes all lines, where nobody else would look at a record."""
    handlers = logging.root.handlers
    if len(handlers) != 1 or logger.handlers or logger.filters or not logger.propagate:
        return None
    handler = handlers[0]
    if not isinstance(handler, LineHandler) or handler.filters or handler.level > logging.INFO:
        return None
    return handler if logging.getLogRecordFactory() is logging.LogRecord else None


def _record(
    ended: RequestEnded, path: str, request_id: str, upload_id: str, milliseconds: float
) -> logging.LogRecord:
    # As `logger.info`, which first looks through the stack for who called it.
    message = "%s %r %d %s", (ended.method, path, ended.status, ended.code)
    record = logging.getLogRecordFactory()(
        logger.name, logging.INFO, __file__, 0, *message, None, "log"
    )
    record.__dict__.update(request_id=request_id, upload_id=upload_id, milliseconds=milliseconds)
    return record
