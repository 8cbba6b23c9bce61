"""Who may do what: whose an upload is, and when that is asked."""

import asyncio
import contextlib
import json
import re
import secrets
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from tests.asgi.in_process import (
    BASE,
    OFFSET_TYPE,
    TUS,
    Clock,
    Running,
    id_of,
    path_of,
    running,
    until,
)
from tusd_py import (
    Access,
    FinishedUpload,
    Grant,
    HttpSettings,
    NewUpload,
    Reject,
    Settings,
    SignedUrls,
)
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Phase, Upload
from tusd_py.wiring.server import ServerApp

pytestmark = pytest.mark.anyio

ALICE, BOB = {"X_Who": "alice"}, {"X_Who": "bob"}


async def by_name(access: Access) -> str | None:
    """Believes what a request says of itself."""
    return access.request.headers.get("x-who")


REQUESTS: dict[str, tuple[str, dict[str, str], bytes]] = {
    "append": ("PATCH", OFFSET_TYPE | {"Upload-Offset": "0"}, b"12345"),
    "override": (
        "POST",
        OFFSET_TYPE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"},
        b"12345",
    ),
    "below": ("PATCH", OFFSET_TYPE | {"Upload-Offset": "99"}, b"1"),
    "query": ("HEAD", {}, b""),
    "terminate": ("DELETE", {}, b""),
    "download": ("GET", {}, b""),
}


async def told(server: Running, verb: str, path: str, **who: str) -> tuple[int, str, set[str]]:
    """Status, text and names of headers of an answer."""
    method, headers, body = REQUESTS[verb]
    named = {name.replace("_", "-"): value for name, value in who.items()}
    answer = await server.client.request(method, path, headers=TUS | headers | named, content=body)
    text = answer.text.replace(id_of(path), "ID")
    return answer.status_code, text, set(answer.headers) - {"content-length"}


@pytest.mark.parametrize("phase", ["receiving", "complete", "terminated", "failed", "final"])
async def test_another_ones_upload_is_not_there(tmp_path: Path, phase: str) -> None:
    """Not even whether it was there can be told, or ids of others could be looked for."""

    async def on_finish(_: FinishedUpload) -> None:
        if phase == "failed":
            raise Reject(400, "not this one")

    async with running(tmp_path, authorize=by_name, on_finish=on_finish) as server:
        path = await server.create(5, **ALICE)
        if phase in ("complete", "failed"):
            await server.patch(path, 0, b"12345", **ALICE)
        elif phase == "terminated":
            await server.client.delete(path, headers=TUS | {"X-Who": "alice"})
        elif phase == "final":
            part = await server.create(5, Upload_Concat="partial", **ALICE)
            answer = await server.post(Upload_Concat=f"final;{part}", **ALICE)
            path = path_of(answer)
        before = await server.record(path)
        for verb in REQUESTS:
            nothing = await told(server, verb, BASE + "0" * 32, **BOB)
            assert nothing[0] == 404
            assert await told(server, verb, path, **BOB) == nothing, verb
            assert await told(server, verb, path) == nothing, "nor for somebody without a name"
            assert await server.record(path) == before


async def test_its_owner_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, authorize=by_name) as server:
        path = await server.create(5, **ALICE)
        assert (await server.record(path)).principal == "alice"
        assert (await server.patch(path, 0, b"123", **ALICE)).status_code == 204
        assert (await server.patch(path, 3, b"45", **ALICE)).status_code == 204
        named = TUS | {"X-Who": "alice"}
        assert (await server.client.head(path, headers=named)).headers["Upload-Offset"] == "5"
        assert (await server.client.get(path, headers=named)).content == b"12345"
        assert (await server.client.delete(path, headers=named)).status_code == 204


async def test_what_has_no_owner_is_there_for_all_that_are_let_in(tmp_path: Path) -> None:
    """So uploads go on that were begun before anybody was asked."""
    async with running(tmp_path, authorize=by_name) as server:
        path = await server.create(5)
        assert (await server.record(path)).principal is None
        assert (await server.patch(path, 0, b"12345", **BOB)).status_code == 204


async def test_where_nobody_is_asked_owners_are_not_looked_at(tmp_path: Path) -> None:
    """Whoever switches it off can go on with what there is."""
    async with running(tmp_path, authorize=by_name) as server:
        path = await server.create(5, **ALICE)
    async with running(tmp_path) as server:
        assert (await server.patch(path, 0, b"12345")).status_code == 204
        assert await server.bytes_of(path) == b"12345"
        assert (await server.record(path)).principal == "alice"


async def test_one_who_may_have_all(tmp_path: Path) -> None:
    async def authorize(access: Access) -> Grant:
        who = access.request.headers.get("x-who", "")
        return Grant(principal=who, has_all=who == "root")

    async with running(tmp_path, authorize=authorize) as server:
        path = await server.create(5, **ALICE)
        assert (await server.patch(path, 0, b"12345", X_Who="root")).status_code == 204


async def test_a_final_may_only_name_parts_of_its_owner(tmp_path: Path) -> None:
    """Otherwise a final upload would be a way to read any other."""
    async with running(tmp_path, authorize=by_name) as server:
        hers = await server.whole(b"secret", Upload_Concat="partial", **ALICE)
        his = await server.whole(b"his", Upload_Concat="partial", **BOB)
        nothing = await server.post(Upload_Concat=f"final;{his} {BASE}none", **BOB)
        refused = await server.post(Upload_Concat=f"final;{his} {hers}", **BOB)
        assert refused.status_code == nothing.status_code == 400
        assert refused.text == nothing.text.replace(BASE + "none", hers)
        assert len(await server.records()) == 2
        assert (await server.post(Upload_Concat=f"final;{hers}", **ALICE)).status_code == 201


async def test_functions_learn_whose_it_is(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    async def on_create(new: NewUpload) -> None:
        seen.append(("new", new.principal))

    async def on_finish(upload: FinishedUpload) -> None:
        seen.append(("finished", upload.principal))

    hooks: dict[str, Any] = {"on_create": on_create, "on_finish": on_finish}
    async with running(tmp_path, authorize=by_name, **hooks) as server:
        await server.whole(b"1", **ALICE)
        await server.whole(b"1")
    assert seen == [("new", "alice"), ("finished", "alice"), ("new", None), ("finished", None)]


async def test_what_authorize_returns_by_mistake_lets_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def authorize(_: Access) -> Any:
        return False

    async with running(tmp_path, authorize=authorize) as server:
        assert (await server.post(Upload_Length="5")).status_code == 500
        assert "authorize returned <class 'bool'>" in caplog.text
        assert await server.records() == []


# Limits of one's own


async def test_a_grant_limits_what_it_lets_in(tmp_path: Path) -> None:
    async def authorize(_: Access) -> Grant:
        return Grant(principal="alice", max_size=10)

    async with running(tmp_path, authorize=authorize, max_size=100) as server:
        assert (await server.post(Upload_Length="11")).status_code == 413
        assert (await server.post(b"12345678901", Upload_Defer_Length="1")).status_code == 413
        path = await server.create()
        assert (await server.patch(path, 0, b"1", Upload_Length="11")).status_code == 413
        asked = server.patching(path, 0)
        asked.feed(b"12345678901", more=False)
        assert await asked.answered() == 413
        assert (await server.patch(path, 0, b"1234567890")).status_code == 204


async def test_parts_together_keep_to_the_limit(tmp_path: Path) -> None:
    """Also where a length comes later, when nobody knows of the limit any more."""

    async def authorize(_: Access) -> Grant:
        return Grant(principal="alice", max_size=10)

    async with running(tmp_path, authorize=authorize) as server:
        parts = [await server.create(6, Upload_Concat="partial") for _ in range(2)]
        late = await server.create(Upload_Concat="partial")
        answer = await server.post(Upload_Concat="final;" + " ".join(parts))
        assert answer.status_code == 413
        answer = await server.post(Upload_Concat=f"final;{late}")
        assert (answer.status_code, answer.text.partition(":")[0]) == (403, "ERR_NOT_ALLOWED")
        assert (await server.post(Upload_Concat=f"final;{parts[0]}")).status_code == 201


# At the end of a long body


class Badge:
    """Lets in as long as it counts."""

    def __init__(self) -> None:
        self.counts = True
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, access: Access) -> str:
        self.asked.append((access.verb, access.upload_id))
        if not self.counts:
            raise Reject(401, "not any more", {"WWW-Authenticate": "Bearer"})
        return "alice"


@pytest.mark.parametrize("how", ["plain", "checksum"])
async def test_who_is_let_in_no_more_ends_no_upload(tmp_path: Path, how: str) -> None:
    """A body may take hours; it ends with a file that somebody works with."""
    badge = Badge()
    finished: list[str] = []

    async def on_finish(upload: FinishedUpload) -> None:
        finished.append(upload.id)

    async with running(tmp_path, authorize=badge, on_finish=on_finish) as server:
        path = await server.create(10)
        await server.patch(path, 0, b"1234")
        sha1 = "sha1 zOQinTpEbGh/I957XuNMBXz8nZA="
        checksum = {"Upload_Checksum": sha1} if how == "checksum" else {}
        asked = server.patching(path, 4, 6, **checksum)
        asked.feed(b"567")
        await until(lambda: asked.taken)
        server.clock.now += 3600
        badge.counts = False
        asked.feed(b"890", more=False)
        assert await asked.answered() == 401
        assert asked.headers["www-authenticate"] == "Bearer"
        assert finished == []
        badge.counts = True
        assert await server.offset(path) == 4, "what was acknowledged is there, and no more"
        assert (await server.patch(path, 4, b"567890")).status_code == 204
        assert finished == [id_of(path)]
        assert await server.bytes_of(path) == b"1234567890"


async def test_a_signed_url_that_ends_while_a_body_comes(tmp_path: Path) -> None:
    """What it had acknowledged goes on with a new one."""
    clock = Clock()
    signed = SignedUrls(["a secret key of 32 characters..."], clock)
    async with running(tmp_path, authorize=signed) as server:
        server.tus.services.clock = clock
        answer = await server.client.post(
            signed.sign(BASE, lasts=60), headers=TUS | {"Upload-Length": "10"}
        )
        url = answer.headers["Location"]
        path, _, query = url.partition("testserver")[2].partition("?")
        await server.client.patch(
            url, headers=TUS | OFFSET_TYPE | {"Upload-Offset": "0"}, content=b"1234"
        )
        asked = server.patching(path, 4, 6, query=query)
        asked.feed(b"567")
        await until(lambda: asked.taken)
        clock.now += 3600
        asked.feed(b"890", more=False)
        assert await asked.answered() == 401
        assert b"this signed URL has ended" in asked.body
        again = signed.sign(path, lasts=60)
        head = await server.client.head(again, headers=TUS)
        assert head.headers["Upload-Offset"] == "4"
        done = await server.client.patch(
            again, headers=TUS | OFFSET_TYPE | {"Upload-Offset": "4"}, content=b"567890"
        )
        assert (done.status_code, done.headers["Upload-Offset"]) == (204, "10")


async def test_before_the_last_byte_it_is_not_asked_again(tmp_path: Path) -> None:
    """What came is kept, and the next request is asked."""
    badge = Badge()
    async with running(tmp_path, authorize=badge) as server:
        path = await server.create(10)
        asked = server.patching(path, 0, 6)
        asked.feed(b"123")
        await until(lambda: asked.taken)
        server.clock.now += 3600
        badge.counts = False
        asked.feed(b"456", more=False)
        assert await asked.answered() == 204
        assert badge.asked == [("create", None), ("append", id_of(path))]
        badge.counts = True
        assert await server.offset(path) == 6


async def test_a_post_that_ends_without_authority_leaves_nothing(tmp_path: Path) -> None:
    """Nobody learns of its URL."""
    badge = Badge()
    async with running(tmp_path, authorize=badge) as server:
        size = {"Upload_Length": "6", "Content_Length": "6"}
        asked = server.ask("POST", BASE, **OFFSET_TYPE, **size)
        asked.feed(b"123")
        await until(lambda: asked.taken)
        server.clock.now += 3600
        badge.counts = False
        asked.feed(b"456", more=False)
        assert await asked.answered() == 401
        assert badge.asked == [("create", None)] * 2
        (left,) = await server.records()
        assert (left.phase, left.released) == (Phase.TERMINATED, True)
        assert server.files() == []


# Every door


class Touched(StorageFailed):
    """Something was reached that nobody was let in to."""


class Sealed:
    """Stands where storage or state would."""

    def __init__(self, touched: list[str]) -> None:
        self._touched = touched

    def __getattr__(self, name: str) -> Any:
        self._touched.append(name)
        raise Touched


PATHS = [
    BASE,
    BASE.rstrip("/"),
    BASE + "{id}",
    BASE + "{id}/",
    BASE + "{id}?x=y",
    BASE + "a/b",
    BASE + "%2e%2e",
    BASE + "{id}%00",
    "//files/{id}",
    "/",
    "/healthz",
    "/metrics",
    "/files/../files/{id}",
    "/api/uploads",
    "/api/uploads?state=complete&limit=1&parts=1",
    "/api/uploads/",
    "/api/uploads/{id}",
    "/api/stats",
    "/events",
    BASE + "{id}/events",
]
METHODS = ["OPTIONS", "HEAD", "GET", "POST", "PATCH", "PUT", "DELETE", "PROPFIND"]
HEADS: list[dict[str, str]] = [
    {},
    TUS,
    TUS | {"Upload-Length": "0"},
    TUS | {"Upload-Length": "5", "Upload-Metadata": "filename eA=="},
    TUS | OFFSET_TYPE | {"Upload-Length": "5", "Content-Length": "5"},
    TUS | OFFSET_TYPE | {"Upload-Offset": "0", "Content-Length": "5"},
    TUS | OFFSET_TYPE | {"Upload-Offset": "0", "Content-Length": "5", "Upload-Length": "9"},
    TUS | {"Upload-Offset": "0", "Content-Type": "text/plain", "Content-Length": "5"},
    TUS | {"Upload-Concat": "partial", "Upload-Length": "5"},
    TUS | {"Upload-Concat": "final;/files/{id} /files/{id}"},
    TUS | {"Range": "bytes=0-1"},
    TUS | {"If-None-Match": "*"},
    {"Tus-Resumable": "0.2.2", "Upload-Offset": "0"},
    {"Origin": "https://page.test", "Access-Control-Request-Method": "PATCH"},
]


@contextlib.contextmanager
def sealed(server: Running) -> Iterator[list[str]]:
    """Storage and state are out of reach: what somebody reached for."""
    services, touched = server.tus.services, list[str]()
    kept = services.storage, services.state
    services.storage = services.state = Sealed(touched)
    try:
        yield touched
    finally:
        services.storage, services.state = kept


async def scan(
    server: Running, upload_id: str, paths: list[str]
) -> list[tuple[str, str, int, list[str]]]:
    """Each method, and each override, on each path with each head: what was touched by it."""
    app = ServerApp(server.tus, BASE, "/metrics")
    found = []
    with sealed(server) as touched:
        for path in paths:
            for method in METHODS:
                for override in (None, *METHODS):
                    for head in HEADS:
                        given = {name: value.format(id=upload_id) for name, value in head.items()}
                        if override is not None:
                            given["X-HTTP-Method-Override"] = override
                        touched.clear()
                        status = await asked_of(app, method, path.format(id=upload_id), given)
                        at_once(server, method, path.format(id=upload_id), given)
                        what = f"{method} {override} {path} {head}"
                        found.append((what, method, status, list(touched)))
    return found


def at_once(server: Running, method: str, url: str, headers: dict[str, str]) -> None:
    """The other door, for small bodies that are there."""
    scope = scope_of(method, url, headers)
    with contextlib.suppress(StorageFailed):
        server.tus.answer_at_once(scope, b"12345", BASE)


def scope_of(method: str, url: str, headers: dict[str, str]) -> dict[str, Any]:
    path, _, query = url.partition("?")
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path.replace("%00", "\0").replace("%2e", "."),
        "query_string": query.encode(),
        "scheme": "http",
        "server": ("testserver", 80),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }


async def asked_of(app: Any, method: str, url: str, headers: dict[str, str]) -> int:
    status = [0]
    body = [{"type": "http.request", "body": b"12345", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return body.pop() if body else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status[0] = message["status"]

    await app(scope_of(method, url, headers), receive, send)
    return status[0]


async def test_no_route_and_no_verb_reaches_storage_without_authority(tmp_path: Path) -> None:
    """One door that was forgotten is as good as none that is closed."""
    verbs: set[str] = set()

    async def nobody(access: Access) -> None:
        verbs.add(access.verb)
        raise Reject(401, "who are you?")

    async with running(tmp_path, authorize=nobody) as server:
        found = await scan(server, "0" * 32, PATHS)
        assert [each for each in found if each[3]] == []
        # Whether there is room is nobody's upload.
        ready = await scan(server, "0" * 32, ["/readyz"])
        assert {name for *_, touched in ready for name in touched} == {"is_short"}
        assert verbs == {
            "create",
            "append",
            "query",
            "terminate",
            "download",
            "list",
            "stats",
            "watch",
            "control",
        }
        assert {status for _, _, status, _ in found} <= {200, 204, 400, 401, 404, 405, 412, 415}


async def test_the_scan_sees_what_is_touched(tmp_path: Path) -> None:
    """Or it could not fail."""
    async with running(tmp_path, authorize=by_name) as server:
        found = await scan(server, "0" * 32, [*PATHS[:3], "/api/stats", "/api/uploads"])
    touching = {method for _, method, _, touched in found if touched}
    assert {"newest", "count_open"} <= {name for *_, touched in found for name in touched}
    assert touching >= {"HEAD", "GET", "POST", "PATCH", "DELETE"}


COMMANDS: list[dict[str, object]] = [
    {"command": "pause"},
    {"command": "resume"},
    {"command": "speed", "max_speed": 2048},
    {"command": "terminate"},
]


async def test_no_socket_reaches_storage_without_authority(tmp_path: Path) -> None:
    """Neither who connects, nor who may listen and asks for more."""
    allowed = {"create"}

    async def only(access: Access) -> None:
        if access.verb not in allowed:
            raise Reject(401, "who are you?")

    settings = Settings(base_path=BASE, http=HttpSettings(websockets=True))
    async with running(tmp_path, authorize=only, settings=settings) as server:
        upload_id = id_of(await server.create(5))
        app = ServerApp(server.tus, BASE, "/metrics")
        with sealed(server) as touched:
            for path in PATHS:
                talk = Talk(app, path.format(id=upload_id))
                await talk.ended()
                assert [each["type"] for each in talk.sent] == ["websocket.close"], path
        assert touched == []
        allowed.add("watch")
        talk = Talk(app, "/events")
        await until(lambda: "ready" in talk.events(), within=30)
        with sealed(server) as touched:
            for command in COMMANDS:
                talk.say(command | {"upload": upload_id})
            await until(lambda: talk.events().count("error") == len(COMMANDS), within=30)
            heard = {"events_after"}  # what the listener is told
            assert {*touched} <= heard
            # Or it could not fail.
            allowed.add("terminate")
            talk.say({"command": "terminate", "upload": upload_id})
            await until(lambda: {*touched} - heard, within=30)
        talk.leave()
        await talk.ended()


class Talk:
    """A client of a WebSocket."""

    def __init__(self, app: ServerApp, path: str) -> None:
        self.sent: list[Message] = []
        self._coming: asyncio.Queue[Message] = asyncio.Queue()
        self._coming.put_nowait({"type": "websocket.connect"})
        scope = scope_of("GET", path, {}) | {"type": "websocket", "scheme": "ws"}
        self._task = asyncio.create_task(app(scope, self._coming.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def say(self, command: dict[str, object]) -> None:
        self._coming.put_nowait({"type": "websocket.receive", "text": json.dumps(command)})

    def events(self) -> list[str]:
        """Names of what came."""
        return [json.loads(each["text"])["event"] for each in self.sent if "text" in each]

    def leave(self) -> None:
        self._coming.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def ended(self) -> None:
        await asyncio.wait_for(self._task, 30)


async def test_parts_are_looked_for_when_all_of_them_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_theirs(access: Access) -> None:
        if access.verb == "concatenate" and access.upload_id == "theirs":
            raise Reject(401, "not that one")

    looked: list[object] = []
    async with running(tmp_path, authorize=not_theirs) as server:
        part = await server.create(1, Upload_Concat="partial")
        load_many = server.tus.state.load_many

        async def counted(upload_ids: Sequence[str]) -> dict[str, Upload]:
            looked.append(upload_ids)
            return await load_many(upload_ids)

        monkeypatch.setattr(server.tus.state, "load_many", counted)
        answer = await server.post(Upload_Concat=f"final;{part} {BASE}theirs")
        assert (answer.status_code, looked) == (401, [])
        assert (await server.post(Upload_Concat=f"final;{part}")).status_code == 201
        assert looked


# Ids


async def test_an_id_cannot_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has at least 128 bits of the system's randomness, and nothing else in it."""
    drawn: list[int] = []
    token_hex = secrets.token_hex

    def counted(count: int) -> str:
        drawn.append(count)
        return token_hex(count)

    monkeypatch.setattr(secrets, "token_hex", counted)
    async with running(tmp_path, settings=Settings(base_path=BASE)) as server:
        drawn.clear()
        ids = [id_of(await server.create(1)) for _ in range(500)]
    assert drawn == [16] * 500
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert len({*ids}) == 500
    for place in range(32):
        assert {each[place] for each in ids} == {*string.hexdigits.lower()[:16]}
