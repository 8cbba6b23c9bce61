"""How much room there is for bytes: looked at once a second, however many requests ask."""

import time
from collections.abc import Callable

_LOOK_EVERY = 1.0
"""Seconds."""


class Room:
    """What storage has free, as it was a moment ago.

    What was accepted since then is not taken off: most of it never comes at once, and a body under
    way is looked at again every second (`keeper.tick`).

    Args:
        look: Tells how many bytes are free.
    """

    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._free = 0
        self._looks_at = 0.0

    def free(self) -> int:
        """Bytes.

        Raises:
            StorageFailed: Storage cannot tell.
        """
        now = time.monotonic()
        if now >= self._looks_at:
            self._free = self._look()
            self._looks_at = now + _LOOK_EVERY
        return self._free
