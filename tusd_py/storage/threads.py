"""Calls that block, in threads; a thread is always waited for, and its errors become ours."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

from tusd_py.protocol.errors import StorageBusy, StorageFailed, StorageFull
from tusd_py.storage.interface import SyncFailed

T = TypeVar("T")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY = frozenset({errno.EMFILE, errno.ENFILE})


async def in_thread(
    call: Callable[..., T], *args: object, on_cancel: Callable[[], None] = lambda: None
) -> T:
    """Ends only when the thread has ended, also when it is cancelled: `on_cancel` hastens that."""
    work = asyncio.ensure_future(anyio.to_thread.run_sync(call, *args))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        # The shield keeps a cancel scope of anyio from cancelling again in every round.
        with anyio.CancelScope(shield=cancelled is not None):
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as error:
                cancelled = error
                on_cancel()
    if cancelled is not None:
        if not work.cancelled():
            work.exception()
        raise cancelled
    with translated():
        return work.result()


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the system become errors of ours, at the edge."""
    try:
        yield
    except OSError as error:
        raise failure_of(error) from error


def failure_of(error: OSError) -> StorageFailed | StorageFull:
    """What an error of the system is here."""
    if error.errno in _FULL:
        return StorageFull()
    return StorageBusy() if error.errno in _BUSY else StorageFailed()


def fdatasync(descriptor: int) -> None:
    """Lets the bytes of a file outlive a loss of power.

    Raises:
        SyncFailed: They do not.
    """
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise SyncFailed from error
