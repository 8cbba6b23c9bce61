"""Where keys and tokens come from: a file that is read anew when it changes, or a variable.

The rules:
- What is wrong when a server starts ends it, with one line.
- A file that turns bad, or goes, while it runs changes nothing, and is told of once in the log.
- No message says what is in a file, only where in it.
"""

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from tusd_py.auth.interface import InvalidKeys

logger = logging.getLogger("tusd_py")

T = TypeVar("T")

CHECK_EVERY = 1.0
"""Seconds between two looks at whether a file has changed."""

_SHORTEST_SECRET = 32
_MAKE_ONE = """make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"""


class Source(Generic[T]):
    """What a file says, or an environment variable.

    Args:
        name: The path of a file, or `env:` and the name of a variable.
        parse: Makes the value of the text; raises `InvalidKeys` with what is wrong and where.
        clock: Seconds.

    Raises:
        InvalidKeys: It cannot be used.
        OSError: The file cannot be read.
    """

    def __init__(
        self, name: str, parse: Callable[[str], T], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._parse = parse
        self._clock = clock
        self._looked_at = clock()
        self._path: Path | None = None
        self._stamp: tuple[int, ...] | None = None
        if name.startswith("env:"):
            variable = name.removeprefix("env:")
            if variable not in os.environ:
                raise InvalidKeys(f"{name}: there is no environment variable {variable}")
            self._value = self._parsed(os.environ[variable])
            return
        self._path = Path(name)
        self._stamp = _stamp(self._path)
        self._value = self._read(self._path)

    def value(self) -> T:
        """What it says now, or a second ago."""
        if self._path is not None and self._clock() - self._looked_at >= CHECK_EVERY:
            self._looked_at = self._clock()
            self._look(self._path)
        return self._value

    def _look(self, path: Path) -> None:
        try:
            stamp: tuple[int, ...] | None = _stamp(path)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return
        # Before it is read: what is written meanwhile is read with the next look.
        self._stamp = stamp
        try:
            self._value = self._read(path)
        except (OSError, InvalidKeys) as error:
            logger.error("%s; what it said before goes on to hold", _one_line(error))
        else:
            logger.info("%s was read anew", path)

    def _read(self, path: Path) -> T:
        data = path.read_bytes()
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            logger.warning("%s can be read by every user of this machine: chmod o= %s", path, path)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidKeys(f"{self._name} is not text in UTF-8") from error
        return self._parsed(text)

    def _parsed(self, text: str) -> T:
        try:
            return self._parse(text)
        except InvalidKeys as error:
            raise InvalidKeys(f"{self._name}{error}") from error


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _one_line(error: OSError | InvalidKeys) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines that say something, and their numbers: not the empty ones, nor those after `#`."""
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def parse_secrets(text: str) -> list[bytes]:
    """Secret keys, one a line, in their order.

    Raises:
        InvalidKeys: There is none, or one is too short.
    """
    for number, line in lines_of(text):
        if len(line.encode()) < _SHORTEST_SECRET:
            raise InvalidKeys(
                f", line {number}: a secret key needs at least {_SHORTEST_SECRET} characters; "
                f"{_MAKE_ONE}"
            )
    found = [line.encode() for _, line in lines_of(text)]
    if not found:
        raise InvalidKeys(f" holds no key; {_MAKE_ONE}")
    return found
