"""What happens to uploads, for those who listen: the same, however it goes over the wire.

The rules:
- An event with an id is never missed by one who comes back with it; progress has none, and only its
  newest counts.
- One who cannot be told what was missed gets `ready`, and has to look anew.
- Whoever listens is asked again now and then who they are: a stream may last for days.
- A stream that has told of the end of its upload ends, and for whoever comes back to it there is
  nothing any more.
"""

import enum
import json
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from tusd_py.asgi.frame import Frame
from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.shown import Show
from tusd_py.engine.listing import find_one, owners_for
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services
from tusd_py.engine.watching import Listener, Told, Watching, topics_for
from tusd_py.protocol.commands import Query
from tusd_py.protocol.errors import ServerShutdown, TusError
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import GONE, Phase, Upload

HEARTBEAT = 15.0
"""Seconds without an event."""

_ASK_EVERY = 60.0

_ID = re.compile(r"([0-9a-f]{1,8})-([0-9]{1,18})")

Admit = Callable[[], Awaitable[Grant | None]]
"""Says what whoever listens is let in with, or refuses."""


class Event(NamedTuple):
    """One event.

    Attributes:
        name: Such as `progress`.
        id: For whoever comes back, None for what is not told again.
        data: JSON.
    """

    name: str
    id: str | None
    data: str


class Ending(enum.Enum):
    """Why nothing more comes."""

    DONE = "nothing more happens to the upload"
    SHUTDOWN = "the server ends; come back with the last event id"
    REFUSED = "you are not let in any more"
    LEFT_BEHIND = "events came faster than they were read; come back with the last event id"


class Audience(NamedTuple):
    """Who listens, and to what.

    Attributes:
        admit: Asked at the beginning, and again now and then.
        show: How an upload is told.
        upload_id: Of the upload to listen to, None for all that are there.
        heard: Id of the last event that was heard before, if there was one.
    """

    admit: Admit
    show: Show
    upload_id: str | None
    heard: str | None


class Telling:
    """What one who listens is told; `Events.listen` makes it.

    Args:
        events: Where it comes from.
        listener: Who gets it.
        audience: Who listens.

    Attributes:
        begun: The first events; None where none ever comes.
        ending: Why nothing more comes, as long as the client is there.
    """

    def __init__(self, events: "Events", listener: Listener, audience: Audience) -> None:
        self._events = events
        self._listener = listener
        self._audience = audience
        self.begun: list[Event] | None = None
        self._is_done = False
        self._is_refused = False

    def end(self) -> None:
        """Nobody listens any more."""
        self._listener.end()

    @property
    def ending(self) -> Ending:
        """See there."""
        if self._is_done:
            return Ending.DONE
        if self._is_refused:
            return Ending.REFUSED
        return Ending.SHUTDOWN if self._events.is_ending else Ending.LEFT_BEHIND

    async def begin(self) -> None:
        """Finds out what is to be told at first."""
        audience, listener = self._audience, self._listener
        is_over, self.begun = await self._events.begin(listener, audience)
        if is_over:
            self._is_done = True
            listener.end()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """What is told, some at a time, and nothing at each heartbeat; until nothing more comes."""
        events, asked_at = self.begun or [], time.monotonic()
        async for told in self._told():
            yield [*events, *[await self._events.event(each, self._audience.show) for each in told]]
            events = []
            if time.monotonic() - asked_at > _ASK_EVERY:
                asked_at = time.monotonic()
                if not await _is_let_in(self._audience.admit):
                    self._is_refused = True
                    return

    async def _told(self) -> AsyncIterator[list[Told]]:
        listener = self._listener
        yield listener.take()
        while not listener.is_over:
            await listener.wait(HEARTBEAT)
            told = listener.take()
            self._is_done |= any(map(listener.ends_with, told))
            yield told
            if self._is_done:
                return


class Events:
    """Tells what happens; see the rules above.

    Args:
        services: What the engine works with.
        watching: Those who listen.

    Attributes:
        watching: Likewise.
    """

    def __init__(self, services: Services, watching: Watching) -> None:
        self._services = services
        self.watching = watching
        self._instance = ""

    @property
    def is_ending(self) -> bool:
        """Whether the server is about to end."""
        return self._services.is_ending

    @asynccontextmanager
    async def listen(self, audience: Audience) -> AsyncIterator[Telling]:
        """Lets somebody listen for the length of an `async with`.

        Raises:
            TusError: They are not let in, there is no such upload, or the server ends.
        """
        grant = await audience.admit()
        if self.is_ending:
            raise ServerShutdown
        upload_id = audience.upload_id
        if upload_id is not None:
            query = Query(upload_id=upload_id, grant=grant)
            if self._services.recalls:
                await look_up(self._services, query)
            await find_one(self._services, query)
        listener = await self.watching.listen(topics_for(owners_for(grant), upload_id))
        try:
            telling = Telling(self, listener, audience)
            await telling.begin()
            yield telling
        finally:
            self.watching.leave(listener)

    async def begin(
        self, listener: Listener, audience: Audience
    ) -> tuple[bool, list[Event] | None]:
        """Whether nothing more comes behind the first events, and these; None for none ever."""
        upload_id = audience.upload_id
        upload = None if upload_id is None else await self._services.load(upload_id)
        is_over = upload is not None and _is_over(upload)
        heard = await self._number(audience.heard)
        missed = None if heard is None else await self.watching.missed(heard, listener)
        if missed is None:
            data: dict[str, object] = {}
            if upload is not None:
                data["upload"] = audience.show(upload)
            return is_over, [Event("ready", await self._id(listener.since), json.dumps(data))]
        events = [await self.event(told, audience.show) for told in missed]
        return is_over, None if is_over and not events else events

    async def event(self, told: Told, show: Show) -> Event:
        """What has happened, as it is told."""
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


def audience_for(
    frame: Frame, exchange: Exchange, base_path: str, upload_id: str | None
) -> Audience:
    """Whoever asks for events.

    Args:
        frame: What every request has.
        exchange: The request.
        base_path: The path, as in the URL, that uploads lie under, with a slash at its end.
        upload_id: Of the upload to listen to, None for all that are there.
    """
    query = urllib.parse.parse_qs(exchange.scope.get("query_string", b"").decode("latin-1"))
    return Audience(
        admit=partial(frame.admit, exchange, "watch", upload_id),
        show=frame.callers.show_for(exchange.scope, exchange.headers, base_path),
        upload_id=upload_id,
        heard=exchange.headers.first("Last-Event-ID") or query.get("last_event_id", [None])[0],
    )


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
