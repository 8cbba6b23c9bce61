"""How much memory the server needs for one large PATCH: `python -m tests.benchmarks.memory [GIB]`.

Prints the resident memory before, its peak, and by how much it grew while 1 GiB and the rest came.
"""

import argparse
import re
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.serving import Served, serving

MIB = 1 << 20
GIB = 1 << 30
BLOCK = bytes(MIB)


def resident(server: Served, field: str = "VmRSS") -> float:
    """MiB of the server's process: now (`VmRSS`), or at its peak (`VmHWM`)."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def ask(connection: socket.socket, head: str) -> str:
    """Sends a head without a body, and returns the head of the answer."""
    connection.sendall(head.replace("\n", "\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(65536)
        assert piece, "the server closed the connection"
        answer += piece
    return answer.decode("latin-1")


def measure(server: Served, size: int) -> None:
    """One upload of `size` bytes in one PATCH."""
    url = urlsplit(server.url)
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 80)) as connection:
        common = f"Host: {url.netloc}\nTus-Resumable: 1.0.0\n"
        created = ask(connection, f"POST {url.path} HTTP/1.1\n{common}Upload-Length: {size}\n\n")
        location = re.search(r"(?i)location: (\S+)", created)
        assert location is not None
        before = resident(server)
        begun = time.monotonic()
        head = (
            f"PATCH {urlsplit(location[1]).path} HTTP/1.1\n{common}Upload-Offset: 0\n"
            f"Content-Type: application/offset+octet-stream\nContent-Length: {size}\n\n"
        )
        connection.sendall(head.replace("\n", "\r\n").encode())
        marks = {}
        for sent in range(0, size, MIB):
            if sent in (256 * MIB, 256 * MIB + GIB):
                marks[sent] = resident(server)
            connection.sendall(BLOCK)
        answer = ask(connection, "")
        seconds = time.monotonic() - begun
    assert answer.startswith("HTTP/1.1 204"), answer
    after, peak = resident(server), resident(server, "VmHWM")
    print(f"size                     {size / GIB:8.1f} GiB")
    print(f"resident before          {before:8.1f} MiB")
    print(f"resident after           {after:8.1f} MiB")
    print(f"peak                     {peak:8.1f} MiB")
    if len(marks) == 2:
        first, second = marks.values()
        print(f"growth over 1 GiB        {second - first:8.1f} MiB")
        print(f"growth over the rest     {after - second:8.1f} MiB")
    print(f"speed                    {size / MIB / seconds:8.1f} MiB/s")


def main() -> None:
    """Measures on a server of its own, below the current folder's file system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gib", type=float, nargs="?", default=10.0)
    size = int(parser.parse_args().gib * GIB)
    with (
        tempfile.TemporaryDirectory(dir=".") as folder,
        serving(Path(folder) / "uploads") as server,
    ):
        measure(server, size)


if __name__ == "__main__":
    main()
