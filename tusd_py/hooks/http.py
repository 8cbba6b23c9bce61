"""Hooks by HTTP: each is a `POST` to one URL, as tusd sends it.

The rules:
- Everything is bounded: the whole call with all its attempts, and the size of the answer.
- An attempt is repeated where the network failed or the status is 500 or more, as tusd does.
- It goes on to where a 307 or 308 sends it, as tusd does. Other redirections drop the body: a page
  that says "log in" would be taken for one that took an event.
- No cookie is kept: it would be that of one client, and go along with the hooks of the next.
- With a secret, each body is signed; an event has an id, which stays the same when it is repeated.
"""

import asyncio
import hashlib
import hmac
from contextlib import aclosing
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from tusd_py.hooks.tusd import Call, NoAnswer

EVENT_ID = "Tusd-Py-Event-Id"
SIGNATURE = "Tusd-Py-Signature"
"""`sha256=` and the HMAC-SHA256 of the body in lower-case hexadecimal digits."""

_REDIRECTIONS = 10
"""Of one attempt at most."""

_CREDENTIALS = (b"authorization", b"cookie")
"""What no other host is told than the one that the operator named; as in Go."""

_DIRECT = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
"""Never by a proxy, whatever the environment says; as in Go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How hooks are called by HTTP.

    Attributes:
        url: Where they are sent to.
        attempts: At most so many.
        backoff: Seconds between two attempts.
        timeout: Seconds for all of them together.
        size_limit: Bytes of an answer.
        forward_headers: Names of headers of the client's request that go on the hook's too.
        secret: What bodies are signed with, None to sign none.
    """

    url: str
    attempts: int = 3
    backoff: float = 1.0
    timeout: float = 15.0
    size_limit: int = 5 << 10
    forward_headers: tuple[str, ...] = ()
    secret: bytes | None = None


class HttpCarrier:
    """Sends hooks to a server; see `tusd.Carrier`."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        none = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.AsyncClient(timeout=settings.timeout, mounts=_DIRECT, cookies=none)

    async def close(self) -> None:
        """See `tusd.Carrier.close`."""
        await self._client.aclose()

    async def carry(self, call: Call) -> bytes:
        """See `tusd.Carrier.carry`."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._carry(call)
        except TimeoutError as error:
            raise NoAnswer(f"no answer within {self._settings.timeout:g} s") from error

    async def _carry(self, call: Call) -> bytes:
        left = max(1, self._settings.attempts)
        while True:
            left -= 1
            try:
                status, said = await self._post(call)
                reason = f"the answer has status {status}"
                may_pass = status >= 500
            except httpx.HTTPError as error:
                status, said = 0, b""
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                may_pass = isinstance(error, httpx.TransportError)
            if 200 <= status < 300:
                return said
            if not left or not may_pass:
                raise NoAnswer(reason)
            await asyncio.sleep(self._settings.backoff)

    async def _post(self, call: Call) -> tuple[int, bytes]:
        headers = self._headers(call)
        url = httpx.URL(self._settings.url)
        for _ in range(1 + _REDIRECTIONS):
            request = self._client.build_request("POST", url, content=call.body, headers=headers)
            answer, said = await self._send(request)
            if answer.status_code not in (307, 308) or answer.next_request is None:
                return answer.status_code, said
            if answer.next_request.url.host != url.host:
                headers = [line for line in headers if line[0].lower() not in _CREDENTIALS]
            url = answer.next_request.url
        raise NoAnswer(f"more than {_REDIRECTIONS} redirections")

    async def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        limit = self._settings.size_limit
        said = b""
        answer = await self._client.send(request, stream=True)
        async with aclosing(answer):
            async for piece in answer.aiter_bytes():
                said += piece
                if len(said) > limit:
                    raise NoAnswer(f"the answer is longer than {limit} bytes")
        return answer, said

    def _headers(self, call: Call) -> list[tuple[bytes, bytes]]:
        lines = call.upload.request.header_lines
        headers = [
            (name.encode("ascii"), value.encode("latin-1"))  # as they came
            for name in self._settings.forward_headers
            for sent, value in lines
            if sent.lower() == name.lower()
        ]
        headers.append((b"Content-Type", b"application/json"))
        if call.event_id:
            headers.append((EVENT_ID.encode(), call.event_id.encode()))
        if self._settings.secret is not None:
            digest = hmac.new(self._settings.secret, call.body, hashlib.sha256).hexdigest()
            headers.append((SIGNATURE.encode(), b"sha256=" + digest.encode()))
        return headers
