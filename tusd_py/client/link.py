"""One connection to the server: a request goes out, an answer comes in.

The answer may come while the body is still going (413, 423, 409). Two things keep it from
being lost: `_Watch` looks between two pieces whether the server has spoken, and stops sending;
and when a write fails because the server closed, httpcore reads what it said before.
"""

import contextlib
import re
import select
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tusd_py.client.errors import (
    AnswerError,
    Gone,
    Mismatch,
    NotNow,
    Refused,
    Unreachable,
    Unsuitable,
    phrase,
)
from tusd_py.protocol.abnf import INTEGER

CONNECT_WITHIN = 10.0
"""Seconds for a connection to be made."""
SILENT_FOR = 60.0
"""Seconds without a byte going out, or coming in, after which the connection is given up."""
ANSWER_AT_MOST = 16 * 1024
"""Bytes of an answer's body that are read."""
SENTENCE_AT_MOST = 500
"""Characters of it that are shown."""
WORTH_ANOTHER_TRY = frozenset({408, 409, 423, 425, 429})
_NO_ENDPOINT = frozenset({404, 405, 501})
_USUAL = "The URL of a tus server mostly ends in /files/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach the server: the same for all connections of a run.

    Args:
        headers: the user's own, for every request.
        auth: from the URL's `user:password@` or from ~/.netrc.
        tls: one context for all, as loading the certificates takes long.
        silent_for: seconds, see `SILENT_FOR`.
    """

    headers: tuple[tuple[str, str], ...] = ()
    auth: httpx.Auth | None = None
    tls: ssl.SSLContext
    silent_for: float = SILENT_FOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers (any case) and the first line of a plain body."""

    status: int
    headers: Mapping[str, str]
    sentence: str

    def number(self, name: str) -> int | None:
        """The value of a header that holds a count of bytes; None when it is missing or wrong."""
        value = self.headers.get(name, "")
        return int(value) if INTEGER.fullmatch(value) else None

    def error(self) -> AnswerError:
        """What this answer means to a request that hoped for another one."""
        if self.status in (403, 404, 410):
            return Gone(self.status, self.sentence)
        if self.status == 460:
            return Mismatch(self.status, self.sentence)
        if self.status in WORTH_ANOTHER_TRY or (self.status >= 500 and self.status != 501):
            return NotNow(self.status, self.sentence, self._retry_after())
        return Refused(self.status, self._reason())

    def refusal(self) -> AnswerError:
        """The same for a request that is not about an existing upload: nothing can be gone."""
        if self.status in _NO_ENDPOINT:
            sentence = self.sentence or phrase(self.status)
            return Refused(self.status, f"{sentence}; is this where it takes uploads? {_USUAL}")
        error = self.error()
        return Refused(error.status, error.sentence) if isinstance(error, Gone) else error

    def _reason(self) -> str:
        location = self.headers.get("Location")
        if 300 <= self.status < 400 and location:
            return f"{phrase(self.status)}; use this URL instead: {_printable(location)}"
        return self.sentence

    def _retry_after(self) -> float:
        value = self.headers.get("Retry-After", "")
        return float(value) if re.fullmatch("[0-9]{1,9}", value, re.ASCII) else 0.0


class Link:
    """At most one connection at a time, for one thread; it is made anew when it was lost."""

    def __init__(self, access: Access) -> None:
        self._watch = _Watch()
        self._silent_for = access.silent_for
        self._client = httpx.Client(
            headers=[
                ("User-Agent", "tusd-py"),
                ("Accept", "text/plain, */*;q=0.1"),
                ("Accept-Encoding", "identity"),
                *access.headers,
            ],
            auth=access.auth,
            verify=access.tls,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Iterator[bytes] | None = None,
        *,
        answer_within: float | None = None,
    ) -> Answer:
        """Sends a request and returns whatever answer came, early or late.

        Args:
            method: of HTTP.
            url: absolute.
            headers: on top of those of `Access`; with a body, `Content-Length` is among them.
            body: its pieces, each a few hundred KiB; what it raises comes out of here.
            answer_within: seconds, when the server may need longer than `silent_for`.

        Raises:
            Unreachable: there was no answer.
            Unsuitable: the server is not to be trusted, or the request cannot be made at all.
        """
        content = None if body is None else self._watch.until_answered(body)
        try:
            with self._client.stream(
                method,
                url,
                headers=dict(headers),
                content=content,
                timeout=self._timeout(answer_within),
                extensions={"trace": self._watch.trace},
            ) as response:
                return Answer(
                    status=response.status_code,
                    headers=response.headers,
                    sentence=_sentence(response),
                )
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise Unsuitable(str(error)) from error
        except httpx.RequestError as error:
            raise _no_answer(error) from error

    def _timeout(self, answer_within: float | None) -> httpx.Timeout:
        return httpx.Timeout(
            connect=CONNECT_WITHIN,
            read=answer_within or self._silent_for,
            write=self._silent_for,
            pool=None,
        )


class _Watch:
    """Sees that an answer has come before the body is out.

    httpcore says nothing of the kind, but names its socket through the trace extension. To stop,
    the sending side is shut: the next write fails, upon which httpcore reads the answer. Over
    TLS a readable socket may mean anything, so there only a failing write ends a body.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keeps the socket of the connection that was made last."""
        if event.endswith("connect_tcp.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
        elif event.endswith("start_tls.started"):
            self._socket = None

    def until_answered(self, body: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of the body, until the server answers."""
        for piece in body:
            if self._socket is not None and _has_answer(self._socket):
                with contextlib.suppress(OSError):  # the connection is gone already
                    self._socket.shutdown(socket.SHUT_WR)
            yield piece


def _has_answer(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        beginning = connection.recv(10, socket.MSG_PEEK)
    except OSError:  # a reset: what was received before it can still be read
        return True
    # An interim answer (1xx) is not the answer.
    return re.match(rb"HTTP/1\.[01] 1", beginning) is None


def _sentence(response: httpx.Response) -> str:
    """The first line of a plain body; empty when there is none."""
    if not response.headers.get("Content-Type", "text/plain").startswith("text/plain"):
        return ""
    text = _beginning(response).decode("utf-8", "replace").strip()
    return _printable(text.partition("\n")[0].strip())[:SENTENCE_AT_MOST]


def _beginning(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        for piece in response.iter_bytes():
            body += piece
            if len(body) >= ANSWER_AT_MOST:
                break
    except httpx.RequestError:
        pass  # the status has come, and is what counts: early answers are often cut short
    return bytes(body)


def _printable(text: str) -> str:
    """Without what could move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _no_answer(error: httpx.RequestError) -> Unreachable | Unsuitable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unsuitable(f"the server's certificate is not trusted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return Unsuitable("the server speaks no TLS there; is it http:// and not https://?")
        cause = cause.__cause__ or cause.__context__
    host = error.request.url.netloc.decode("ascii", "replace")
    return Unreachable(f"no answer from {host}: {str(error) or type(error).__name__}")
