"""How often each client may ask: so many requests a second, and ten seconds' worth at once.

The rules:
- Of each client one number is kept: until when what it has asked for so far would have lasted at
  the allowed rate. It may lie ten seconds ahead of the present.
- What lies in the past says nothing, and is forgotten when many numbers have come together.
- Whoever has no name is nobody in particular, and has no limit: who comes by a Unix socket.
"""

_AHEAD = 10.0
"""Seconds that a client may be ahead."""

_MANY = 4096
"""Clients, from which on it is looked for those that can be forgotten."""


class Rates:
    """The rates of all clients of one process.

    Args:
        per_second: Requests of one client.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._step = 1 / per_second
        self._until: dict[str, float] = {}
        self._many = _MANY

    def wait(self, client: str, now: float) -> float:
        """Seconds until the client may ask again, 0 if it may now."""
        return max(0.0, self._until.get(client, 0.0) - now - _AHEAD)

    def add(self, client: str, now: float) -> None:
        """Counts a request."""
        if not client:
            return
        self._until[client] = max(self._until.get(client, 0.0), now) + self._step
        if len(self._until) > self._many:
            self._until = {name: until for name, until in self._until.items() if until > now}
            self._many = max(_MANY, 2 * len(self._until))
