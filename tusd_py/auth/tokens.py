"""Bearer tokens that stand in a file: `token principal`, one a line.

The rules:
- Of the tokens only their digests are kept. One that comes in is compared with each of them, in a
  time that does not depend on what is in it, nor on which of them it is.
"""

import hashlib
import hmac
import re

from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.source import Source, lines_of

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_SHORTEST = 16

Known = list[tuple[bytes, str]]
"""Digests of tokens, and whose they are."""


class Tokens:
    """See `Bearers`; made for some thousands of tokens at most.

    Args:
        name: See `Source`.

    Raises:
        InvalidKeys: A line cannot be used, or there is none.
        OSError: The file cannot be read.
    """

    def __init__(self, name: str) -> None:
        self._source = Source(name, parse_tokens)
        # Later on, an empty file takes everybody's away.
        if not self._source.value():
            raise InvalidKeys(
                f"{name} has no token, so nobody could be let in; a line is TOKEN NAME"
            )

    async def whose(self, token: str) -> str | None:
        """See `Bearers.whose`; what is not in the file may be of another kind."""
        digest = _digest(token)
        found = None
        for known, principal in self._source.value():
            if hmac.compare_digest(known, digest):
                found = principal
        return found


def parse_tokens(text: str) -> Known:
    """The lines of the file; what begins with `#` is none.

    Raises:
        InvalidKeys: One is not `token principal`, is too easily guessed, or repeats a token.
    """
    known: dict[bytes, str] = {}
    for number, line in lines_of(text):
        token, _, principal = line.partition(" ")
        principal = principal.strip()
        if not _TOKEN.fullmatch(token) or not principal or not principal.isprintable():
            raise InvalidKeys(
                f", line {number}: must be a token, a space, and whose it is; "
                "a token has letters, digits and - . _ ~ + / only"
            )
        if len(token) < _SHORTEST:
            raise InvalidKeys(
                f", line {number}: a token needs at least {_SHORTEST} characters; make one with: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        digest = _digest(token)
        if digest in known:
            raise InvalidKeys(f", line {number}: this token stands further up already")
        known[digest] = principal
    return list(known.items())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
