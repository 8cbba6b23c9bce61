"""Events by a WebSocket, and commands the other way: over real connections, with a real client."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.asgi.in_process import BASE, Running, id_of, running, until
from tests.asgi.listening import OURS, PLAIN, listening, page
from tests.asgi.test_events import Stream, by_name
from tests.frameworks.hosts import host, in_django, in_litestar
from tusd_py import Access, CorsPolicy, HttpSettings, Reject, Settings
from tusd_py.asgi import events
from tusd_py.asgi import websocket as commanding
from tusd_py.engine import watching
from tusd_py.hooks.events import Observed, RequestEnded
from tusd_py.protocol.errors import NotAllowed
from tusd_py.wire import websocket
from tusd_py.wiring.server import ServerApp

pytestmark = pytest.mark.anyio


def settings(**http: Any) -> Settings:
    return Settings(base_path=BASE, http=HttpSettings(websockets=True, **http))


@asynccontextmanager
async def serving(
    tmp_path: Path, server_options: dict[str, Any] = OURS, **options: Any
) -> AsyncIterator[tuple[Running, str]]:
    """A whole site on a port."""
    async with (
        running(tmp_path, **({"settings": settings()} | options)) as server,
        listening(ServerApp(server.tus, BASE, None), **server_options) as origin,
    ):
        yield server, origin
        server.tus.interrupt()


async def refused(server_at: str, path: str, **options: Any) -> tuple[int, str]:
    """Status and text of the answer to a handshake."""
    with pytest.raises(InvalidStatus) as raised:
        async with connect(f"ws:{server_at}{path}", proxy=None, **options):
            pass
    response = raised.value.response
    return response.status_code, (response.body or b"").decode()


@pytest.mark.parametrize("server_options", [OURS, PLAIN], ids=["ours", "plain"])
async def test_it_tells_what_a_stream_tells(tmp_path: Path, server_options: dict[str, Any]) -> None:
    async with serving(tmp_path, server_options) as (server, origin):
        path = await server.create(10)
        stream = Stream(server, path + "/events")
        await stream.has("ready")
        async with page(origin, path + "/events") as one, page(origin) as everything:
            await one.has("ready")
            await everything.has("ready")
            assert server.tus.watching.count == 3
            await server.patch(path, 0, b"12345")
            await until(lambda: any(e["data"].get("offset") == 5 for e in one.got), within=30)
            other = await server.create(1)
            await server.patch(path, 5, b"67890")
            assert await one.ended() == 1000
            await stream.ended()
            await everything.has("ready", "created", "finished")
            assert everything.events()[1]["data"]["id"] == id_of(other)
            told = [(e["event"], e["event_id"], e["data"]) for e in one.events()]
            assert [name for name, _, _ in told] == ["ready", "finished"]
            heard = [each for each in stream.events if each[0] != "progress"]
            for (name, event_id, data), (_, other_id, other_data) in zip(told, heard, strict=True):
                # Both know the server by another name.
                for each in (data, other_data):
                    each["upload"].pop("url")
                assert (event_id, data) == (other_id, other_data), name
            progress = [e for e in one.events(progress=True) if e["event"] == "progress"]
            assert {e["event_id"] for e in progress} == {None}
            assert progress[-1]["data"].keys() == {"id", "at", "offset", "length", "speed"}
        await until(lambda: server.tus.watching.count == 0, within=30)


@pytest.mark.parametrize("server_options", [OURS, PLAIN], ids=["ours", "plain"])
async def test_commands(tmp_path: Path, server_options: dict[str, Any]) -> None:
    async with serving(tmp_path, server_options) as (server, origin):
        path, other = await server.create(10), await server.create(10)
        async with page(origin, path + "/events") as one, page(origin) as everything:
            done = await one.say("pause")
            assert (done["event"], done["data"]["state"]) == ("done", "paused")
            assert done["data"]["url"] == f"http:{origin}{path}"
            await one.has("ready", "paused")
            assert (await server.patch(path, 0, b"1")).status_code == 423
            assert (await everything.say("pause", upload=id_of(other)))["data"]["state"] == "paused"
            assert (await one.say("resume", upload=id_of(other)))["data"]["state"] == "receiving"
            assert (await one.say("resume"))["data"]["state"] == "receiving"
            assert (await server.patch(path, 0, b"1")).status_code == 204
            assert (await one.say("terminate"))["data"]["state"] == "terminated"
            assert await one.ended() == 1000, "also when its own end is what it waits for"
            assert one.names() == ["ready", "paused", "resumed", "terminated"]
            assert (await server.head(path)).status_code == 410
            gone = await everything.say("pause", upload=id_of(path))
            assert (gone["event"], gone["data"]["status"]) == ("error", 410)
            assert gone["data"]["code"] == "ERR_UPLOAD_GONE"
            nothing = await everything.say("terminate", upload="none")
            assert (nothing["data"]["status"], nothing["data"]["code"]) == (
                404,
                "ERR_UPLOAD_NOT_FOUND",
            )


async def test_streams_are_no_requests_that_take_long(tmp_path: Path) -> None:
    """How long requests take would else be how long pages are open; commands are requests."""
    async with serving(tmp_path) as (server, origin):
        ended: list[tuple[str, int, bool]] = []

        def note(event: Observed) -> None:
            if isinstance(event, RequestEnded):
                ended.append((event.method, event.status, event.is_stream))

        server.tus.add_observer(note)
        path = await server.create(1)
        stream = Stream(server, path + "/events")
        await stream.has("ready")
        async with page(origin) as everything:
            await everything.has("ready")
            await everything.say("pause", upload=id_of(path))
        await until(lambda: len(ended) == 3, within=30)
        await stream.leave()
        assert ended == [
            ("POST", 201, False),
            ("PUT", 200, False),
            ("GET", 101, True),
            ("GET", 200, True),
        ]


async def test_a_command_is_answered_also_when_the_stream_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commanding, "_ANSWERED_WITHIN", 60.0)
    asked, gate = asyncio.Event(), asyncio.Event()

    async def authorize(access: Access) -> None:
        if access.verb == "control":
            asked.set()
            await gate.wait()

    async with serving(tmp_path, authorize=authorize) as (server, origin):
        path, other = await server.create(1), await server.create(2)
        async with page(origin, path + "/events") as one:
            saying = asyncio.create_task(one.say("pause", upload=id_of(other)))
            await asyncio.wait_for(asked.wait(), 30)
            await server.patch(path, 0, b"1")
            await one.has("ready", "finished")
            gate.set()
            assert (await saying)["data"]["state"] == "paused"
            assert await one.ended() == 1000


async def test_a_limit_of_speed_is_what_the_put_makes_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, origin):
        path = await server.create(10)
        async with page(origin, path + "/events") as one, httpx.AsyncClient() as client:
            for speed in ({"max_speed": 2048}, {"max_speed": None}, {"max_speed": 1}, {}):
                answer = await client.put(
                    f"http:{origin}/api/uploads/{id_of(path)}",
                    json=speed,
                    headers={"Accept": "application/problem+json"},
                )
                told = await one.say("speed", **speed)
                if answer.is_success:
                    assert (told["event"], told["data"]) == ("done", answer.json())
                else:
                    problem = answer.json()
                    assert told["event"] == "error"
                    assert told["data"] == {
                        "status": answer.status_code,
                        "code": problem["title"],
                        "message": problem["detail"],
                    }


UNREADABLE: list[tuple[str | bytes, str]] = [
    (b'{"command": "pause"}', "send text"),
    ("", "a JSON object"),
    ("pause", "a JSON object"),
    ("[]", "a JSON object"),
    ("null", "a JSON object"),
    ("[" * 2000, "a JSON object"),
    ('{"command": "pause", "ref": NaN}', "a JSON object"),
    ('{"command": "pause", "ref": 1e999}', "a JSON object"),
    ("{}", "say which upload"),
    ('{"command": "pause"}', "say which upload"),
    ('{"command": "pause", "upload": 7}', "say which upload"),
    ('{"command": "pause", "upload": "../x"}', "say which upload"),
    ('{"command": "pause", "upload": "a\\u0000b"}', "say which upload"),
    ('{"command": "pause", "upload": "\\ud800"}', "say which upload"),
    ('{"command": "stop", "upload": "x"}', "command is pause, resume"),
    ('{"command": ["pause"], "upload": "x"}', "command is pause, resume"),
    ('{"command": "pause", "upload": "x", "max_speed": 5}', "'max_speed' is nothing"),
    ('{"command": "speed", "upload": "x", "paused": true}', "'paused' is nothing"),
    ('{"command": "terminate", "upload": "x", "a\\nb": 1}', "'a\\nb' is nothing"),
    ("x" * 4097, "longer than 4096 bytes"),
    ("ü" * 2100, "longer than 4096 bytes"),
]


async def test_what_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    """And the connection goes on."""
    async with serving(tmp_path) as (server, origin):
        path = await server.create(10)
        async with page(origin) as client:
            for message, says in UNREADABLE:
                answer = await client.send(message)
                assert answer["event"] == "error", message
                data = answer["data"]
                assert (data["status"], data["code"]) == (400, "ERR_INVALID_REQUEST"), message
                assert says in data["message"], message
            assert client.names() == ["ready"]
            assert (await client.say("pause", upload=id_of(path)))["event"] == "done"


async def test_whatever_stands_in_ref_comes_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, origin), page(origin) as client:
        refs: list[object] = [{"a": ["\ud800", None, 1.5]}, "\x00\u2028", [], 0, False]
        for ref in refs:
            message = json.dumps({"command": "pause", "upload": "none", "ref": ref})
            assert (await client.send(message, ref))["data"]["status"] == 404


async def test_a_message_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, origin):
        async with page(origin) as client:
            await client.has("ready")
            await client.connection.send("x" * (websocket.MAX_MESSAGE + 1))
            assert await client.ended() == 1009
        await until(lambda: server.tus.watching.count == 0, within=30)


async def test_who_may_listen_and_who_may_command(tmp_path: Path) -> None:
    async def authorize(access: Access) -> object:
        if access.verb == "control" and "x-guest" in access.request.headers:
            raise NotAllowed("guests may only look")
        if access.verb == "terminate" and "x-guest" in access.request.headers:
            raise Reject(403, "not by guests")
        if "x-who" not in access.request.headers:
            raise Reject(401, "who are you?")
        return await by_name(access)

    async with serving(tmp_path, authorize=authorize) as (server, origin):
        hers = await server.create(5, X_Who="alice")
        alice, bob = {"X-Who": "alice"}, {"X-Who": "bob"}
        for path in ("/events", hers + "/events"):
            assert await refused(origin, path) == (401, "who are you?")
        status, text = await refused(origin, hers + "/events", additional_headers=bob)
        nothing = await refused(origin, BASE + "none/events", additional_headers=bob)
        assert (status, text.replace(id_of(hers), "none")) == nothing
        assert status == 404
        async with (
            page(origin, additional_headers=alice) as her_page,
            page(origin, additional_headers=bob) as his_page,
            page(origin, additional_headers=alice | {"X-Guest": "1"}) as guest,
        ):
            for client in (her_page, his_page, guest):
                await client.has("ready")
            for command in ("pause", "terminate"):
                answer = await his_page.say(command, upload=id_of(hers))
                assert answer["data"]["status"] == 404, command
            assert (await guest.say("pause", upload=id_of(hers)))["data"] == {
                "status": 403,
                "code": "ERR_NOT_ALLOWED",
                "message": "guests may only look",
            }
            answer = await guest.say("terminate", upload=id_of(hers))
            assert (answer["data"]["status"], answer["data"]["message"]) == (403, "not by guests")
            await her_page.say("pause", upload=id_of(hers))
            await her_page.has("ready", "paused")
            assert his_page.names() == ["ready"]


def offering(token: str) -> list[Any]:
    encoded = base64.urlsafe_b64encode(token.encode("latin-1")).rstrip(b"=").decode()
    return ["tusd-py", f"bearer.{encoded}"]


async def test_a_token_comes_as_a_subprotocol(tmp_path: Path) -> None:
    """A page can send no header with a WebSocket."""
    seen: list[tuple[str, str, str, str]] = []

    async def authorize(access: Access) -> str:
        request = access.request
        seen.append((access.verb, request.method, request.path, request.headers["authorization"]))
        assert "sec-websocket-protocol" not in request.headers
        return "alice"

    async with serving(tmp_path, authorize=authorize) as (server, origin):
        path = await server.create(5, Authorization="x")
        async with page(origin, path + "/events", subprotocols=offering("a?b>c~")) as client:
            assert client.connection.subprotocol == "tusd-py"
            await client.say("pause")
        token = "Bearer a?b>c~"
        assert seen[1:3] == [
            ("watch", "GET", path + "/events", token),
            ("control", "PUT", path, token),
        ]
        unreadable = ("bearer.%", "bearer.", *offering("a\r\nX: y")[1:], *offering("\xe9")[1:])
        for offered in unreadable:
            async with page(origin, path + "/events", subprotocols=[offered]) as client:
                assert client.connection.subprotocol is None
            assert seen[-1][3] == "Bearer", "which is nobody's"


async def test_pages_of_other_origins(tmp_path: Path) -> None:
    """A browser asks nobody whether a page may connect to another host."""
    allowing = settings(cors=CorsPolicy(allow_origin=r"https://app\.test"))
    async with serving(tmp_path, settings=allowing) as (server, origin):
        path = await server.create(5) + "/events"
        for other in ("https://evil.test", "https://app.test.evil.test", "null", f"https:{origin}"):
            status, text = await refused(origin, path, origin=other)
            assert (status, text.partition(":")[0]) == (403, "ERR_NOT_ALLOWED"), other
        for ours in ("https://app.test", f"http:{origin}", None):
            async with page(origin, path, origin=ours) as client:
                await client.has("ready")


async def test_behind_a_proxy_the_own_origin_is_the_one_that_the_browser_sees(
    tmp_path: Path,
) -> None:
    proxied = settings(cors=CorsPolicy(allow_origin="https://x"), behind_proxy=True)
    async with serving(tmp_path, settings=proxied) as (server, origin):
        path = await server.create(5) + "/events"
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "files.test"}
        async with page(
            origin, path, origin="https://files.test", additional_headers=headers
        ) as client:
            await client.has("ready")
            assert client.got[0]["data"]["upload"]["url"].startswith("https://files.test/files/")
        assert (await refused(origin, path, origin="https://files.test"))[0] == 403


async def test_who_comes_back_has_missed_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, origin):
        async with page(origin) as client:
            path = await server.create(5)
            await client.has("ready", "created")
            heard = client.got[-1]["event_id"]
        await server.patch(path, 0, b"12345")
        other = await server.create(1)
        again = f"?last_event_id={heard}"
        async with page(origin, "/events" + again) as client:
            await client.has("finished", "created")
            await server.delete(other)
            await client.has("finished", "created", "terminated")
        async with page(origin, f"{path}/events{again}") as client:
            assert await client.ended() == 1000
            assert client.names() == ["finished"]
            heard = client.got[-1]["event_id"]
        async with page(origin, f"{path}/events?last_event_id={heard}") as client:
            assert await client.ended() == 1000
            assert client.got == []
        async with page(origin, f"{path}/events") as client:
            assert await client.ended() == 1000
            assert client.names() == ["ready"]


async def test_it_ends_with_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, origin), page(origin) as client:
        await client.has("ready")
        server.tus.interrupt()
        assert await client.ended() == 1012
        assert (await refused(origin, "/events"))[0] == 503


async def test_who_is_let_in_no_more_hears_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_ASK_EVERY", 0.0)
    lets_in = [True]

    async def authorize(_: Access) -> None:
        if not lets_in[0]:
            raise Reject(401, "not any more")

    async with serving(tmp_path, authorize=authorize) as (server, origin):
        await server.create(5)
        async with page(origin) as client:
            await client.has("ready")
            lets_in[0] = False
            server.clock.now += 90_000
            await server.tus.sweep()
            assert await client.ended() == 1008
            assert client.names() == ["ready", "expired"]


async def test_who_does_not_keep_up_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as (server, origin), page(origin) as client:
        await client.has("ready")
        monkeypatch.setattr(watching, "_MOST_WAITING", 3)
        ((listener, _),) = server.tus.watching._listeners["all"].items()
        told = watching.Told("created", 10**6, "a", 0.0, None)
        for _ in range(4):
            listener.tell(told)
        assert await client.ended() == 1013


@pytest.mark.parametrize("is_deaf", [True, False])
async def test_who_does_not_answer_a_ping_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_deaf: bool
) -> None:
    """Also one that takes nothing any more, for whom an orderly end would wait for ever."""
    monkeypatch.setattr(websocket, "_LINGER", 0.01)
    pinging = OURS | {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.05}
    async with serving(tmp_path, pinging) as (server, origin):
        path = await server.create(5, Upload_Metadata="a " + "A" * 8000)
        port = int(origin.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(handshake("/events"))
        await reader.readuntil(b"\r\n\r\n")
        assert server.tus.watching.count == 1
        if is_deaf:
            ((listener, _),) = server.tus.watching._listeners["all"].items()
            record = await server.record(path)
            for number in range(900):
                listener.tell(watching.Told("created", 10**6 + number, "a", 0.0, record))
        await until(lambda: server.tus.watching.count == 0, within=60)
        writer.transport.abort()


def handshake(path: str, **headers: str) -> bytes:
    """The bytes that a client begins with."""
    given = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


async def test_commands_count_as_requests(tmp_path: Path) -> None:
    few = settings(max_requests=0.5)
    async with serving(tmp_path, settings=few) as (_, origin), page(origin) as client:
        codes = [
            (await client.say("pause", upload="none"))["data"]["code"]
            if number % 2
            else (await client.send("x"))["data"]["code"]
            for number in range(6)
        ]
        assert codes == [
            "ERR_INVALID_REQUEST",
            "ERR_UPLOAD_NOT_FOUND",
            "ERR_INVALID_REQUEST",
            "ERR_UPLOAD_NOT_FOUND",
            "ERR_INVALID_REQUEST",
            "ERR_TOO_MANY_REQUESTS",
        ]
        status, text = await refused(origin, "/events")
        assert (status, text.partition(":")[0]) == (429, "ERR_TOO_MANY_REQUESTS")


async def test_there_is_nothing_elsewhere(tmp_path: Path) -> None:
    below = ("", "a", "a/b/events", "/events", "..%2fx/events", "a%00/events", "a%0d%0a/events")
    async with serving(tmp_path) as (_, origin):
        for path in ("/", "/api/uploads", *(BASE + each for each in below)):
            assert (await refused(origin, path))[0] == 404, path


async def test_mounted_in_an_application(tmp_path: Path) -> None:
    """Beside a WebSocket of its own."""

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    async with running(tmp_path, settings=Settings(http=HttpSettings(websockets=True))) as server:
        app = fastapi.FastAPI()
        app.router.routes.append(WebSocketRoute("/up/files/live", echo))
        server.tus.mount(app, "/up/files")
        async with listening(app, **PLAIN) as origin, httpx.AsyncClient() as client:
            created = await client.post(
                f"http:{origin}/up/files",
                headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"},
            )
            url = created.headers["Location"]
            path = httpx.URL(url).path
            async with page(origin, path + "/events") as one:
                await one.has("ready")
                assert (await one.say("pause"))["data"]["url"] == url
                assert (await one.say("terminate"))["event"] == "done"
                assert await one.ended() == 1000
            async with connect(f"ws:{origin}/up/files/live", proxy=None) as own:
                await own.send("hello")
                assert await own.recv() == "hello"


@pytest.mark.parametrize("build", [in_litestar, in_django])
async def test_beside_another_application(tmp_path: Path, build: Any) -> None:
    noticed = host(tmp_path, websockets=True)
    async with listening(build(noticed), lifespan="on", **PLAIN) as origin:
        async with httpx.AsyncClient() as client:
            created = await client.post(
                f"http:{origin}/api/files",
                headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"},
            )
        path = httpx.URL(created.headers["Location"]).path
        async with page(origin, path + "/events") as one:
            assert (await one.say("terminate"))["event"] == "done"
            assert await one.ended() == 1000
    assert noticed.asked == [
        ("create", None),
        ("watch", id_of(path)),
        ("terminate", id_of(path)),
    ]


async def test_an_application_that_did_not_ask_for_it_has_none(tmp_path: Path) -> None:
    """A middleware that guards its requests does not see what is no request."""
    async with running(tmp_path, settings=Settings()) as server:
        app = fastapi.FastAPI()
        server.tus.mount(app, "/files")
        path = await server.client.post(
            "/", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
        )
        upload_id = id_of(httpx.URL(path.headers["Location"]).path)
        async with listening(app, **PLAIN) as origin:
            assert (await refused(origin, f"/files/{upload_id}/events"))[0] == 403
        async with listening(server.tus, **PLAIN) as origin:
            assert (await refused(origin, f"/{upload_id}/events"))[0] == 403
