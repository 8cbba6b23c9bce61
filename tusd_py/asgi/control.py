"""What somebody wants of an upload: the body of a `PUT`, and what it is answered with."""

import json

from tusd_py.asgi.frame import Frame
from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.shown import build_json
from tusd_py.body import EndedBy
from tusd_py.engine.control import set_max_speed, set_paused
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services
from tusd_py.protocol import abnf
from tusd_py.protocol.commands import Query
from tusd_py.protocol.errors import InvalidQuestion
from tusd_py.protocol.headers import parse_media_type
from tusd_py.protocol.upload import SLOWEST

LONGEST = 4096
"""Bytes of a body."""


async def control(services: Services, frame: Frame, exchange: Exchange, base_path: str) -> None:
    """Does what somebody wants of the upload `exchange.upload_id`, and answers with it.

    Raises:
        InvalidQuestion: It cannot be read.
        TusError: See `Frame.admit`, `set_paused` and `set_max_speed`.
    """
    upload_id = exchange.upload_id
    grant = await frame.admit(exchange, "control", upload_id)
    wish = _parse_wish(await _read(exchange))
    if services.recalls:
        await look_up(services, Query(upload_id=upload_id, grant=grant))
    if "paused" in wish:
        upload = await set_paused(services, upload_id, grant, paused=bool(wish["paused"]))
    if "max_speed" in wish:
        upload = await set_max_speed(services, upload_id, grant, wish["max_speed"])
    show = frame.callers.show_for(exchange.scope, exchange.headers, base_path)
    await exchange.respond(build_json(show(upload)))


async def _read(exchange: Exchange) -> bytes:
    """The body of a request, which is small."""
    if parse_media_type(exchange.headers.first("Content-Type")) != "application/json":
        # Also so that no page of another origin can send it without asking first.
        raise InvalidQuestion("send JSON, with 'Content-Type: application/json'")
    whole = exchange.body.whole()
    if whole is not None:
        return whole
    buffer, count = memoryview(bytearray(LONGEST + 1)), 0
    while came := await exchange.body.fill(buffer[count:]):
        count += came
    if count > LONGEST or exchange.body.ended_by is not EndedBy.END:
        raise InvalidQuestion(f"the body is longer than {LONGEST} bytes, or did not come whole")
    return bytes(buffer[:count])


def _parse_wish(body: bytes) -> dict[str, int | None]:
    """What somebody wants of an upload: `paused`, `max_speed`, or both of them."""
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError):
        wish = None
    if not isinstance(wish, dict) or not wish or wish.keys() - {"paused", "max_speed"}:
        raise InvalidQuestion('send {"paused": true or false, "max_speed": ...}, one or both')
    if not isinstance(wish.get("paused", False), bool):
        raise InvalidQuestion("paused is true or false")
    speed = wish.get("max_speed")
    if speed is not None and not (type(speed) is int and SLOWEST <= speed <= abnf.LARGEST_INTEGER):
        raise InvalidQuestion(
            f"max_speed is a whole number of bytes per second, {SLOWEST} or more, or null"
        )
    return wish
