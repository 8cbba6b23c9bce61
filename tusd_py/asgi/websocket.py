"""Events over a WebSocket (RFC 6455), and commands the other way.

The rules:
- A browser lets every page connect to every host: a page of another origin is let in only where
  CORS allows it, and a token comes as a subprotocol, as a page can send no header.
- A command is a request of its own, `PUT` or `DELETE`, with the credentials of the handshake:
  whoever sends it is asked anew who they are, and it is counted, traced and logged like one that
  came alone.
- Commands are done one after the other; the next is read when the last is answered, so that what a
  client sends piles up with the client. So does what it does not read, up to what `Listener` bears.
- What cannot be read is answered with one error, and changes nothing.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

import anyio
from starlette.types import Message, Receive, Scope, Send

from tusd_py.asgi.control import LONGEST, control
from tusd_py.asgi.events import Ending, Event, Events, audience_for
from tusd_py.asgi.frame import NO_STORE, Frame
from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.settings import HttpSettings
from tusd_py.engine.services import Services
from tusd_py.protocol import abnf
from tusd_py.protocol.errors import InvalidQuestion, NotAllowed, UploadNotFound
from tusd_py.protocol.headers import TUS_VERSION

PROTOCOL = "tusd-py"
"""The subprotocol that is selected."""

_BEARER = "bearer."
"""Before a token, in Base64 for URLs without padding, as a further subprotocol."""

_CODES = {
    Ending.DONE: 1000,
    Ending.REFUSED: 1008,
    Ending.SHUTDOWN: 1012,
    Ending.LEFT_BEHIND: 1013,
}
"""RFC 6455, 7.4, and IANA's registry of close codes."""

_ANSWERED_WITHIN = 5.0
"""Seconds for the command under way when nothing more is told."""

_OF_HANDSHAKE = (
    b"connection",
    b"upgrade",
    b"sec-websocket-",
    b"content-",
    b"transfer-encoding",
    b"accept",
    b"expect",
    b"tus-resumable",
    b"upload-",
    b"x-http-method-override",
    b"x-request-id",
)
"""How headers begin that are for the handshake alone, or that a command brings itself."""


class Sockets:
    """Serves WebSockets; see the rules above.

    Args:
        services: What the engine works with.
        settings: How requests are read and answered.
        frame: What every request has.
        events: What happens to uploads.
        terminate: Answers a `DELETE`.
    """

    def __init__(
        self,
        services: Services,
        settings: HttpSettings,
        frame: Frame,
        events: Events,
        terminate: Callable[[Exchange, str], Awaitable[None]],
    ) -> None:
        self._services = services
        self._settings = settings
        self._frame = frame
        self._events = events
        self._terminate = terminate

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, base_path: str, upload_id: str | None
    ) -> None:
        """Serves one connection.

        Args:
            scope: Of an ASGI `websocket` connection.
            receive: Likewise.
            send: Likewise.
            base_path: The path, as in the URL, that uploads lie under, with a slash at its end.
            upload_id: Of the upload to listen to, None for all that are there.
        """
        connection = _Connection(scope, receive, send)
        await receive()  # `websocket.connect`, before which nothing may be sent
        serve = partial(self._serve, connection, base_path, upload_id)
        asked = _as_request(scope)
        await self._frame.run(asked, receive, connection.refuse, serve, upload_id, NO_STORE)

    async def _serve(
        self, connection: "_Connection", base_path: str, upload_id: str | None, exchange: Exchange
    ) -> None:
        self._check_origin(exchange)
        if upload_id is not None and not abnf.UPLOAD_ID.fullmatch(upload_id):
            raise UploadNotFound(upload_id)
        audience = audience_for(self._frame, exchange, base_path, upload_id)
        async with self._events.listen(audience) as telling:
            await connection.accept(exchange)
            async with asyncio.TaskGroup() as group:
                commands = _Commands(self, connection, exchange, base_path, upload_id)
                obeying = group.create_task(commands.obey(telling.end))
                async for batch in telling.batches():
                    for event in batch:
                        await connection.send(_text(event))
                with anyio.move_on_after(_ANSWERED_WITHIN):
                    await commands.settle()
                await connection.close(telling.ending)
                obeying.cancel()

    def _check_origin(self, exchange: Exchange) -> None:
        """RFC 6455, 10.2: a server that is not for every page "SHOULD verify" the origin."""
        origin = exchange.headers.first("Origin")
        if origin is None or self._settings.cors.allows(origin):
            return
        own = self._frame.callers.origin(exchange.scope, exchange.headers)
        if origin.lower() != f"{own.scheme}://{own.host}".lower():
            raise NotAllowed("pages of this origin may not connect; see --cors-allow-origin")

    async def carry_out(
        self, handshake: Exchange, wish: "_Wish | InvalidQuestion", base_path: str
    ) -> Exchange:
        """Does what a message asks for, as a request of its own, which has ended then."""
        ended: list[Exchange] = []

        async def serve(exchange: Exchange) -> None:
            ended.append(exchange)
            if isinstance(wish, InvalidQuestion):
                raise wish
            if wish.method == "DELETE":
                await self._terminate(exchange, base_path)
            else:
                await control(self._services, self._frame, exchange, base_path)

        method, upload_id, body = "PUT", "", b""
        if not isinstance(wish, InvalidQuestion):
            method, upload_id, body = wish
        asked = _as_command(handshake.scope, method, base_path + upload_id, body)
        await self._frame.run(asked, _receive(body), _drop, serve, upload_id)
        return ended[0]

    async def tell_of(self, exchange: Exchange, base_path: str) -> dict[str, object] | None:
        """The upload of a command, as it is now; None if nothing is known of it any more."""
        upload = await self._services.load(exchange.upload_id)
        show = self._frame.callers.show_for(exchange.scope, exchange.headers, base_path)
        return None if upload is None else show(upload)


class _Commands:
    """Those of one connection."""

    def __init__(
        self,
        sockets: Sockets,
        connection: "_Connection",
        handshake: Exchange,
        base_path: str,
        upload_id: str | None,
    ) -> None:
        self._sockets = sockets
        self._connection = connection
        self._handshake = handshake
        self._base_path = base_path
        self._upload_id = upload_id
        self._obeying = asyncio.Lock()

    async def obey(self, gone: Callable[[], None]) -> None:
        """Does what the client says, until it goes away."""
        while (message := await self._connection.hear()) is not None:
            async with self._obeying:
                await self._connection.send(await self._answer(message))
        gone()

    async def settle(self) -> None:
        """Waits for the command under way."""
        async with self._obeying:
            return

    async def _answer(self, message: str | bytes) -> str:
        sockets, ref = self._sockets, None
        try:
            given = _parse(message)
            ref = given.get("ref")
            wish: _Wish | InvalidQuestion = _find_wish(given, self._upload_id)
        except InvalidQuestion as unreadable:
            wish = unreadable
        exchange = await sockets.carry_out(self._handshake, wish, self._base_path)
        if exchange.refusal is not None:
            return json.dumps({"event": "error", "ref": ref, "data": exchange.refusal._asdict()})
        upload = await sockets.tell_of(exchange, self._base_path)
        return json.dumps({"event": "done", "ref": ref, "data": upload})


class _Connection:
    """Sends and receives, also when the client has gone: then nothing is sent any more."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._sending = asyncio.Lock()
        self._is_over = False

    async def refuse(self, message: Message) -> None:
        """Passes the answer to a handshake on, which is not followed by a connection."""
        if "websocket.http.response" in (self._scope.get("extensions") or {}):
            await self._pass_on({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await self._pass_on({"type": "websocket.close"})

    async def accept(self, exchange: Exchange) -> None:
        """Lets the client in."""
        exchange.status, exchange.is_stream = 101, True
        chosen = PROTOCOL if PROTOCOL in self._scope.get("subprotocols", ()) else None
        headers = [(b"x-request-id", exchange.request_id.encode())]
        await self._pass_on({"type": "websocket.accept", "subprotocol": chosen, "headers": headers})

    async def send(self, text: str) -> None:
        """Sends a message; waits for a client that reads slowly."""
        async with self._sending:
            await self._pass_on({"type": "websocket.send", "text": text})

    async def close(self, ending: Ending) -> None:
        """Says why nothing more comes."""
        async with self._sending:
            await self._pass_on(
                {"type": "websocket.close", "code": _CODES[ending], "reason": ending.value}
            )
            self._is_over = True

    async def hear(self) -> str | bytes | None:
        """The next message, None if the client has gone."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._is_over = True
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def _pass_on(self, message: Message) -> None:
        if self._is_over:
            return
        try:
            await self._send(message)
        except OSError:  # ASGI, HTTP & WebSocket, 2.4: "if send is called on a closed connection"
            self._is_over = True


class _Wish(NamedTuple):
    """A command, as the request that it is."""

    method: str
    upload_id: str
    body: bytes


def _parse(message: str | bytes) -> dict[str, object]:
    if isinstance(message, bytes):
        raise InvalidQuestion("send text, and no bytes")
    if len(message.encode("utf-8", "surrogatepass")) > LONGEST:
        raise InvalidQuestion(f"the message is longer than {LONGEST} bytes")
    try:
        given = json.loads(message)
        json.dumps(given, allow_nan=False)  # it goes back
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidQuestion('send a JSON object, such as {"command": "pause"}')
    return given


def _find_wish(given: dict[str, object], listens_to: str | None) -> _Wish:
    command, upload_id = given.get("command"), given.get("upload", listens_to)
    known = {"command", "upload", "ref"} | ({"max_speed"} if command == "speed" else set())
    if unknown := sorted({*given} - known):
        raise InvalidQuestion(f"{unknown[0][:50]!r} is nothing that this command has")
    if not isinstance(upload_id, str) or not abnf.UPLOAD_ID.fullmatch(upload_id):
        raise InvalidQuestion("say which upload, by its id")
    match command:
        case "terminate":
            return _Wish("DELETE", upload_id, b"")
        case "pause" | "resume":
            wanted: dict[str, object] = {"paused": command == "pause"}
        case "speed":
            wanted = {name: given[name] for name in ("max_speed",) if name in given}
        case _:
            raise InvalidQuestion("command is pause, resume, terminate or speed")
    return _Wish("PUT", upload_id, json.dumps(wanted).encode())


def _text(event: Event) -> str:
    named = f'"event": {json.dumps(event.name)}, "event_id": {json.dumps(event.id)}'
    return f'{{{named}, "data": {event.data}}}'


def _as_request(scope: Scope) -> Scope:
    """The handshake as the `GET` that it is, with its token where other requests have it."""
    headers = [
        (name, value) for name, value in scope["headers"] if name != b"sec-websocket-protocol"
    ]
    token = _find_token(scope.get("subprotocols", ()))
    if token is not None and all(name != b"authorization" for name, _ in headers):
        headers.append((b"authorization", b"Bearer " + token))
    return {
        **scope,
        "type": "http",
        "method": "GET",
        "scheme": "https" if scope.get("scheme") == "wss" else "http",
        "headers": headers,
        "extensions": {},
    }


def _find_token(subprotocols: list[str]) -> bytes | None:
    """The token that a page has sent; an empty one, which nobody has, if it cannot be read."""
    for offered in subprotocols:
        if offered.startswith(_BEARER):
            encoded = offered.removeprefix(_BEARER)
            try:
                token = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
            except (binascii.Error, ValueError):
                return b""
            return token if token.isascii() and token.decode().isprintable() else b""
    return None


def _as_command(handshake: Scope, method: str, path: str, body: bytes) -> Scope:
    headers = [
        (name, value)
        for name, value in handshake["headers"]
        if not name.lower().startswith(_OF_HANDSHAKE)
    ]
    headers += [(b"tus-resumable", TUS_VERSION.encode()), (b"content-type", b"application/json")]
    headers.append((b"content-length", b"%d" % len(body)))
    return {
        **handshake,
        "method": method,
        "path": path,
        "raw_path": quote(path).encode("ascii"),
        "headers": headers,
    }


def _receive(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def _drop(message: Message) -> None:
    """What a command is answered with is told in a message of its own."""
