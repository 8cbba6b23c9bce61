"""What the processes that serve the same uploads tell each other, beside what locks need.

The rules:
- Nothing here says what is true: that is the state's. A message too few costs a moment.
- Each word is somebody's, who says here what is to be done when it is heard.
"""

from collections.abc import Callable, Iterable

from tusd_py.locks.interface import Peer, Peers


class Talk:
    """See the rules above.

    Args:
        peers: The other processes; None where there are none, or none can be reached.

    Attributes:
        hears: By word, what is called with whom to answer, and the text.
        on_met: Called for a process that was not known before.
        on_left: Called for one that has ended.
    """

    def __init__(self, peers: Peers | None = None) -> None:
        self.hears: dict[str, Callable[[Peer, str], None]] = {}
        self.on_met: list[Callable[[Peer], None]] = []
        self.on_left: list[Callable[[Peer], None]] = []
        self._peers = peers
        if peers is not None:
            peers.on_told, peers.on_met, peers.on_left = self._told, self._met, self._left

    def all(self) -> Iterable[Peer]:
        """The others."""
        return () if self._peers is None else self._peers.all()

    def _told(self, peer: Peer, word: str, text: str) -> None:
        # Of another release, say, whose words are not known here.
        hear = self.hears.get(word)
        if hear is not None:
            hear(peer, text)

    def _met(self, peer: Peer) -> None:
        for met in self.on_met:
            met(peer)

    def _left(self, peer: Peer) -> None:
        for left in self.on_left:
            left(peer)
