"""A tus client that survives its server, and holds it to every word.

The rules:
- A POST whose answer was lost is repeated. Whatever else was lost or refused, HEAD is asked where
  to go on.
- What an answer told was acknowledged: no later one may tell less.
- Behind what the server has, other bytes are sent than the last time, so that bytes of an earlier
  request that were not acknowledged, but came to count, show in the result.
"""

import base64
import hashlib
import http.client
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.asgi.raw import Answer, Raw

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_TYPE = {"Content-Type": "application/offset+octet-stream"}
AT_ONCE = 64 * 1024
PATIENCE = 20.0
TRIES = 12
_SENTENCE = re.compile(r"^ERR_[A-Z_]+: \S.*\n?$")


class Broken(AssertionError):
    """The server broke a promise; the message says which."""


@dataclass
class Sent:
    """An upload as its client sees it.

    Attributes:
        path: On the server.
        length: Bytes.
        content: What was sent, or will be.
        told: Bytes that were acknowledged.
        stops: Offsets that it may stand at, None for any.
        is_finished: Whether the client was told that it is complete.
        concat: `partial`, `final` or empty.
    """

    path: str
    length: int
    content: bytearray
    told: int = 0
    stops: set[int] | None = None
    is_finished: bool = False
    concat: str = ""

    @property
    def id(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and what came of it.

    Attributes:
        path: What it was about; of a POST, what was created.
        status: 0 where no answer came.
        code: Of the error, empty if there was none.
        offset: What the answer told.
    """

    method: str
    path: str
    status: int = 0
    code: str = ""
    offset: int | None = None


def _exchange(method: str, path: str, answer: Answer) -> Exchange:
    offset = answer.headers.get("Upload-Offset", "")
    text = answer.body.decode("utf-8", "replace") if answer.status >= 400 else ""
    return Exchange(
        method=method,
        path=_created(answer) if answer.status == 201 else path,
        status=answer.status,
        code=text.partition(":")[0].strip(),
        offset=int(offset) if offset.isdigit() else None,
    )


def _created(answer: Answer) -> str:
    return "/" + answer.headers["Location"].partition("://")[2].partition("/")[2]


def _nothing() -> object:
    return None


def first_difference(one: bytes, other: bytes) -> int:
    """Where two results part; the shorter one's length if it is a beginning of the other."""
    pairs = enumerate(zip(one, other, strict=False))
    differ = (at for at, pair in pairs if pair[0] != pair[1])
    return next(differ, min(len(one), len(other)))


def _never() -> bool:
    return False


@dataclass
class Sender:
    """Talks to the server on a port of loopback.

    Attributes:
        port: Of the server.
        on_lost: Called when no answer came: brings the server back.
        on_refused: Called when the server reported a failure of its own (5xx), or cannot now (423).
        asks_again: Statuses, beside those that mean it, after which it does not give up.
        may_fall: Whether an offset may go down: where a sync failed, what was not synced is lost.
        exchanges: Everything that was asked.
        uploads: Everything that was created.
    """

    port: Callable[[], int]
    on_lost: Callable[[], object] = _nothing
    on_refused: Callable[[], object] = _nothing
    asks_again: frozenset[int] = frozenset()
    may_fall: Callable[[], bool] = _never
    exchanges: list[Exchange] = field(default_factory=list)
    uploads: list[Sent] = field(default_factory=list)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer | None:
        """One request on a connection of its own: None if no answer came."""
        try:
            answer = self._ask(method, path, headers, body)
        except (OSError, http.client.HTTPException):
            self.exchanges.append(Exchange(method=method, path=path))
            self.on_lost()
            return None
        self.exchanges.append(_exchange(method, path, answer))
        if answer.status >= 500:
            self._check_refusal(method, answer)
        if answer.status >= 500 or answer.status in self.asks_again:
            self.on_refused()
        return answer

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        raw = Raw(self.port())
        try:
            length = {"Content-Length": str(len(body))} if method in ("POST", "PATCH") else {}
            lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{raw.port}"]
            lines += [f"{name}: {value}" for name, value in {**TUS, **length, **headers}.items()]
            head = "\r\n".join([*lines, "", ""]).encode("latin-1")
            if len(body) <= AT_ONCE:
                raw.send(head + body)
            else:
                raw.send(head)
                raw.offer(body)
            return raw.answer(method)
        finally:
            raw.close()

    @staticmethod
    def _check_refusal(method: str, answer: Answer) -> None:
        if method == "HEAD":
            raise Broken(f"HEAD was answered {answer.status}: tus-js-client would begin anew")
        if not _SENTENCE.match(answer.body.decode("utf-8", "replace")):
            text = answer.body[:200]
            raise Broken(f"{method} was answered {answer.status} with {text!r}, no CODE: sentence")

    def create(
        self, length: int, *, content: bytes = b"", defer: bool = False, **headers: str
    ) -> Sent:
        """A new upload, with bytes that come along if there are any."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        size = {"Upload-Defer-Length": "1"} if defer else {"Upload-Length": str(length)}
        if "Upload-Concat" in named and named["Upload-Concat"].startswith("final"):
            size = {}
        kind = OFFSET_TYPE if content else {}
        for _ in range(TRIES):
            answer = self.ask("POST", "/files/", {**size, **kind, **named}, content)
            if answer is None or answer.status >= 500 or answer.status in self._goes_on_after:
                continue
            if answer.status != 201:
                raise Broken(f"POST was answered {answer.status}: {answer.body!r}")
            whole = bytearray(content + os.urandom(length - len(content)))
            sent = Sent(path=_created(answer), length=length, content=whole)
            sent.concat = named.get("Upload-Concat", "").partition(";")[0]
            self.uploads.append(sent)
            self.acknowledge(sent, int(answer.headers.get("Upload-Offset", "0")))
            return sent
        raise Broken("no POST was ever answered")

    def acknowledge(self, sent: Sent, offset: int) -> None:
        """Notes an offset that the server told."""
        is_known = sent.told <= offset or (offset >= 0 and self.may_fall())
        if not is_known or offset > sent.length:
            raise Broken(f"{sent.told} bytes were acknowledged, and now it says {offset}")
        sent.told = offset
        sent.is_finished = sent.is_finished or offset == sent.length

    def send(
        self, sent: Sent, sizes: list[int], *, checksum: bool = False, declares: bool = False
    ) -> None:
        """The rest of an upload, in pieces of these sizes; the last one repeats."""
        left = list(sizes)
        for _ in range(TRIES + len(sizes)):
            if sent.told == sent.length:
                return
            size = left.pop(0) if len(left) > 1 else left[0]
            self._send_piece(sent, size, checksum=checksum, declares=declares)
        raise Broken(f"the upload does not get beyond {sent.told} of {sent.length} bytes")

    def _send_piece(self, sent: Sent, size: int, *, checksum: bool, declares: bool) -> None:
        offset = sent.told
        piece = bytes(sent.content[offset : offset + size])
        end = offset + len(piece)
        headers = {**OFFSET_TYPE, "Upload-Offset": str(offset)}
        if checksum:
            digest = base64.b64encode(hashlib.sha1(piece).digest()).decode()
            headers["Upload-Checksum"] = f"sha1 {digest}"
            sent.stops = {offset, end}
        if declares and end == sent.length:
            headers["Upload-Length"] = str(sent.length)
        answer = self.ask("PATCH", sent.path, headers, piece)
        if answer is not None and answer.status == 204:
            told = int(answer.headers["Upload-Offset"])
            if told != end:
                raise Broken(f"{end} bytes were sent, and 204 says {told}")
            self.acknowledge(sent, told)
        elif answer is None or answer.status >= 500 or answer.status in self._goes_on_after:
            self.where(sent)
            sent.content[sent.told :] = os.urandom(sent.length - sent.told)
        else:
            raise Broken(f"PATCH at {offset} was answered {answer.status}: {answer.body!r}")

    @property
    def _goes_on_after(self) -> frozenset[int]:
        return self.asks_again | {409, 423}

    def where(self, sent: Sent) -> int:
        """Where the server says that it stands."""
        answer = self.head(sent.path)
        for _ in range(TRIES):
            if answer.status not in self.asks_again:
                break
            answer = self.head(sent.path)
        if answer.status != 200:
            raise Broken(f"HEAD of what was created says {answer.status}")
        told = int(answer.headers["Upload-Offset"])
        if sent.stops is not None and told not in sent.stops and not self.may_fall():
            raise Broken(f"it stands at {told}, in the middle of a piece with a checksum")
        self.acknowledge(sent, told)
        return told

    def head(self, path: str) -> Answer:
        """HEAD, until it is answered with anything but "not now"."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.ask("HEAD", path, {})
            if answer is not None and answer.status != 423:
                return answer
            self.on_refused()
            time.sleep(0.02)
        raise Broken("HEAD is not answered any more")

    def get(self, sent: Sent) -> bytes:
        """The bytes of a finished upload."""
        for _ in range(TRIES):
            answer = self.ask("GET", sent.path, {})
            if answer is not None and answer.status < 500:
                break
        else:
            raise Broken("GET is not answered")
        if answer.status != 200:
            raise Broken(f"GET of a finished upload says {answer.status}: {answer.body!r}")
        return answer.body

    def delete(self, sent: Sent) -> None:
        """Until it is gone."""
        for _ in range(TRIES):
            answer = self.ask("DELETE", sent.path, {})
            if answer is not None and answer.status == 204:
                return
            if self.head(sent.path).status in (404, 410):
                return
        raise Broken("DELETE is never answered")

    def check_whole(self, sent: Sent) -> None:
        """Complete, and byte for byte what was sent."""
        if self.where(sent) != sent.length:
            raise Broken(f"it was finished, and stands at {sent.told}")
        found = self.get(sent)
        if found != sent.content:
            at = first_difference(found, bytes(sent.content))
            raise Broken(f"the result differs at byte {at} of {sent.length} ({len(found)} came)")
