"""What the kernel alone costs: a loop that receives and writes, and one that calls `sendfile`.

It believes its clients, keeps no state, and gives each connection a thread: `bare.py PORT DIR`.
"""

import base64
import hashlib
import itertools
import os
import re
import socket
import sys
import threading

PORT, DIRECTORY = int(sys.argv[1]), sys.argv[2]
NUMBERS = itertools.count()
FIELD = re.compile(rb"\r\n([^:\r\n]+): *([^\r\n]*)")
SAYS = (
    b"Tus-Extension: creation,creation-with-upload,checksum\r\nTus-Checksum-Algorithm: sha1,sha256"
)


def serve(sock: socket.socket) -> None:
    """Answers all requests of one connection."""
    buffer, rest = memoryview(bytearray(256 * 1024)), b""
    while True:
        while b"\r\n\r\n" not in rest:
            if not (piece := sock.recv(65536)):
                return
            rest += piece
        head, _, rest = rest.partition(b"\r\n\r\n")
        fields = {name.lower(): value for name, value in FIELD.findall(head)}
        method, path = head.split(b" ", 2)[:2]
        name = os.path.join(DIRECTORY, path.rpartition(b"/")[2].decode())
        length = int(fields.get(b"content-length", 0))
        if method == b"POST":
            number = str(next(NUMBERS))
            name = os.path.join(DIRECTORY, number)
            offset, rest = take(sock, name, 0, length, rest, buffer, fields)
            answer(sock, 201, f"Location: /files/{number}\r\nUpload-Offset: {offset}".encode())
        elif method == b"PATCH":
            start = int(fields[b"upload-offset"])
            offset, rest = take(sock, name, start, length, rest, buffer, fields)
            answer(sock, 204 if offset >= 0 else 460, b"Upload-Offset: %d" % offset)
        elif method == b"HEAD":
            answer(sock, 200, b"Upload-Offset: %d" % os.stat(name).st_size)
        elif method == b"GET":
            give(sock, name, fields.get(b"range", b""))
        else:
            answer(sock, 204, SAYS)


def answer(sock: socket.socket, status: int, headers: bytes, length: int = 0) -> None:
    """Sends the head of an answer."""
    content = b"" if status == 204 else b"Content-Length: %d\r\n" % length
    sock.sendall(b"HTTP/1.1 %d -\r\n%s%s\r\n\r\n" % (status, content, headers))


def take(
    sock: socket.socket,
    name: str,
    offset: int,
    length: int,
    rest: bytes,
    buffer: memoryview,
    fields: dict[bytes, bytes],
) -> tuple[int, bytes]:
    """The offset after the body, or -1 if it is not what its digest says; and what came behind."""
    algorithm, _, wanted = fields.get(b"upload-checksum", b"").partition(b" ")
    digest = hashlib.new(algorithm.decode()) if wanted else None
    fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644)
    body, rest = memoryview(rest[:length]), rest[length:]
    while True:
        if digest is not None:
            digest.update(body)
        while body:
            written = os.pwrite(fd, body, offset)
            body, offset, length = body[written:], offset + written, length - written
        if not length:
            break
        body = buffer[: sock.recv_into(buffer, min(len(buffer), length))]
        if not body:
            sys.exit()
    os.close(fd)
    wrong = digest is not None and base64.b64encode(digest.digest()) != wanted
    return (-1 if wrong else offset), rest


def give(sock: socket.socket, name: str, wanted: bytes) -> None:
    """Sends a file, or a range of it."""
    with open(name, "rb") as file:
        start, end = 0, os.fstat(file.fileno()).st_size
        if wanted:
            first, last = wanted.partition(b"=")[2].split(b"-")
            start, end = int(first), int(last) + 1
        answer(sock, 206 if wanted else 200, b"X: y", end - start)
        while start < end:
            start += os.sendfile(sock.fileno(), file.fileno(), start, end - start)


def main() -> None:
    """Listens for ever."""
    listening = socket.create_server(("127.0.0.1", PORT), backlog=2048)
    while True:
        sock, _ = listening.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


main()
