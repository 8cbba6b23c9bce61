"""What the failures of a store mean to us."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tusd_py.protocol.errors import StorageBusy, StorageFailed, StorageFull

_GONE = frozenset({"NoSuchUpload", "NoSuchKey", "404", "NotFound"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "ServiceQuota"})
_BUSY = frozenset({429, 503})


class Gone(Exception):
    """A multipart upload or an object is not there, or not any more."""


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the store become errors of ours, at the edge."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in _GONE:
            raise Gone(code) from error
        if code in _FULL:
            raise StorageFull from error
        if _status(error) in _BUSY:
            raise StorageBusy from error
        raise StorageFailed from error
    except (BotoCoreError, HTTPClientError, ClientPayloadError, OSError, TimeoutError) as error:
        raise StorageFailed from error


def code_of(error: ClientError) -> str:
    """What went wrong, as the store names it."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def misses_md5(error: StorageFailed) -> bool:
    """Whether the store wants it: of parts of objects that are to be locked."""
    cause = error.__cause__
    return (
        isinstance(cause, ClientError)
        and code_of(cause) == "InvalidRequest"
        and "Content-MD5" in str(cause)
    )


def is_refused(error: StorageFailed) -> bool:
    """Whether the store found something wrong with a call; it says what in many ways."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and _status(cause) == 400
