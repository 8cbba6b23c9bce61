"""How many uploads are open, of each client and in all: counted along, and anew now and then.

The rules:
- What this process does counts at once. What others on the same state do, and what expires, counts
  with the next count of the records (`keeper.tick`).
- An upload is open from its creation until it is complete, has failed, or is gone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tusd_py.protocol.decide import Limits
from tusd_py.protocol.upload import Upload

COUNT_EVERY = 10.0
"""Seconds."""


class OpenUploads:
    """The counts of one process; see the rules above.

    Attributes:
        counted_at: When the records were counted last, in seconds of the clock of the services.
    """

    def __init__(self) -> None:
        self.counted_at = 0.0
        self._in_all = 0
        self._of: dict[str, int] = {}

    def check(self, client: str, limits: Limits) -> None:
        """Whether a client may open one more.

        Raises:
            TooManyUploads: It has as many as it may, or all together have.
        """
        # Whoever has no name is nobody in particular.
        limits.check_open(self._of.get(client, 0) if client else 0, self._in_all)

    @contextmanager
    def place(self, client: str, limits: Limits) -> Iterator[None]:
        """Keeps a place for one that is to be opened in a `with` block.

        Raises:
            TooManyUploads: See `check`.
        """
        self.check(client, limits)
        self._add(client, 1)
        try:
            yield
        finally:
            self._add(client, -1)

    def opened(self, upload: Upload) -> None:
        """There is one more."""
        self._add(upload.made_by, 1)

    def closed(self, upload: Upload) -> None:
        """There is one less."""
        self._add(upload.made_by, -1)

    def counted(self, counts: Mapping[str, int], now: float) -> None:
        """Takes over what the records say: how many are open, by client."""
        self._of = dict(counts)
        self._in_all = sum(counts.values())
        self.counted_at = now

    def _add(self, client: str, change: int) -> None:
        self._in_all += change
        left = self._of.get(client, 0) + change
        if left:
            self._of[client] = left
        else:
            self._of.pop(client, None)
