"""What one client may take of the server: enough for anybody honest, and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.asgi import raw
from tests.asgi.in_process import BASE, TUS, Running, path_of, running, until
from tests.asgi.test_at_once import HERE, NEW, at_once
from tests.serving import serving
from tusd_py.app import Settings
from tusd_py.asgi import body as asgi_body
from tusd_py.asgi.rates import Rates
from tusd_py.asgi.settings import HttpSettings
from tusd_py.engine.keeper import tick
from tusd_py.engine.open_uploads import COUNT_EVERY
from tusd_py.hooks.events import LimitReached, Observed
from tusd_py.hooks.interface import Access, FinishedUpload, NewUpload
from tusd_py.protocol.errors import NotAuthenticated, Rejected
from tusd_py.wiring.server import ServerApp

pytestmark = pytest.mark.anyio

PROXIED = HttpSettings(behind_proxy=True)
HELLO = b"hello world"

Limited = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def limited(tmp_path: Path) -> Limited:
    """Two uploads may be open for a client, and three in all."""
    settings = Settings(
        base_path=BASE, http=PROXIED, max_open_per_client=2, max_open_uploads=3, min_free_disk=0
    )
    return partial(running, tmp_path, settings=settings, fsync="never")


def refused(server: Running) -> list[str]:
    """The names of the limits that refuse something from now on."""
    limits: list[str] = []

    def note(event: Observed) -> None:
        if isinstance(event, LimitReached):
            limits.append(event.limit)

    server.tus.add_observer(note)
    return limits


async def create(server: Running, address: str, **headers: str) -> httpx.Response:
    return await server.post(Upload_Length="11", X_Forwarded_For=address, **headers)


async def fill(server: Running, address: str) -> list[str]:
    """The paths of as many uploads as a client may have open."""
    answers = [await create(server, address) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    return list(map(path_of, answers))


class TestOpenUploads:
    async def test_one_more_than_a_client_may_have_is_429(self, limited: Limited) -> None:
        async with limited() as server:
            limits = refused(server)
            here = await fill(server, "198.51.100.1")
            answer = await create(server, "198.51.100.1")
            assert answer.status_code == 429
            assert answer.headers["Retry-After"] == "60"
            assert answer.text.startswith("ERR_TOO_MANY_UPLOADS: you have 2 unfinished uploads")
            assert limits == ["open-uploads-per-client"]
            assert len(await server.records()) == 2
            # What is begun goes on, and is never told so by a HEAD: tus-js-client begins anew then.
            assert await server.offset(here[0]) == 0
            assert (await server.patch(here[0], 0, HELLO[:5])).status_code == 204
            assert (await create(server, "198.51.100.2")).status_code == 201

    async def test_one_more_than_all_may_have_is_503(self, limited: Limited) -> None:
        """It is not for the client to mend, and it tries again by itself."""
        async with limited() as server:
            limits = refused(server)
            await fill(server, "198.51.100.1")
            assert (await create(server, "198.51.100.2")).status_code == 201
            answer = await create(server, "198.51.100.2")
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "60"
            assert answer.text.startswith("ERR_TOO_MANY_UPLOADS: the server has 3 unfinished")
            assert limits == ["open-uploads"]

    @pytest.mark.parametrize("quick", [True, False])
    @pytest.mark.parametrize("way", ["finished", "terminated", "expired", "refused"])
    async def test_whatever_ends_makes_room(self, limited: Limited, way: str, quick: bool) -> None:
        async def on_finish(upload: FinishedUpload) -> None:
            raise Rejected(422, "no")

        hooks = {"on_finish": on_finish} if way == "refused" else {}
        async with limited(**hooks, expire_after=3600) as server:
            server.takes_disk_for(quick=quick)
            first, _ = await fill(server, "198.51.100.1")
            if way == "terminated":
                await server.delete(first)
            elif way == "expired":
                server.clock.now += 3601
                await server.tus.sweep()
            else:
                await server.patch(first, 0, HELLO)
            left = 2 if way == "expired" else 1
            statuses = [(await create(server, "198.51.100.1")).status_code for _ in range(3)]
            assert statuses == [201] * left + [429] * (3 - left)

    async def test_what_comes_whole_is_never_open(self, limited: Limited) -> None:
        async with limited() as server:
            for _ in range(5):
                answer = await server.post(
                    HELLO, Upload_Length="11", X_Forwarded_For="198.51.100.1"
                )
                assert answer.status_code == 201

    async def test_a_principal_is_one_client_from_wherever(self, limited: Limited) -> None:
        """And all who share an address are not."""

        async def authorize(access: Access) -> str:
            return access.request.headers["x-user"]

        async with limited(authorize=authorize) as server:
            for number in range(2):
                answer = await create(server, f"198.51.100.{number}", X_User="alice")
                assert answer.status_code == 201
            assert (await create(server, "198.51.100.9", X_User="alice")).status_code == 429
            assert (await create(server, "198.51.100.0", X_User="bob")).status_code == 201
            assert {upload.client for upload in await server.records()} == {None}

    async def test_it_holds_for_what_is_answered_at_once(self, limited: Limited) -> None:
        async with limited() as server:
            server.takes_disk_for(quick=True)
            paths = []
            new = NEW | {"X-Forwarded-For": "198.51.100.1"}
            for _ in range(2):
                said = at_once(server, "POST", BASE, new)
                assert said is not None
                paths.append(httpx.URL(said[1]["Location"]).path)
            assert at_once(server, "POST", BASE, new) is None, "it is for the long way to refuse"
            assert len(await server.records()) == 2
            assert at_once(server, "PATCH", paths[0], HERE, HELLO) is not None
            assert at_once(server, "POST", BASE, new) is not None
            assert {upload.client for upload in await server.records()} == {"198.51.100.1"}

    @pytest.mark.parametrize("quick", [True, False])
    async def test_it_holds_for_those_that_wait_for_the_application(
        self, limited: Limited, quick: bool
    ) -> None:
        """While each of them is asked about, none of them is open yet."""
        asked, answer = 0, asyncio.Event()

        async def on_create(upload: NewUpload) -> None:
            nonlocal asked
            asked += 1
            await answer.wait()

        async with limited(on_create=on_create) as server:
            server.takes_disk_for(quick=quick)
            creating = [asyncio.create_task(create(server, "198.51.100.1")) for _ in range(5)]
            await until(lambda: asked == 5)
            answer.set()
            statuses = sorted([(await each).status_code for each in creating])
            assert statuses == [201] * 2 + [429] * 3
            assert len(await server.records()) == 2

    async def test_it_holds_over_a_restart(self, limited: Limited) -> None:
        async with limited() as server:
            await fill(server, "198.51.100.1")
        async with limited() as server:
            assert (await create(server, "198.51.100.1")).status_code == 429

    async def test_what_others_do_and_what_expires_counts_soon(self, limited: Limited) -> None:
        """Another worker counts for itself; the records are everyone's."""
        async with limited(expire_after=3600) as server:
            await fill(server, "198.51.100.1")
            await server.tus.state.insert(
                (await server.records())[0]._replace(id="other", client="198.51.100.2")
            )
            server.clock.now += COUNT_EVERY
            await tick(server.tus.services)
            assert (await create(server, "198.51.100.2")).status_code == 503
            server.clock.now += 3600
            await tick(server.tus.services)
            assert (await create(server, "198.51.100.1")).status_code == 201

    async def test_where_no_limit_holds_no_address_is_on_record(self, tmp_path: Path) -> None:
        settings = Settings(base_path=BASE, http=PROXIED, max_open_uploads=None)
        async with running(tmp_path, settings=settings) as server:
            for _ in range(5):
                assert (await create(server, "198.51.100.1")).status_code == 201
            assert {upload.client for upload in await server.records()} == {None}


class TestRequests:
    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncIterator[Running]:
        """A client may send one request in 100 seconds."""
        http = HttpSettings(behind_proxy=True, max_requests=0.01)
        settings = Settings(base_path=BASE, http=http)
        async with running(tmp_path, settings=settings, fsync="never") as server:
            yield server

    async def test_one_too_many_is_429(self, server: Running) -> None:
        limits = refused(server)
        path = path_of(await create(server, "198.51.100.1"))
        for answer in (
            await create(server, "198.51.100.1"),
            await server.patch(path, 0, HELLO, X_Forwarded_For="198.51.100.1"),
            await server.client.get(path, headers={"X-Forwarded-For": "198.51.100.1"}),
        ):
            assert answer.status_code == 429
            assert 60 <= int(answer.headers["Retry-After"]) <= 90
            assert answer.text.startswith("ERR_TOO_MANY_REQUESTS: you send more than 0.01 requests")
        assert limits == ["requests"] * 3
        assert (await create(server, "198.51.100.2")).status_code == 201

    async def test_a_head_and_a_preflight_are_always_answered(self, server: Running) -> None:
        """After a HEAD that is refused tus-js-client begins anew."""
        path = path_of(await create(server, "198.51.100.1"))
        headers = TUS | {"X-Forwarded-For": "198.51.100.1"}
        for _ in range(3):
            assert (await server.client.head(path, headers=headers)).status_code == 200
            assert (await server.client.options(path, headers=headers)).status_code == 204
        assert (await create(server, "198.51.100.1")).status_code == 429

    @pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "DELETE", "BREW"])
    async def test_what_is_refused_counts_as_well(self, server: Running, method: str) -> None:
        """Or whoever tries ids, or tokens, may do so as often as he likes."""
        headers = {"X-Forwarded-For": "198.51.100.1"}
        path = BASE if method == "POST" else BASE + "unknown"
        statuses = []
        for _ in range(3):
            answer = await server.client.request(method, path, headers=headers)
            statuses.append(answer.status_code)
        assert 400 <= statuses[0] < 429
        assert statuses[1:] == [429, 429]
        assert (await create(server, "198.51.100.2")).status_code == 201

    async def test_so_does_what_is_asked_beside_tus(self, server: Running) -> None:
        limits = refused(server)
        site = httpx.ASGITransport(ServerApp(server.tus, BASE, None))
        async with httpx.AsyncClient(transport=site, base_url="http://testserver") as client:
            paths = ("/api/uploads", "/api/stats", "/api/uploads/none", BASE + "none/events")
            for number, path in enumerate((*paths, "/events")):
                headers = {"X-Forwarded-For": f"198.51.100.{number}"}
                if path == "/events":  # it would not end
                    await client.get("/api/uploads", headers=headers)
                else:
                    assert (await client.get(path, headers=headers)).status_code in (200, 404)
                assert (await client.options("/api/stats", headers=headers)).status_code == 204
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.text[:21]) == (429, "ERR_TOO_MANY_REQUESTS")
        assert limits == ["requests"] * 5

    async def test_a_principal_is_one_client_from_wherever(self, tmp_path: Path) -> None:
        """Whoever is let in pays for nobody who shares his address and is not."""

        async def authorize(access: Access) -> str:
            if "x-user" not in access.request.headers:
                raise NotAuthenticated("send a token")
            return access.request.headers["x-user"]

        http = HttpSettings(behind_proxy=True, max_requests=0.01)
        settings = Settings(base_path=BASE, http=http)
        async with running(tmp_path, settings=settings, authorize=authorize) as server:
            said = [
                (await create(server, address, **headers)).status_code
                for address, headers in (
                    ("1.1.1.1", {}),
                    ("1.1.1.1", {}),
                    ("1.1.1.1", {"X_User": "alice"}),
                    ("2.2.2.2", {"X_User": "alice"}),
                    ("1.1.1.1", {"X_User": "bob"}),
                    ("2.2.2.2", {}),
                )
            ]
        assert said == [401, 429, 201, 429, 201, 401]

    async def test_it_holds_for_what_is_answered_at_once(self, server: Running) -> None:
        server.takes_disk_for(quick=True)
        new = NEW | {"X-Forwarded-For": "198.51.100.1"}
        assert at_once(server, "POST", BASE, new) is not None
        assert at_once(server, "POST", BASE, new) is None, "it is for the long way to refuse"
        assert (await create(server, "198.51.100.1")).status_code == 429
        assert at_once(server, "POST", BASE, NEW | {"X-Forwarded-For": "1.1.1.1"}) is not None

    def test_it_goes_on_as_time_does(self) -> None:
        """At the rate it may go on for ever; a burst has to be made up for."""
        rates = Rates(2)
        for number in range(1000):
            assert rates.wait("a", number / 2) == 0
            rates.add("a", number / 2)
        sent = 0
        while not rates.wait("b", 50.0):
            rates.add("b", 50.0)
            sent += 1
        assert sent == 21
        assert rates.wait("b", 50.0) == pytest.approx(0.5)
        assert rates.wait("b", 50.5) == 0
        assert rates.wait("c", 50.0) == 0

    def test_whoever_is_gone_is_forgotten(self) -> None:
        """Or each address of the internet would cost memory for ever."""
        rates = Rates(1)
        for number in range(50_000):
            rates.add(f"{number}", number / 10)
        assert len(rates._until) < 10_000
        assert rates.wait("49999", 4999.9) == 0
        for _ in range(20):
            rates.add("49999", 5000.0)
        assert rates.wait("49999", 5000.0) > 0


BEYOND: dict[str, tuple[str, dict[str, str], int]] = {
    "size": ("POST", NEW | {"Upload-Length": "101"}, 413),
    "size, told late": ("PATCH", HERE | {"Upload-Length": "101"}, 413),
    "metadata-size": ("POST", NEW | {"Upload-Metadata": "filename YWFhYWE="}, 400),
    "free-disk": ("POST", NEW, 507),
    "free-disk, for bytes": ("PATCH", HERE, 507),
}


@pytest.mark.parametrize("case", BEYOND)
async def test_no_limit_is_passed_by_what_is_answered_at_once(tmp_path: Path, case: str) -> None:
    """It refuses nothing itself, and so has to leave alone whatever is to be refused."""
    settings = Settings(base_path=BASE, max_metadata=16, min_free_disk=1)
    async with running(tmp_path, settings=settings, max_size=100, fsync="never") as server:
        server.takes_disk_for(quick=True)
        limits = refused(server)
        path = await server.create()
        if case.startswith("free-disk"):
            server.tus.services.limits = replace(server.tus.services.limits, min_free_disk=1 << 60)
        before = await server.records()
        method, headers, status = BEYOND[case]
        body = HELLO if method == "PATCH" else b""
        where = path if method == "PATCH" else BASE
        assert at_once(server, method, where, headers, body) is None
        assert limits == []
        said = await server.client.request(method, where, headers=TUS | headers, content=body)
        assert said.status_code == status
        assert limits == [case.partition(",")[0]]
        assert await server.records() == before
        assert server.size(path) == 0


@pytest.mark.parametrize(
    ("limit", "http"),
    [
        ("network-timeout", HttpSettings(network_timeout=0.05, slowest_speed=0)),
        ("slowest-speed", HttpSettings(slowest_speed=10**9)),
    ],
)
async def test_a_body_that_hardly_comes_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, http: HttpSettings
) -> None:
    monkeypatch.setattr(asgi_body, "_MEASURE_FOR", 0.05)
    async with running(tmp_path, settings=Settings(base_path=BASE, http=http)) as server:
        limits = refused(server)
        path = await server.create(10**6)
        asked = server.patching(path, 0, 10**6)
        asked.feed(b"x")

        async def trickle() -> None:
            while limit == "slowest-speed":
                await asyncio.sleep(0.01)
                asked.feed(b"x")

        trickling = asyncio.create_task(trickle())
        await until(lambda: limits, within=30)
        trickling.cancel()
        asked.vanish()
        assert await asked.answered() == 503
        assert limits == [limit]


def test_the_limits_of_the_command_line(tmp_path: Path) -> None:
    """Each is a flag, and shows in the metrics."""
    flags = ("--max-open-uploads-per-client", "2", "--max-open-uploads", "3", "--behind-proxy")
    with serving(tmp_path / "uploads", *flags) as server:
        statuses = []
        for address in ("1.1.1.1", "1.1.1.1", "1.1.1.1", "2.2.2.2", "2.2.2.2"):
            headers = raw.PATCH_HEAD | {"Upload-Length": "5", "X-Forwarded-For": address}
            del headers["Content-Type"]
            with raw.connected(server.port) as connection:
                statuses.append(connection.ask("POST", "/files/", headers).status)
        with raw.connected(server.port) as connection:
            metrics = connection.ask("GET", "/metrics", {}).body.decode()
    assert statuses == [201, 201, 429, 201, 503]
    assert 'tusd_refused_total{limit="open-uploads"} 1.0' in metrics
    assert 'tusd_refused_total{limit="open-uploads-per-client"} 1.0' in metrics
