"""What an operator can mend, and how it is told."""

import sqlite3

from tusd_py.auth.interface import InvalidKeys as InvalidKeys
from tusd_py.protocol.errors import TusError
from tusd_py.state.filesystem import NetworkFileSystem
from tusd_py.state.sqlite import NewerDatabase
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.template import InvalidTemplate
from tusd_py.wire.server import CannotListen, NotProtected
from tusd_py.wire.workers import WorkersFailed


class NotInstalled(Exception):
    """What was asked for needs more than a plain installation."""


class InvalidPlace(ValueError):
    """What was said of a place cannot be."""


class NeedsFiles(Exception):
    """A tool for files was asked to work on a bucket."""


class InvalidHooks(ValueError):
    """What was said of hooks cannot be."""


EXPECTED = (
    NotInstalled,
    InvalidHooks,
    NeedsFiles,
    CannotListen,
    WorkersFailed,
    WrongInstance,
    NewerDatabase,
    NetworkFileSystem,
    InvalidTemplate,
    InvalidPlace,
    InvalidKeys,
    OSError,
    TusError,
)
"""What an operator can mend; see `explain`."""


def explain(error: BaseException) -> str:
    """One of `EXPECTED` in one line: what is wrong, and with what."""
    cause = error.__cause__ if isinstance(error, TusError) else None
    if isinstance(error, NotProtected):
        return (
            f"{error}, and nobody would be asked who they are: give --auth-tokens, --auth-jwt-keys "
            "or --auth-signing-key, or --no-auth if something in front of it asks"
        )
    if isinstance(cause, sqlite3.Error):
        return f"the state cannot be used: {cause}"
    reason = cause or error
    if isinstance(reason, OSError) and reason.strerror:
        where = "" if reason.filename is None else f"{reason.filename}: "
        return f"{where}{reason.strerror}"
    return str(reason)
