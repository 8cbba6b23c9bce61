"""What processes on one folder of locks tell each other: who wants a lock, and that one is free.

The rules:
- Only the kernel says who holds a lock (`locks.host`). What is said here asks a holder to stop, or
  tells somebody to try again: a message too few costs time, one too many an attempt; never bytes.
- A process listens in the folder before it takes its first lock. Its socket gets the name that
  others look for when it listens already, and no name is used twice: so one that refuses belongs
  to a process that is dead, or dies just now, and is removed.
- Whoever tries a lock and fails looks into the folder *after* that, and says `wanted` to all who
  do not know it yet. So the holder is among those who know, or has let go meanwhile.
- Who hears `wanted` remembers it until `done`, which says that the lock was had or is not wanted
  any more. A holder is asked to stop, and at its end every asker hears `free`, in the order of
  their asking. Who does not hold it says `free` at once, since it may have let go a moment before;
  and when it gets the lock later, it knows that others wait. `done` comes by another connection
  than `free`, but was sent before the lock was let go: who gets it has only to read what is there.
- A connection, and not datagrams: messages keep their order, what finds no room waits in the
  sender until there is some, and the end of a process is an event for all whom it was connected
  to. The kernel closes a dying process's descriptors one after another, perhaps this connection
  before the lock, so a death is looked at again a few times, in growing pauses.
- Whatever else processes tell each other goes the same way, in words of their own; see `Peers`.
- A process that is stopped answers nothing, and keeps what it holds. Messages for it that are out
  of date before there was room for them are taken back, so that few are kept.
"""

import asyncio
import errno
import logging
import os
import secrets
import socket
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

from tusd_py.locks.interface import Peer

logger = logging.getLogger("tusd_py")

_SUFFIX = ".sock"
_LONGEST = 65_536
_BACKLOG = 128
_FIRST_PAUSE = 0.005
_LAST_PAUSE = 0.64
"""Seconds between looks at what a dying process held; each is twice as long as the one before."""
_REST = 1.0
"""Seconds in which no connection is taken, after descriptors were short."""

_WANTED, _DONE, _FREE, _NOTICE = b"wanted", b"done", b"free", b"notice"


class Neighbours:
    """The other processes that have locks in the same folder.

    All of it happens on the event loop that `open` was called on. Where it was not called, there is
    nobody to ask.

    Args:
        directory: Of the lock files.

    Attributes:
        on_wanted: Called with a key when a neighbour wants it: whether it is held here.
        on_news: Called with a key when it is worth another try.
        on_notice: Called when a neighbour gave notice of something that all may want to know.
        on_told: See `Peers`.
        on_met: Likewise.
        on_left: Likewise.
    """

    def __init__(self, directory: Path) -> None:
        self.on_wanted: Callable[[str], bool] = lambda key: False
        self.on_news: Callable[[str], None] = lambda key: None
        self.on_notice: Callable[[], None] = lambda: None
        self.on_told: Callable[[Peer, str, str], None] = lambda peer, word, text: None
        self.on_met: Callable[[Peer], None] = lambda peer: None
        self.on_left: Callable[[Peer], None] = lambda peer: None
        self._directory = directory
        self._folder = -1
        self._name = ""
        self._listening: socket.socket | None = None
        self._asked: dict[str, _Link] = {}
        self._askers: dict[_Link, None] = {}
        self._told: dict[str, dict[_Link, None]] = {}
        self._wanted: dict[str, dict[_Link, None]] = {}
        self._dying: set[str] = set()
        _instances.add(self)

    def open(self) -> None:
        """Listens for the others, and meets those who are there; before the first lock is taken.

        Raises:
            OSError: The folder cannot hold a socket, or descriptors are short.
        """
        loop = asyncio.get_running_loop()
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._folder = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fchmod(listening.fileno(), 0o600)
            listening.setblocking(False)
            listening.bind(self._path(f"{name}.new"))
            listening.listen(_BACKLOG)
            os.rename(f"{name}.new", name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            listening.close()
            self._close_folder()
            raise
        self._name, self._listening = name, listening
        loop.add_reader(listening.fileno(), self._accept)
        self._connect_to_all()

    def close(self) -> None:
        """Tells nobody anything any more; what was held has been let go before. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        self._unlink(self._name)
        asyncio.get_running_loop().remove_reader(listening.fileno())
        listening.close()
        for link in (*self._asked.values(), *self._askers):
            link.close()
        waiting = list(self._told)
        self._forget()
        for key in waiting:
            self.on_news(key)

    def ask(self, key: str) -> bool:
        """After a try that failed: lets all neighbours know that a lock is wanted.

        Returns:
            Whether there was one that did not know it yet, so that another try is due.
        """
        links = self._connect_to_all()
        told = self._told.setdefault(key, {})
        fresh = [link for link in links if link not in told]
        for link in fresh:
            told[link] = None
            link.send(_WANTED, key)
        return bool(fresh)

    def may_tell(self, key: str) -> bool:
        """Whether there is somebody who may bring news of a lock that is wanted."""
        return bool(self._told.get(key) or self._dying)

    def withdraw(self, key: str) -> None:
        """A lock that was wanted was had, or is not wanted any more."""
        for link in self._told.pop(key, ()):
            if not link.take_back(_WANTED, key):
                link.send(_DONE, key)

    def want(self, key: str) -> bool:
        """Whether a neighbour waits for a lock, by all that was said until now."""
        for link in list(self._wanted.get(key, ())):
            link.read()
        return key in self._wanted

    def free(self, key: str) -> None:
        """A lock that was held here is free."""
        for link in self._wanted.get(key, ()):
            link.send(_FREE, key)

    def give_notice(self) -> None:
        """Calls `on_notice` of all neighbours."""
        for link in self._connect_to_all():
            link.send(_NOTICE)

    def all(self) -> Iterable["Peer"]:
        """See `Peers.all`."""
        return self._connect_to_all()

    def after_fork(self) -> None:
        """In a child: closes what it inherits, and leaves the parent's loop and names alone."""
        if self._listening is not None:
            self._listening.close()
        for link in (*self._asked.values(), *self._askers):
            link.forget()
        self._listening = None
        self._forget()

    def _forget(self) -> None:
        self._asked, self._askers = {}, {}
        self._told, self._wanted = {}, {}
        self._dying = set()
        self._close_folder()

    def _close_folder(self) -> None:
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)

    def _path(self, name: str) -> str:
        # The name of a socket has room for 107 bytes, and the folder's may be longer.
        return f"/proc/self/fd/{self._folder}/{name}"

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("%s cannot be removed: %s", self._directory / name, error.strerror)

    def _connect_to_all(self) -> Iterable["_Link"]:
        if self._listening is None:
            return ()
        try:
            names = os.listdir(self._path(""))
        except OSError as error:
            logger.warning("neighbours cannot be looked for: %s", error.strerror)
            names = []
        for name in names:
            is_other = name.endswith(_SUFFIX) and name != self._name
            if is_other and name not in self._asked and name not in self._dying:
                self._connect(name)
        return list(self._asked.values())

    def _connect(self, name: str) -> None:
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            logger.warning("a neighbour cannot be asked for a lock: %s", error.strerror)
            return
        try:
            connection.setblocking(False)
            connection.connect(self._path(name))
        except OSError as error:
            connection.close()
            if error.errno == errno.ECONNREFUSED:
                self._dying.add(name)
                asyncio.get_running_loop().call_later(_FIRST_PAUSE, self._look_again, name)
            elif error.errno != errno.ENOENT:  # one that ended in order
                logger.warning("neighbour %s cannot be asked for a lock: %s", name, error.strerror)
            return
        self._asked[name] = link = _Link(connection, self._heard, self._asked_ended)
        self.on_met(link)

    def _accept(self) -> None:
        assert self._listening is not None, "it is what was readable"
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # It stays readable as long as there is no room for it.
            logger.warning("a neighbour cannot be heard: %s", error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listening.fileno())
            loop.call_later(_REST, self._accept_again)
            return
        connection.setblocking(False)
        self._askers[_Link(connection, self._asked_by, self._asker_ended)] = None
        self._connect_to_all()

    def _accept_again(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)

    def _asked_by(self, link: "_Link", word: bytes, key: str) -> None:
        """What somebody says who connected to us."""
        if word == _WANTED:
            self._wanted.setdefault(key, {})[link] = None
            if not self.on_wanted(key):
                link.send(_FREE, key)
        elif word == _DONE:
            self._wants_no_more(link, key)
        elif word == _NOTICE:
            self.on_notice()
        else:
            self.on_told(link, word.decode(), key)

    def _asker_ended(self, link: "_Link") -> None:
        self._askers.pop(link, None)
        self.on_left(link)
        for key in [key for key, links in self._wanted.items() if link in links]:
            self._wants_no_more(link, key)

    def _wants_no_more(self, link: "_Link", key: str) -> None:
        links = self._wanted.get(key, {})
        links.pop(link, None)
        if not links:
            self._wanted.pop(key, None)
        # It has the lock now, and is to be asked, or what was let go for it is there for others.
        self.on_news(key)

    def _heard(self, link: "_Link", word: bytes, key: str) -> None:
        """What somebody says whom we asked."""
        if word != _FREE:
            self.on_told(link, word.decode(), key)
        elif key in self._told:
            self.on_news(key)

    def _asked_ended(self, link: "_Link") -> None:
        self.on_left(link)
        names = [name for name, asked in self._asked.items() if asked is link]
        for links in self._told.values():
            links.pop(link, None)
        for name in names:
            del self._asked[name]
            self._look_again(name)

    def _look_again(self, name: str, pause: float = _FIRST_PAUSE) -> None:
        """A neighbour is dead, or about to be: what it held comes free within moments."""
        if self._listening is None:
            return
        self._dying.add(name)
        if pause > _LAST_PAUSE:
            self._dying.discard(name)
            self._unlink(name)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(pause, self._look_again, name, pause * 2)
        for key in list(self._told):
            self.on_news(key)


class _Link:
    """A connection to a neighbour.

    Args:
        connection: Its socket, which is this one's from now on.
        on_message: Called with this, a word, and a key.
        on_end: Called with this when the other side has ended.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_message: Callable[["_Link", bytes, str], None],
        on_end: Callable[["_Link"], None],
    ) -> None:
        self._connection = connection
        self._on_message = on_message
        self._on_end = on_end
        self._unsent: dict[bytes, None] = {}
        asyncio.get_running_loop().add_reader(connection.fileno(), self.read)

    @property
    def is_full(self) -> bool:
        """See `Peer.is_full`."""
        return bool(self._unsent)

    def tell(self, word: str, text: str = "") -> None:
        """See `Peer.tell`."""
        self.send(word.encode(), text)

    def send(self, word: bytes, key: str = "") -> None:
        """Sends a message, now or when there is room for it."""
        message = word + b" " + key.encode()
        if not self._unsent and self._sent(message):
            return
        if not self._unsent:
            loop = asyncio.get_running_loop()
            loop.add_writer(self._connection.fileno(), self._write)
        self._unsent[message] = None

    def take_back(self, word: bytes, key: str) -> bool:
        """Drops a message that there was no room for yet: whether there was one."""
        message = word + b" " + key.encode()
        if message not in self._unsent:
            return False
        del self._unsent[message]
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._connection.fileno())
        return True

    def close(self) -> None:
        """Ends the connection; idempotent."""
        if self._connection.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._connection.fileno())
            loop.remove_writer(self._connection.fileno())
            self._connection.close()

    def forget(self) -> None:
        """In a child that was forked: closes its copy, which ends nothing."""
        self._connection.close()

    def _sent(self, message: bytes) -> bool:
        try:
            self._connection.send(message)
        except BlockingIOError:
            return False
        except OSError:
            # The other side has ended, as the next read will tell.
            return True
        return True

    def _write(self) -> None:
        while self._unsent:
            message = next(iter(self._unsent))
            if not self._sent(message):
                return
            del self._unsent[message]
        asyncio.get_running_loop().remove_writer(self._connection.fileno())

    def read(self) -> None:
        """Takes in what has come, no more than fits into the socket at a time."""
        while self._connection.fileno() >= 0:
            try:
                message = self._connection.recv(_LONGEST)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # It ended before it read everything; what it said before is still to come.
                continue
            if not message:
                self.close()
                self._on_end(self)
                return
            word, _, key = message.partition(b" ")
            self._on_message(self, word, key.decode())


_instances: weakref.WeakSet[Neighbours] = weakref.WeakSet()


def _close_inherited() -> None:
    for neighbours in _instances:
        neighbours.after_fork()


os.register_at_fork(after_in_child=_close_inherited)
