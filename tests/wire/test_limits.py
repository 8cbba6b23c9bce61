"""How many connections there may be, and what their heads may take: each by its flag."""

import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.serving import Served, eventually, serving
from tusd_py.wire.limits import connections_by_descriptors

TUS = {"Tus-Resumable": "1.0.0"}


def refused(server: Served, connection: raw.Raw) -> dict[str, float]:
    """How often each limit refused something, without the zeros."""
    lines = connection.ask("GET", "/metrics", {}).body.decode().splitlines()
    named = [line for line in lines if line.startswith("tusd_refused_total{")]
    counts = {line.split('"')[1]: float(line.split()[-1]) for line in named}
    return {limit: count for limit, count in counts.items() if count}


def hold(server: Served, stack: ExitStack, count: int) -> list[raw.Raw]:
    """So many connections, on each of which a request was answered."""
    held = [stack.enter_context(raw.connected(server.port)) for _ in range(count)]
    for connection in held:
        assert connection.ask("OPTIONS", "/files/", {}).status == 204
    return held


def is_served(server: Served) -> bool:
    """Whether a new connection is, and is closed without a word if not."""
    with raw.connected(server.port) as connection:
        try:
            # An error in answer to this would be the end of an upload for tus-js-client.
            connection.start("HEAD", "/files/x", TUS)
            if not connection.is_readable(raw.WITHIN):
                raise AssertionError("neither served nor closed")
            came = connection.socket.recv(12)
        except ConnectionError:
            return False
        assert came in (b"", b"HTTP/1.1 404")
        return bool(came)


@pytest.mark.parametrize(
    ("flag", "limit"),
    [
        ("--max-connections", "connections"),
        ("--max-connections-per-address", "connections-per-address"),
    ],
)
def test_one_connection_too_many_is_closed(tmp_path: Path, flag: str, limit: str) -> None:
    """Or one client has every descriptor, and nobody else is let in."""
    with serving(tmp_path / "uploads", flag, "3") as server, ExitStack() as stack:
        first, second, third = hold(server, stack, 3)
        assert not is_served(server)
        assert not is_served(server)
        assert first.ask("OPTIONS", "/files/", {}).status == 204, "those that are there stay"
        assert refused(server, second) == {limit: 2}
        third.close()
        eventually("there is room for another one", lambda: is_served(server))
        assert server.log.read_text().count(f"as many as {flag} allows") == 1


def test_a_trusted_proxy_is_no_client(tmp_path: Path) -> None:
    """All clients behind it have its address."""
    flags = ("--behind-proxy", "--max-connections-per-address", "2")
    with serving(tmp_path / "uploads", *flags) as server, ExitStack() as stack:
        hold(server, stack, 4)


def test_what_a_head_may_take(tmp_path: Path) -> None:
    flags = ("--head-timeout", "1s", "--max-head-size", "2KiB", "--max-metadata-size", "8")
    with serving(tmp_path / "uploads", *flags) as server, ExitStack() as stack:
        (asking,) = hold(server, stack, 1)
        slow = stack.enter_context(raw.connected(server.port))
        slow.send(b"OPTIONS /files/ HTTP/1.1\r\n")
        answer = slow.answer()
        assert answer.status == 408
        assert answer.body.endswith(b"within 1 seconds\n")
        for size, status in ((1500, 204), (2100, 431)):
            large = stack.enter_context(raw.connected(server.port))
            large.start("OPTIONS", "/files/", {"X-Large": "a" * size})
            answer = large.answer()
            assert answer.status == status
        assert b"more than 2048 bytes" in answer.body
        for metadata, status in (("a YQ==", 201), ("ab YQ==,c", 400)):
            headers = TUS | {"Upload-Length": "5", "Upload-Metadata": metadata}
            assert asking.ask("POST", "/files/", headers).status == status
        counts = {"head-time": 1, "head-size": 1, "metadata-size": 1}
        assert refused(server, asking) == counts


@pytest.mark.parametrize(("soft", "most"), [(1024, 768), (20_000, 15_000), (128, 64), (64, 1)])
def test_files_have_their_share_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connections_by_descriptors() == most
