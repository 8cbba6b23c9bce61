"""The line of a request in the log, and the id that it can be found by."""

import itertools
import logging
import os
import secrets

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
    # What is no id is a part of the path, which stands there escaped and once.
    named = upload_id if abnf.UPLOAD_ID.fullmatch(upload_id) else ""
    # As `logger.info`, which first looks through the stack for who called it.
    record = logger.makeRecord(
        logger.name,
        logging.INFO,
        __file__,
        0,
        "%s %r %d %s",
        (ended.method, path[:_LONGEST], ended.status, ended.code),
        None,
        "log",
        {
            "request_id": request_id,
            "upload_id": named,
            "milliseconds": round(ended.seconds * 1000, 1),
        },
    )
    logger.handle(record)
