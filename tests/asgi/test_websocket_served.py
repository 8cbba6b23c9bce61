"""WebSockets of `tusd-py serve`, with two workers and tokens."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.auth.samples import written
from tests.interop.plain_http import OFFSET_STREAM, TUS, asked, create
from tests.serving import Served, serving

TOKEN = "the-token-of-alice_1234"
ENCODED = base64.urlsafe_b64encode(TOKEN.encode()).rstrip(b"=").decode()
ALICE = {"Authorization": f"Bearer {TOKEN}"}
WITHIN = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    tokens = tmp_path / "tokens"
    written(tokens, f"{TOKEN} alice\n")
    flags = ("--workers", "2", "--auth-tokens", str(tokens), "--log-level", "debug")
    with serving(tmp_path / "uploads", *flags) as server:
        yield server


def connected(server: Served, path: str, token: str = ENCODED) -> ClientConnection:
    offered = [Subprotocol("tusd-py"), Subprotocol(f"bearer.{token}")]
    url = f"ws://127.0.0.1:{server.port}{path}"
    return connect(url, subprotocols=offered, proxy=None, open_timeout=WITHIN)


def until(client: ClientConnection, *names: str) -> dict[str, Any]:
    """The first message that has one of these names; others before it are passed over."""
    deadline = time.monotonic() + WITHIN
    while True:
        message: dict[str, Any] = json.loads(client.recv(deadline - time.monotonic()))
        if message["event"] in names:
            return message


def test_whichever_worker_a_page_has(server: Served) -> None:
    with pytest.raises(InvalidStatus) as raised:
        connected(server, "/events", "d3Jvbmc")
    assert raised.value.response.status_code == 401
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server, "/events")) for _ in range(6)]
        for client in clients:
            until(client, "ready")
        url = create(server.url, 10, **ALICE)
        upload_id = url.rpartition("/")[2]
        for client in clients:
            assert until(client, "created")["data"]["id"] == upload_id
        patch = TUS | ALICE | {"Content-Type": OFFSET_STREAM, "Upload-Offset": "0"}
        assert asked("PATCH", url, patch, b"12345").status_code == 204
        for client in clients:
            assert until(client, "progress")["data"]["offset"] == 5
        for number, client in enumerate(clients):
            command, name = (("pause", "paused"), ("resume", "resumed"))[number % 2]
            client.send(json.dumps({"command": command, "upload": upload_id, "ref": number}))
            for each in clients:
                assert until(each, name)["data"]["id"] == upload_id
        stats = httpx.get(f"http://127.0.0.1:{server.port}/api/stats", headers=ALICE).json()
        assert (stats["workers"], stats["listeners"]) == (2, 6)
        assert server.stop() == 0
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                until(client, "never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    log = server.log.read_text()
    assert "Traceback" not in log
    assert TOKEN not in log
    assert ENCODED not in log
    assert "'/events' 101" in log
