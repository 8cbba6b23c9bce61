"""How quickly bytes are taken: of all uploads, of each client, and of each upload.

The rules:
- For each limit one number is kept: until when the bytes that were taken so far would have lasted
  at the allowed speed. It moves on before bytes are taken, and they wait for what it was; so they
  come in pieces, a part of a second each, in the order in which they were asked for.
- Where the number lies a moment in the past, a timer was late, and that is made good; where it lies
  further back, nobody wanted anything, and nothing was saved.
- What waits is a timer. No thread does, and no lock is held for it but that of the upload.
- Other processes on the same uploads take their share without asking: each tells the others ten
  times a second what was taken, and that counts as if it had been taken here.
- Nothing is done, and nothing kept, where no limit holds.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from typing import NamedTuple

from tusd_py.body import Body
from tusd_py.engine.talk import Talk
from tusd_py.hooks.events import HeldBack
from tusd_py.locks.interface import Peer
from tusd_py.protocol.commands import Append
from tusd_py.protocol.decide import Limits
from tusd_py.protocol.upload import Upload

_PIECE = 0.1
"""Seconds that a piece lasts at the allowed speed, if only one upload takes bytes."""

_LARGEST_PIECE = 256 << 10
_SMALLEST_PIECE = 512
_LATE = 0.2
"""Seconds by which the number may lie in the past."""

_TELL_EVERY = 0.1
_MOST_IN_MESSAGE = 200
_LONGEST_NAME = 128
_MANY = 4096
"""Limits, from which on it is looked for those that can be forgotten; likewise of wishes."""

_KNOWN_FOR = 60.0
"""Seconds for which a wish is kept, for appends that began before it was told."""

_SPENT = "spent"


class Bucket:
    """One limit; see the rules above.

    Args:
        rate: Bytes per second.
        now: Of a monotonic clock, as for all that follows.

    Attributes:
        users: Appends that it holds for.
        told: Bytes that others were not told of yet.
    """

    __slots__ = ("_until", "rate", "told", "users")

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.users = self.told = 0
        self._until = now

    @property
    def piece(self) -> int:
        """Bytes that may be taken at once."""
        alone = max(1, int(self.rate * _PIECE))
        shared = max(alone // max(1, self.users), min(alone, _SMALLEST_PIECE))
        return min(shared, _LARGEST_PIECE)

    def wait(self, now: float) -> float:
        """Seconds until the next bytes may be taken; 0 or less if they may now."""
        return self._until - now

    def spend(self, count: int, now: float) -> None:
        """Bytes were taken, or will be; below 0, they were not."""
        was_idle = count > 0 and self._until < now - _LATE
        self._until = (now if was_idle else self._until) + count / self.rate

    def change(self, rate: int, now: float) -> None:
        """Another speed is allowed from now on; what was taken too early counts on."""
        self._until = now + (self._until - now) * self.rate / rate
        self.rate = rate

    def may_go(self, now: float) -> bool:
        """Whether a new one would say the same."""
        return not self.users and not self.told and self._until < now - _LATE


class Share:
    """The limits that hold for an append; see `body.Throttle`.

    Args:
        names: Of the limits, with their speeds in bytes per second.
        speeds: Whose they are.
    """

    def __init__(self, names: dict[str, int], speeds: "Speeds") -> None:
        self._speeds = speeds
        self._of = {name: speeds.take(name, rate) for name, rate in names.items()}

    def reserve(self, wanted: int) -> tuple[int, float]:
        """See `Throttle.reserve`."""
        buckets, now = self._of.values(), self._speeds.clock()
        count = min(wanted, *(bucket.piece for bucket in buckets))
        seconds = max(bucket.wait(now) for bucket in buckets)
        self.spend(count)
        return count, seconds

    def spend(self, count: int) -> None:
        """See `Throttle.spend`."""
        now = self._speeds.clock()
        for name, bucket in self._of.items():
            bucket.spend(count, now)
            bucket.told += count
            self._speeds.spent(name, bucket)

    def waited(self, seconds: float) -> None:
        """See `Throttle.waited`."""
        self._speeds.held_back(seconds)

    def change(self, name: str, rate: int | None) -> bool:
        """Changes a limit, or ends it, None: whether any is left."""
        if rate is None:
            self._leave(name)
        elif name not in self._of:
            self._of[name] = self._speeds.take(name, rate)
        else:
            self._of[name].change(rate, self._speeds.clock())
        return bool(self._of)

    def leave(self) -> None:
        """Takes no more bytes."""
        for name in list(self._of):
            self._leave(name)

    def _leave(self, name: str) -> None:
        bucket = self._of.pop(name, None)
        if bucket is not None:
            bucket.users -= 1


class _Wish(NamedTuple):
    """A limit that somebody set for one upload, and when."""

    max_speed: int | None
    at: float


class Speeds:
    """The limits of one process; see the rules above.

    Args:
        talk: Where others are told what was taken here.
        observe: Told how long bytes were held back.
        clock: Seconds, monotonic.

    """

    def __init__(
        self,
        talk: Talk,
        observe: Callable[[HeldBack], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._waited = 0.0
        self._talk = talk
        self._observe = observe
        self._buckets: dict[str, Bucket] = {}
        self._many = _MANY
        self._shares: dict[str, Share] = {}
        self._wishes: dict[str, _Wish] = {}
        self._untold: dict[str, Bucket] = {}
        self._timer: asyncio.TimerHandle | None = None
        talk.hears[_SPENT] = self._heard

    @staticmethod
    def are_limited(limits: Limits, command: Append, upload: Upload) -> bool:
        """Whether the bytes of an append may have to wait."""
        return (
            limits.has_speeds
            or upload.max_speed is not None
            or (command.grant is not None and command.grant.max_speed is not None)
        )

    def begin(self, limits: Limits, command: Append, upload: Upload, body: Body) -> None:
        """Lets a body bring no more than is allowed; `end` ends that."""
        wish = self._wishes.get(upload.id)
        if wish is not None and wish.at > self.clock() - _KNOWN_FOR:
            # It was set when this append was let in, and not known of yet.
            upload = upload._replace(max_speed=wish.max_speed)
        if not self.are_limited(limits, command, upload):
            return
        grant = command.grant
        client = (grant.principal if grant is not None else "") or command.client
        names = {
            "all": limits.max_speed,
            _name(upload.id): limits.speed_of_upload(upload.max_speed),
        }
        if grant is not None and grant.max_speed_for:
            names[f"grant {grant.max_speed_for}"] = grant.max_speed
            grant = None
        if client:  # whoever has no name is nobody in particular
            names[_name_client(client)] = limits.speed_of_client(grant)
        found = {name: rate for name, rate in names.items() if rate is not None}
        if found:
            share = self._shares[upload.id] = Share(found, self)
            body.limit(share)

    def end(self, upload_id: str, body: Body) -> None:
        """The append of an upload has ended."""
        share = self._shares.pop(upload_id, None)
        if share is not None:
            body.limit(None)
            share.leave()

    def change(
        self, limits: Limits, upload_id: str, max_speed: int | None, body: Body | None
    ) -> None:
        """Somebody has set the limit of an upload.

        Args:
            limits: Of the server.
            upload_id: Whose.
            max_speed: Bytes per second, None for no limit.
            body: Of its append, None if none is under way here.
        """
        self._wishes.pop(upload_id, None)
        self._wishes[upload_id] = _Wish(max_speed, self.clock())
        if len(self._wishes) > _MANY:
            del self._wishes[next(iter(self._wishes))]
        rate = limits.speed_of_upload(max_speed)
        if body is None:
            return
        share = self._shares.get(upload_id)
        if share is None and rate is not None:
            share = self._shares[upload_id] = Share({_name(upload_id): rate}, self)
            body.limit(share)
        elif share is not None:
            is_left = share.change(_name(upload_id), rate)
            if not is_left:
                del self._shares[upload_id]
            body.limit(share if is_left else None)

    def take(self, name: str, rate: int) -> Bucket:
        """The bucket of a limit, for one more append."""
        bucket = self._find(name, rate)
        bucket.change(rate, self.clock())
        bucket.users += 1
        return bucket

    def spent(self, name: str, bucket: Bucket) -> None:
        """Lets the others know soon what was taken."""
        self._untold[name] = bucket
        self._tell_soon()

    def held_back(self, seconds: float) -> None:
        """Lets the observers know soon that bytes had to wait."""
        self._waited += seconds
        self._tell_soon()

    def _find(self, name: str, rate: int) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            now = self.clock()
            if len(self._buckets) >= self._many:
                kept = {name: each for name, each in self._buckets.items() if not each.may_go(now)}
                self._buckets, self._many = kept, max(_MANY, 2 * len(kept))
            bucket = self._buckets[name] = Bucket(rate, now)
        return bucket

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TELL_EVERY, self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._waited:
            self._observe(HeldBack(self._waited))
            self._waited = 0.0
        untold, self._untold = self._untold, {}
        spent = []
        for name, bucket in untold.items():
            if bucket.told:
                spent.append((name, bucket.rate, bucket.told))
                bucket.told = 0
        peers = [peer for peer in self._talk.all() if not peer.is_full] if spent else ()
        for start in range(0, len(spent), _MOST_IN_MESSAGE):
            text = json.dumps(spent[start : start + _MOST_IN_MESSAGE])
            for peer in peers:
                peer.tell(_SPENT, text)

    def _heard(self, peer: Peer, text: str) -> None:
        now = self.clock()
        for name, rate, count in json.loads(text):
            self._find(name, rate).spend(count, now)


def _name_client(client: str) -> str:
    # The name in a token has no bounds, and a message has.
    short = client if len(client) <= _LONGEST_NAME else hashlib.sha256(client.encode()).hexdigest()
    return f"client {short}"


def _name(upload_id: str) -> str:
    return f"upload {upload_id}"
