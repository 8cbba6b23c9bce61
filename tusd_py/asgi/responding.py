"""One request and its answer, also while a body is still coming that nobody will read.

The rules:
- The rest of a body that was refused is read and dropped if it is small; then the connection can
  go on.
- Otherwise the answer says `Connection: close`, and what comes is dropped for a while before the
  connection ends: with a plain close the client would see a reset, and not the answer. It is read
  slowly, so that the while lasts also for a client that sends fast, and looks up now and then.
- Where the client still waits for `100 (Continue)`, nothing is read, so that it never sends.
"""

from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple

from starlette.types import Message, Receive, Send

from tusd_py.asgi.body import RequestBody
from tusd_py.protocol import abnf
from tusd_py.protocol.errors import Header, TusError
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.headers import TUS_VERSION, Headers
from tusd_py.protocol.tus1 import Response, build_error

_DRAIN = 64 << 10
_DRAIN_FOR = 1.0
_LINGER = 1 << 20
_LINGER_FOR = 2.0

_CONTROLS = {code: None for code in (*range(0x20), 0x7F) if code != 0x09}


class Refusal(NamedTuple):
    """What a request was refused with.

    The error itself refers to all that it went through, the request too: a circle, which would wait
    for the garbage collector.
    """

    status: int
    code: str
    message: str


class Exchange:
    """Sends the answer to one request.

    Args:
        scope: Of the request.
        receive: Likewise.
        send: Likewise.
        body: Likewise; as much of it as nobody has read is dealt with here.
        headers: Of the request.
        request_id: For the log, and for the client.

    Attributes:
        extra: Headers that go on any answer.
        status: Of the answer, 0 before there is one.
        refusal: Why it was refused, None if it was not.
        grant: What the request was let in with, None before that, or where nobody is asked.
        is_counted: Whether it was counted for whoever sent it.
        is_stream: Whether it is answered with a stream of events.
        method: Of the request; another one than it was sent with where a header says so.
        scope: Of the request.
        headers: Of the request.
        body: Likewise.
        receive: For what else serves this request, such as a file response.
        upload_id: As the URL has it, or as it was created; empty if it is for no upload.
    """

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
        body: RequestBody,
        headers: Headers,
        request_id: str,
    ) -> None:
        self.scope = scope
        self.method = str(scope["method"])
        self.request_id = request_id
        self.extra: tuple[Header, ...] = ()
        self.status = 0
        self.upload_id = ""
        self.refusal: Refusal | None = None
        self.grant: Grant | None = None
        self.is_counted = False
        self.is_stream = False
        self.receive = receive
        self._send = send
        self.body = body
        self.headers = headers

    @property
    def sends_files(self) -> bool:
        """Whether the server sends files itself, and what is sent here reaches it as it is.

        A middleware that looks at answers may know nothing of such messages.
        """
        extensions = self.scope.get("extensions") or {}
        return "http.response.zerocopysend" in extensions and (
            extensions.get("tusd_py.send") == self._send
        )

    async def refuse(self, error: TusError, *, is_head: bool) -> None:
        """Answers with an error, unless an answer has begun already."""
        self.refusal = Refusal(error.status, error.code, str(error))
        if self.status:
            return
        wants_json = "application/problem+json" in self.headers.joined("Accept")
        await self.respond(build_error(error, problem_json=wants_json, head=is_head))

    async def respond(self, response: Response) -> None:
        """Answers, and leaves the connection so that the next request can be told apart."""
        headers = raw(response.headers)
        may_have_body = response.status not in (204, 304)
        # An application may have words even so.
        body = response.body if may_have_body else b""
        if may_have_body and self.scope["method"] != "HEAD":
            headers.append((b"Content-Length", b"%d" % len(body)))
        keeps = self.body.is_ended or await self._can_keep_connection()
        says_close = (b"Connection", b"close")
        if not keeps and says_close not in headers and self.scope.get("http_version") == "1.1":
            headers.append(says_close)
        await self._begin(response.status, headers)
        if not keeps and not self._owes_continue():
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await self.body.drop(_LINGER, _LINGER_FOR, spread=True)
            body = b""
        await self._send({"type": "http.response.body", "body": body})

    async def send(self, message: Message) -> None:
        """Passes a message of a file response on; the head gets what goes on any answer."""
        if message["type"] != "http.response.start":
            await self._send(message)
            return
        headers = list(message.get("headers", ()))
        # "MUST be included in every request and response" (Core Protocol, Tus-Resumable), and a
        # file response's own refusals, such as a 416, come without it.
        if all(name.lower() != b"tus-resumable" for name, _ in headers):
            headers.append((b"Tus-Resumable", TUS_VERSION.encode()))
        await self._begin(message["status"], headers)

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        headers += raw(self.extra)
        headers.append((b"X-Request-ID", self.request_id.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _can_keep_connection(self) -> bool:
        """Whether no byte of this request's body can be taken for the next request."""
        if not self._has_body():
            return True
        if self._owes_continue() or self.body.interrupted_by is not None:
            # Whoever was interrupted is told at once, also if the rest never comes.
            return False
        length = self.headers.first("Content-Length")
        if length is not None and (not abnf.INTEGER.fullmatch(length) or int(length) > _DRAIN):
            return False
        return await self.body.drop(_DRAIN, _DRAIN_FOR)

    def _has_body(self) -> bool:
        length = self.headers.first("Content-Length")
        return "Transfer-Encoding" in self.headers or length not in (None, "0")

    def _owes_continue(self) -> bool:
        expects = (self.headers.first("Expect") or "").lower() == "100-continue"
        return expects and not self.body.is_begun


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return name.encode("latin-1")


def raw(headers: tuple[Header, ...]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them; characters that no header may have are dropped."""
    return [
        (
            _name(name),
            (value if value.isprintable() else value.translate(_CONTROLS)).encode(
                "latin-1", "replace"
            ),
        )
        for name, value in headers
    ]
