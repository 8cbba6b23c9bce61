"""Small bodies that are handed over in one piece, as `tusd-py serve` does."""

from collections.abc import MutableMapping
from typing import Any

from tests.asgi.in_process import App
from tusd_py.asgi.body import ReceiveBody
from tusd_py.body import EndedBy

_SMALL = 64 << 10


class WholeBody(ReceiveBody):
    """A body whose bytes have come together with its head."""

    def __init__(self, receive: Any, data: bytes, idle_timeout: float, slowest_speed: float):
        super().__init__(receive, idle_timeout=idle_timeout, slowest_speed=slowest_speed)
        self._data = data

    def whole(self) -> bytes | None:
        if self.is_begun:
            return None
        self.is_begun, self._ended = True, EndedBy.END
        return self._data


def with_whole_bodies(app: App) -> App:
    """The application, for which the bodies of small requests are there at once."""

    async def serve(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        length = headers.get(b"content-length", b"x")
        if not length.isdigit() or int(length) > _SMALL:
            await app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        if messages[-1]["type"] == "http.disconnect":
            await app(scope, _replayed(messages, receive), send)
            return
        data = b"".join(message.get("body", b"") for message in messages)

        def make(idle_timeout: float, slowest_speed: float) -> WholeBody:
            again = _replayed(messages, receive)
            return WholeBody(again, data, idle_timeout, slowest_speed)

        await app({**scope, "extensions": {"tusd_py.body": make}}, receive, send)

    return serve


def _replayed(messages: list[MutableMapping[str, Any]], receive: Any) -> Any:
    waiting = list(messages)

    async def again() -> MutableMapping[str, Any]:
        return waiting.pop(0) if waiting else await receive()

    return again
