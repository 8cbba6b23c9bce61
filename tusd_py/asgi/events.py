"""What happens to uploads, as Server-Sent Events (HTML Standard, 9.2).

The rules:
- An event with an id is never missed by one who comes back with `Last-Event-ID`; progress has none,
  and only its newest counts.
- One who cannot be told what was missed gets `ready`, and has to look anew.
- Whoever listens is asked again now and then who they are: a stream may last for days.
- A stream that has told of the end of its upload ends, and whoever comes back to it gets 204.
"""

import asyncio
import json
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.shown import Show
from tusd_py.engine.listing import find_one, owners_for
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services
from tusd_py.engine.watching import Listener, Told, Watching, topics_for
from tusd_py.protocol.commands import Query
from tusd_py.protocol.errors import ServerShutdown, TusError
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.tus1 import Response
from tusd_py.protocol.upload import GONE, Phase, Upload

_RETRY = 1000
"""Milliseconds after which a client comes back."""

_HEARTBEAT = 15.0
_ASK_EVERY = 60.0

_ID = re.compile(r"([0-9a-f]{1,8})-([0-9]{1,18})")

Admit = Callable[[], Awaitable[Grant | None]]
"""Says what whoever listens is let in with, or refuses."""


class Event(NamedTuple):
    """One event.

    Attributes:
        name: Such as `progress`.
        id: For `Last-Event-ID`, None for what is not told again.
        data: JSON.
    """

    name: str
    id: str | None
    data: str

    def frame(self) -> bytes:
        """As it goes over the wire."""
        number = "" if self.id is None else f"id: {self.id}\n"
        return f"event: {self.name}\n{number}data: {self.data}\n\n".encode()


class Events:
    """Tells what happens; see the rules above.

    Args:
        services: What the engine works with.
        watching: Those who listen.
    """

    def __init__(self, services: Services, watching: Watching) -> None:
        self._services = services
        self._watching = watching
        self._instance = ""

    async def stream(
        self, exchange: Exchange, admit: Admit, show: Show, upload_id: str | None
    ) -> None:
        """Answers a `GET` with a stream of events.

        Args:
            exchange: The request.
            admit: Asked now, and again now and then.
            show: How an upload is told.
            upload_id: Of the upload to listen to, None for all that are there.
        """
        grant = await admit()
        if self._services.is_ending:
            raise ServerShutdown
        if upload_id is not None:
            query = Query(upload_id=upload_id, grant=grant)
            if self._services.recalls:
                await look_up(self._services, query)
            await find_one(self._services, query)
        listener = await self._watching.listen(topics_for(owners_for(grant), upload_id))
        leaving = asyncio.get_running_loop().create_task(_until_gone(exchange, listener))
        try:
            begun = await self._begin(exchange, listener, show, upload_id)
            if begun is None:
                await exchange.respond(Response(204))
                return
            await self._send(exchange, begun, listener, admit, show)
        finally:
            self._watching.leave(listener)
            leaving.cancel()

    async def _begin(
        self, exchange: Exchange, listener: Listener, show: Show, upload_id: str | None
    ) -> list[Event] | None:
        """The first events; None where none ever comes."""
        upload = None if upload_id is None else await self._services.load(upload_id)
        is_over = upload is not None and _is_over(upload)
        heard = await self._number(_last_heard(exchange))
        missed = None if heard is None else await self._watching.missed(heard, listener)
        if missed is None:
            data: dict[str, object] = {} if upload is None else {"upload": show(upload)}
            events = [Event("ready", await self._id(listener.since), json.dumps(data))]
        else:
            events = [await self._event(told, show) for told in missed]
            if is_over and not events:
                return None
        if is_over:
            listener.end()
        return events

    async def _send(
        self,
        exchange: Exchange,
        begun: list[Event],
        listener: Listener,
        admit: Admit,
        show: Show,
    ) -> None:
        headers = [
            (b"Content-Type", b"text/event-stream"),
            (b"X-Accel-Buffering", b"no"),  # nginx hands each event on at once
        ]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        frames = [f"retry: {_RETRY}\n\n".encode(), *(event.frame() for event in begun)]
        asked_at = time.monotonic()
        async for told in self._told(listener):
            if frames or told:
                frames += [(await self._event(each, show)).frame() for each in told]
            else:
                frames = [b":\n\n"]
            body = b"".join(frames)
            await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
            frames = []
            if time.monotonic() - asked_at > _ASK_EVERY:
                asked_at = time.monotonic()
                if not await _is_let_in(admit):
                    break
        await exchange.send({"type": "http.response.body", "body": b"".join(frames)})

    async def _told(self, listener: Listener) -> AsyncIterator[list[Told]]:
        """What comes, some at a time, and nothing at each heartbeat; until nothing more does."""
        yield listener.take()
        while not listener.is_over:
            await listener.wait(_HEARTBEAT)
            told = listener.take()
            yield told
            if any(map(listener.ends_with, told)):
                return

    async def _event(self, told: Told, show: Show) -> Event:
        if told.number is None:
            return Event(told.kind, None, told.text)
        upload = None if told.upload is None else show(told.upload)
        data = {"id": told.upload_id, "at": told.at, "upload": upload}
        return Event(told.kind, await self._id(told.number), json.dumps(data))

    async def _id(self, number: int) -> str:
        """Of the database too: another one counts anew."""
        if not self._instance:
            self._instance = (await self._services.state.instance() or "")[:8]
        return f"{self._instance}-{number}"

    async def _number(self, event_id: str | None) -> int | None:
        """The reverse of `_id`; None if it was given elsewhere."""
        found = _ID.fullmatch(event_id or "")
        if found is None or await self._id(int(found[2])) != event_id:
            return None
        return int(found[2])


async def _is_let_in(admit: Admit) -> bool:
    try:
        await admit()
    except TusError:
        return False
    return True


def _is_over(upload: Upload) -> bool:
    """Whether nothing more happens to it that a stream would tell of."""
    is_complete = upload.phase is Phase.COMPLETE and not upload.is_partial
    return is_complete or upload.phase is Phase.FAILED or upload.phase in GONE


def _last_heard(exchange: Exchange) -> str | None:
    query = urllib.parse.parse_qs(exchange.scope.get("query_string", b"").decode("latin-1"))
    return exchange.headers.first("Last-Event-ID") or query.get("last_event_id", [None])[0]


async def _until_gone(exchange: Exchange, listener: Listener) -> None:
    """Lets the stream end when the client has."""
    while (await exchange.receive())["type"] != "http.disconnect":
        continue
    listener.end()
