"""A TCP proxy on loopback that counts what clients send, and cuts or holds it at an exact byte."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum
from typing import Self

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
PIECE = 64 * 1024
HOLDS_AT_MOST = 60.0  # seconds: a forgotten hold ends by itself


class Stop(Enum):
    """What happens at the chosen byte."""

    CUT = "the server sees the end of the stream, the client a reset"
    HOLD = "nothing more of this connection passes until release() or lose()"


class CuttingProxy:
    """Stands between clients and a server on loopback.

    On a cut, every byte that was let through still reaches the server, so that a test can say
    exactly what the server was given. `passed` counts them, over all connections: heads, chunk
    framing and bodies.
    """

    def __init__(self, target_port: int) -> None:
        self.passed = 0
        self.held = threading.Event()
        self._released = threading.Event()
        self._losing = False
        self._lock = threading.Lock()
        self._stops: list[tuple[int, Stop]] = []
        self._target_port = target_port
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._begin(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def url(self, direct: str) -> str:
        """The same URL, by way of this proxy."""
        return direct.replace(f":{self._target_port}/", f":{self.port}/")

    def cut_after(self, count: int) -> None:
        """Cuts the connection that sends the `count`th byte from now on."""
        self._stop_after(count, Stop.CUT)

    def hold_after(self, count: int) -> None:
        """Lets `count` more bytes pass; `held` is set when they have."""
        self._stop_after(count, Stop.HOLD)

    def release(self) -> None:
        """Ends a hold: what was held goes on."""
        self._released.set()

    def lose(self) -> None:
        """Ends a hold: what was held is lost, as it is when a client has left."""
        self._losing = True
        self.release()

    def close(self) -> None:
        """Ends every connection and waits for the threads."""
        self.release()
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the proxy does not end"
        for each in [self._listener, *self._sockets]:
            each.close()

    def _stop_after(self, count: int, stop: Stop) -> None:
        with self._lock:
            self._stops.append((self.passed + count, stop))
            self._stops.sort(key=lambda each: each[0])

    def _begin(self, target: Callable[..., None], *args: socket.socket) -> None:
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
                server = socket.create_connection(("127.0.0.1", self._target_port), 5)
            except OSError:  # the server is down: so it is for the client
                reset(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets += [client, server]
            self._begin(self._up, client, server)
            self._begin(self._down, client, server)

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        while data := received(client):
            while data:
                now, data, stop = self._admit(data)
                if not sent(server, now):
                    reset(client)  # or a client in the middle of a body would never hear of it
                    return
                if stop is Stop.CUT:
                    reset(client)
                    data = b""
                elif stop is Stop.HOLD:
                    self.held.set()
                    self._released.wait(HOLDS_AT_MOST)
                    if self._losing:
                        end_of_stream(server)
                        return
        end_of_stream(server)

    def _admit(self, data: bytes) -> tuple[bytes, bytes, Stop | None]:
        """What may pass now, what comes after it, and what happens between the two."""
        with self._lock:
            stop = None
            count = len(data)
            if self._stops and self._stops[0][0] <= self.passed + count:
                at, stop = self._stops.pop(0)
                count = at - self.passed
            self.passed += count
            return data[:count], data[count:], stop

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        while data := received(server):
            sent(client, data)  # after a cut the answer goes nowhere, but is read to its end
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def received(source: socket.socket) -> bytes:
    """The next piece; empty at the end of the stream, however it ended."""
    try:
        return source.recv(PIECE)
    except OSError:
        return b""


def sent(target: socket.socket, data: bytes) -> bool:
    """Whether it could be sent."""
    try:
        target.sendall(data)
    except OSError:
        return False
    return True


def end_of_stream(target: socket.socket) -> None:
    """FIN: what was sent before still arrives."""
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def reset(target: socket.socket) -> None:
    """RST: what a client sees when a router or a phone gives up."""
    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    target.close()
