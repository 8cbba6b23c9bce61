"""Events as a stream of Server-Sent Events (HTML Standard, 9.2)."""

import asyncio

from tusd_py.asgi.events import Audience, Event, Events, Telling
from tusd_py.asgi.responding import Exchange
from tusd_py.protocol.tus1 import Response

_RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a client comes back."""

_SILENCE = b":\n\n"

_HEADERS = [
    (b"Content-Type", b"text/event-stream"),
    (b"X-Accel-Buffering", b"no"),  # nginx hands each event on at once
]


async def stream(exchange: Exchange, events: Events, audience: Audience) -> None:
    """Answers a `GET` with a stream of events; with 204 where none ever comes.

    Args:
        exchange: The request.
        events: Where they come from.
        audience: Who listens.

    Raises:
        TusError: See `Events.listen`.
    """
    async with events.listen(audience) as telling:
        if telling.begun is None:
            await exchange.respond(Response(204))
            return
        exchange.is_stream = True
        leaving = asyncio.create_task(_until_gone(exchange, telling))
        try:
            await exchange.send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            first = _RETRY
            async for batch in telling.batches():
                body = (first + b"".join(map(_frame, batch))) or _SILENCE
                await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
                first = b""
            await exchange.send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()


def _frame(event: Event) -> bytes:
    number = "" if event.id is None else f"id: {event.id}\n"
    return f"event: {event.name}\n{number}data: {event.data}\n\n".encode()


async def _until_gone(exchange: Exchange, telling: Telling) -> None:
    """Lets the stream end when the client has."""
    while (await exchange.receive())["type"] != "http.disconnect":
        continue
    telling.end()
