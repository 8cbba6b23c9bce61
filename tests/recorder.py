"""A TCP relay on loopback that notes where clients were told to go on, and where they did."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Self

_PIECE = 256 * 1024
_PATCH = re.compile(rb"PATCH [^\r\n]+ HTTP/1\.1\r\n.*?\r\nupload-offset: ([0-9]+)\r\n", re.I | re.S)
_HEAD = re.compile(rb"HEAD [^\r\n]+ HTTP/1\.1\r\n", re.I)
_TOLD = re.compile(rb"\r\nupload-offset: ([0-9]+)\r\n", re.I)


class Recorder:
    """Stands between a client that sends one upload and a server.

    Attributes:
        told: Each `Upload-Offset` that a HEAD was answered with, in order.
        begun: Each `Upload-Offset` that a PATCH began at, with the number of answers before it.
    """

    def __init__(self, target_port: int) -> None:
        self.told: list[int] = []
        self.begun: list[tuple[int, int]] = []
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()  # the server is down just now
                continue
            self._sockets += [client, server]
            asked = threading.Event()
            self._start(self._requests, client, server, asked)
            self._start(self._answers, server, client, asked)

    def _requests(
        self, client: socket.socket, server: socket.socket, asked: threading.Event
    ) -> None:
        for piece in _pieces(client, server):
            if _HEAD.match(piece):
                asked.set()
            elif found := _PATCH.match(piece):
                self.begun.append((int(found[1]), len(self.told)))

    def _answers(
        self, server: socket.socket, client: socket.socket, asked: threading.Event
    ) -> None:
        for piece in _pieces(server, client):
            if asked.is_set() and (found := _TOLD.search(piece)):
                self.told.append(int(found[1]))
                asked.clear()


def _pieces(source: socket.socket, target: socket.socket) -> Iterator[bytes]:
    """What comes from one side; each piece is noted before it is passed on to the other."""
    try:
        while piece := source.recv(_PIECE):
            yield piece
            target.sendall(piece)
    except OSError:
        pass
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
