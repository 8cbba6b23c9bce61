"""Hooks over a real connection: what goes out, what is tried again, and what ends in time."""

import hashlib
import hmac
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.hooks.hook_server import Asked, HookServer, Said, hook_server
from tusd_py.hooks.http import HttpCarrier, HttpSettings
from tusd_py.hooks.interface import RequestInfo, UploadInfo
from tusd_py.hooks.tusd import Call, NoAnswer

pytestmark = pytest.mark.anyio

REQUEST = RequestInfo(
    header_lines=(("cookie", "a=1"), ("authorization", "Bearer x"), ("cookie", "b=2"))
)
UPLOAD = UploadInfo(id="a", length=5, metadata={}, request=REQUEST)
CALL = Call(hook="pre-create", body=b'{"Type": "pre-create"}', upload=UPLOAD)


@pytest.fixture
def application() -> Iterator[HookServer]:
    with hook_server() as server:
        yield server


@asynccontextmanager
async def carrier(url: str, **settings: object) -> AsyncIterator[HttpCarrier]:
    quick = HttpSettings(url=url, backoff=0.01)
    made = HttpCarrier(replace(quick, **settings))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


async def test_a_call_is_posted_and_its_answer_returned(application: HookServer) -> None:
    application.answer = lambda _: Said({"RejectUpload": True})
    async with carrier(application.url) as made:
        assert await made.carry(CALL) == b'{"RejectUpload": true}'
    (asked,) = application.asked
    assert asked.body == CALL.body
    assert asked.header("Content-Type") == "application/json"
    assert asked.header("Tusd-Py-Event-Id") is None
    assert asked.header("Tusd-Py-Signature") is None
    assert asked.header("Cookie") is None, "nothing is forwarded unasked"


async def test_headers_of_the_client_go_along(application: HookServer) -> None:
    names = ("Cookie", "AUTHORIZATION", "X-Missing")
    async with carrier(application.url, forward_headers=names) as made:
        await made.carry(CALL)
    (asked,) = application.asked
    sent = [(name, value) for name, value in asked.headers if name in names]
    assert sent == [("Cookie", "a=1"), ("Cookie", "b=2"), ("AUTHORIZATION", "Bearer x")]


async def test_an_event_has_an_id_and_a_signature(application: HookServer) -> None:
    """Whoever gets it can tell a repetition, and that it comes from here."""
    call = replace(CALL, event_id="a-7")
    async with carrier(application.url, secret=b"s3cret") as made:
        await made.carry(call)
    (asked,) = application.asked
    assert asked.header("Tusd-Py-Event-Id") == "a-7"
    expected = hmac.new(b"s3cret", asked.body, hashlib.sha256).hexdigest()
    assert asked.header("Tusd-Py-Signature") == f"sha256={expected}"


@pytest.mark.parametrize(
    ("statuses", "tries"),
    [
        ([200], 1),
        ([500, 200], 2),
        ([503, 500, 204], 3),
        ([500, 500, 500], 3),
        ([400], 1),
        ([404], 1),
        ([302], 1),
    ],
)
async def test_what_may_pass_is_tried_again(
    application: HookServer, statuses: list[int], tries: int
) -> None:
    """As tusd's client does: what is 500 or more, three times in all."""
    left = list(statuses)
    application.answer = lambda _: Said(status=left.pop(0))
    async with carrier(application.url) as made:
        if statuses[-1] < 300:
            await made.carry(CALL)
        else:
            with pytest.raises(NoAnswer, match=f"^the answer has status {statuses[-1]}$"):
                await made.carry(CALL)
    assert len(application.asked) == tries


@pytest.mark.parametrize("status", [307, 308])
async def test_it_goes_on_to_where_it_is_sent(application: HookServer, status: int) -> None:
    """As tusd does: frameworks send `/hooks` to `/hooks/` so."""
    sent = {"Location": "/hooks/"}
    application.answer = lambda asked: (
        Said(status=status, headers=sent) if asked.path == "/hooks" else Said({"n": 1})
    )
    async with carrier(application.url, forward_headers=("Cookie",), secret=b"s") as made:
        assert await made.carry(CALL) == b'{"n": 1}'
    first, second = application.asked
    assert (first.path, second.path) == ("/hooks", "/hooks/")
    assert second.body == first.body == CALL.body
    assert second.headers == first.headers


async def test_no_other_host_is_told_credentials(application: HookServer) -> None:
    elsewhere = f"http://localhost:{application.port}/"
    application.answer = lambda asked: (
        Said(status=307, headers={"Location": elsewhere}) if asked.path == "/hooks" else Said()
    )
    names = ("Authorization", "Cookie")
    async with carrier(application.url, forward_headers=names) as made:
        await made.carry(replace(CALL, event_id="a-7"))
    first, second = application.asked
    assert [first.header(name) for name in names] == ["Bearer x", "a=1"]
    assert [second.header(name) for name in names] == [None, None]
    assert second.header("Tusd-Py-Event-Id") == "a-7"


async def test_redirections_without_end_are_no_answer(application: HookServer) -> None:
    application.answer = lambda _: Said(status=307, headers={"Location": "/hooks"})
    async with carrier(application.url) as made:
        with pytest.raises(NoAnswer, match=r"^more than 10 redirections$"):
            await made.carry(CALL)
    assert len(application.asked) == 11


async def test_a_cookie_of_one_client_does_not_go_along_with_the_next(
    application: HookServer,
) -> None:
    """An application that knows its users by the cookie would take one for another."""
    application.answer = lambda _: Said(headers={"Set-Cookie": "session=alice; Path=/"})
    async with carrier(application.url, forward_headers=("Cookie",)) as made:
        await made.carry(CALL)
        await made.carry(replace(CALL, upload=replace(UPLOAD, request=RequestInfo())))
    assert [asked.header("Cookie") for asked in application.asked] == ["a=1", None]


async def test_a_server_that_is_not_there_is_tried_again(application: HookServer) -> None:
    application.stop()
    async with carrier(application.url, attempts=2) as made:
        with pytest.raises(NoAnswer, match="ConnectError"):
            await made.carry(CALL)
        application.start()
        assert await made.carry(CALL) == b"{}"


async def test_all_attempts_together_have_a_time_limit(application: HookServer) -> None:
    """Or a creation would hang as long as the hook server does."""
    never = threading.Event()

    def hang(_: Asked) -> Said:
        return Said(after=never)

    application.answer = hang
    try:
        async with carrier(application.url, timeout=0.2) as made:
            with pytest.raises(NoAnswer, match=r"^no answer within 0\.2 s$"):
                await made.carry(CALL)
    finally:
        never.set()


async def test_a_long_answer_is_not_read_to_its_end(application: HookServer) -> None:
    application.answer = lambda _: Said(body=b" " * 100_000)
    async with carrier(application.url, size_limit=100) as made:
        with pytest.raises(NoAnswer, match="longer than 100 bytes"):
            await made.carry(CALL)
    assert len(application.asked) == 1


async def test_no_proxy_stands_before_loopback(
    application: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Go: what an environment says of proxies is not for what runs beside us."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with carrier(application.url) as made:
        assert await made.carry(CALL) == b"{}"
