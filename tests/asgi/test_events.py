"""Streams of what happens to uploads: nothing is missed, and nothing is told to others."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.in_process import BASE, Asked, Running, id_of, running, until
from tusd_py import Access, FinishedUpload, Grant, Reject
from tusd_py.asgi import events
from tusd_py.engine import watching
from tusd_py.engine.watching import KEEPS, Listener, Told
from tusd_py.wiring.server import ServerApp

pytestmark = pytest.mark.anyio


async def by_name(access: Access) -> Grant:
    """Believes what a request says of itself."""
    who = access.request.headers.get("x-who", "")
    return Grant(principal=who, has_all=who == "root")


class Stream:
    """A stream of events that somebody reads."""

    def __init__(self, server: Running, path: str = "/events", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        app = ServerApp(server.tus, BASE, None)
        self.asked = Asked(app, "GET", path, named, query)
        self.asked.feed(b"", more=False)

    @property
    def events(self) -> list[tuple[str, str | None, dict[str, Any]]]:
        """Name, id and data of what has come."""
        found = []
        for frame in self.asked.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line)
            if "event" in fields:
                found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
        return found

    def names(self, *, of: str | None = None) -> list[str]:
        """The names of all but progress."""
        return [
            name
            for name, _, data in self.events
            if name != "progress" and (of is None or data.get("id") == id_of(of))
        ]

    @property
    def last_id(self) -> str:
        """For `Last-Event-ID`."""
        return [event_id for _, event_id, _ in self.events if event_id is not None][-1]

    async def has(self, *names: str) -> None:
        """Until these have come, and nothing else."""
        await until(lambda: len(self.names()) >= len(names))
        assert self.names() == [*names]

    async def ended(self) -> int:
        """Until it has ended: the status."""
        return await self.asked.answered()

    async def leave(self) -> None:
        """The reader goes away."""
        self.asked.vanish()
        await self.ended()


async def test_the_life_of_an_upload(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        path = await server.create(10)
        stream = Stream(server, path + "/events")
        await stream.has("ready")
        assert stream.asked.headers["content-type"] == "text/event-stream"
        assert stream.asked.body.startswith(b"retry: 1000\n\n")
        ready = stream.events[0][2]["upload"]
        assert (ready["id"], ready["offset"], ready["state"]) == (id_of(path), 0, "receiving")
        asked = server.patching(path, 0, 10)
        asked.feed(b"1234")
        await until(lambda: [each for each in stream.events if each[2].get("offset") == 4])
        name, event_id, data = stream.events[-1]
        assert (name, event_id, data["id"], data["length"]) == ("progress", None, id_of(path), 10)
        assert data["speed"] > 0
        asked.feed(b"567890", more=False)
        await asked.answered()
        assert await stream.ended() == 200
        assert stream.names() == ["ready", "finished"]
        done = stream.events[-1][2]["upload"]
        assert (done["state"], done["offset"], done["download"]) == ("complete", 10, True)

        again = Stream(server, path + "/events", Last_Event_ID=stream.last_id)
        assert await again.ended() == 204, "a browser would come back for ever"
        missed = Stream(server, path + "/events", Last_Event_ID=str(stream.events[0][1]))
        assert await missed.ended() == 200
        assert missed.names() == ["finished"]
        late = Stream(server, path + "/events")
        assert await late.ended() == 200
        assert late.names() == ["ready"]


async def test_the_last_progress_of_an_append_comes(tmp_path: Path) -> None:
    """Also where it took no time: chunks are told of by where they end."""
    async with running(tmp_path) as server:
        path = await server.create(10)
        stream = Stream(server, path + "/events")
        await stream.has("ready")
        for offset in (0, 3):
            await server.patch(path, offset, b"123")
        await until(lambda: [each for each in stream.events if each[2].get("offset") == 6])
        await stream.leave()


async def test_progress_comes_four_times_a_second_at_most(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        path = await server.create(1_000_000)
        stream = Stream(server, path + "/events")
        await stream.has("ready")
        asked = server.patching(path, 0, 1_000_000)
        begun = time.monotonic()

        def has_five() -> bool:
            asked.feed(b"a")
            return len(stream.events) >= 6

        await until(has_five, within=30)
        assert time.monotonic() - begun > 0.95, "four pauses lie between five"
        asked.vanish()
        await asked.answered()
        await stream.leave()


async def test_how_each_upload_ends(tmp_path: Path) -> None:
    async def on_finish(upload: FinishedUpload) -> None:
        if upload.length == 2:
            raise Reject(400, "not this one")

    async with running(tmp_path, on_finish=on_finish) as server:
        stream = Stream(server)
        await stream.has("ready")
        small = await server.whole(b"1")
        refused = await server.create(2)
        await server.patch(refused, 0, b"12")
        left = await server.create(3)
        await server.delete(small)
        server.clock.now += 90_000
        await server.tus.sweep()
        await until(lambda: len(stream.names()) == 8)
        assert stream.names(of=small) == ["created", "finished", "terminated"]
        assert stream.names(of=refused) == ["created", "failed"], "it is only forgotten later"
        assert stream.names(of=left) == ["created", "expired"]
        ids = [event_id for name, event_id, _ in stream.events if name != "progress"]
        assert len({*ids}) == len(ids)
        await stream.leave()


async def test_others_hear_nothing_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, authorize=by_name) as server:
        hers, his, everyones = (
            Stream(server, X_Who="alice"),
            Stream(server, X_Who="bob"),
            Stream(server, X_Who="root"),
        )
        for stream in (hers, his, everyones):
            await stream.has("ready")
        path = await server.create(9, X_Who="alice")
        await server.patch(path, 0, b"123", X_Who="alice")
        nobodys = await server.create(9)
        await hers.has("ready", "created", "created")
        await everyones.has("ready", "created", "created")
        await his.has("ready", "created")
        assert his.names(of=nobodys) == ["created"]
        await until(lambda: [each for each in hers.events if each[0] == "progress"])
        assert id_of(path) not in his.asked.body.decode()
        refused = Stream(server, path + "/events", X_Who="bob")
        nothing = Stream(server, BASE + "none/events", X_Who="bob")
        assert await refused.ended() == await nothing.ended() == 404
        assert refused.asked.body.replace(id_of(path).encode(), b"none") == nothing.asked.body
        for stream in (hers, his, everyones):
            await stream.leave()


async def test_who_comes_back_has_missed_nothing(tmp_path: Path) -> None:
    """Over a restart too, and what other processes did meanwhile."""
    async with running(tmp_path) as server:
        stream = Stream(server)
        await stream.has("ready")
        first = await server.create(5)
        await stream.has("ready", "created")
        await stream.leave()
    async with running(tmp_path) as server:
        await server.patch(first, 0, b"12345")
        second = await server.create(5)
    async with running(tmp_path) as server:
        again = Stream(server, "/events", Last_Event_ID=stream.last_id)
        await again.has("finished", "created")
        assert again.names(of=first) == ["finished"]
        await server.delete(second)
        await again.has("finished", "created", "terminated")
        by_query = Stream(server, f"/events?last_event_id={again.last_id}")
        await server.create(1)
        await by_query.has("created")
        for each in (again, by_query):
            await each.leave()


@pytest.mark.parametrize("heard", ["x", "0-1", "{instance}-99", "{instance}-0", "{other}-1"])
async def test_who_cannot_be_told_what_was_missed_has_to_look(tmp_path: Path, heard: str) -> None:
    async with running(tmp_path) as server:
        instance = (await server.tus.state.instance() or "")[:8]
        event_id = heard.format(instance=instance, other=instance[::-1])
        stream = Stream(server, "/events", Last_Event_ID=event_id)
        await stream.has("ready")
        assert stream.last_id == f"{instance}-1"
        await stream.leave()


async def test_what_was_not_written_down_is_not_taken_for_nothing(tmp_path: Path) -> None:
    """After an hour without a listener nothing is written down any more."""
    async with running(tmp_path) as server:
        stream = Stream(server)
        await stream.has("ready")
        await stream.leave()
        server.clock.now += KEEPS + 1
        await server.tus.watching.trim()
        await server.create(1)
        again = Stream(server, "/events", Last_Event_ID=stream.last_id)
        await again.has("ready")
        await again.leave()


async def test_nothing_is_done_where_nobody_listens(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await server.whole(b"12345")
        stream = Stream(server)
        await stream.has("ready")
        assert server.tus.watching.count == 1
        await stream.leave()
        assert server.tus.watching.count == 0
        observers = server.tus.services.observers
        await until(lambda: server.tus.watching._observe not in observers)
        database = server.tus.state.path
    rows = sqlite3.connect(database).execute("SELECT kind FROM events").fetchall()
    assert rows == [("",)]


async def test_it_does_not_matter_which_process_takes_the_bytes(tmp_path: Path) -> None:
    async with running(tmp_path) as here, running(tmp_path) as there:
        path = await here.create(100)
        one, all_of_them = Stream(here, path + "/events"), Stream(here)
        await one.has("ready")
        await all_of_them.has("ready")
        asked = there.patching(path, 0, 100)
        asked.feed(b"x" * 40)
        for stream in (one, all_of_them):
            await until(lambda each=stream: [e for e in each.events if e[2].get("offset") == 40])
        async with running(tmp_path) as later:
            other = await later.create(9)
            await all_of_them.has("ready", "created")
            await later.patch(other, 0, b"123")
            await until(lambda: [e for e in all_of_them.events if e[2].get("offset") == 3])
        asked.feed(b"x" * 60, more=False)
        await one.has("ready", "finished")
        await one.ended()
        await all_of_them.leave()
        await until(lambda: there.tus.watching._ticking is None)


async def test_who_is_let_in_no_more_hears_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_ASK_EVERY", 0.0)
    lets_in = [True]

    async def authorize(_: Access) -> None:
        if not lets_in[0]:
            raise Reject(401, "not any more")

    async with running(tmp_path, authorize=authorize) as server:
        await server.create(5)
        stream = Stream(server)
        await stream.has("ready")
        lets_in[0] = False
        server.clock.now += 90_000
        await server.tus.sweep()
        assert await stream.ended() == 200
        assert stream.names() == ["ready", "expired"]
        assert await Stream(server).ended() == 401


async def test_silence_has_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a proxy takes the stream for dead."""
    monkeypatch.setattr(events, "HEARTBEAT", 0.01)
    async with running(tmp_path) as server:
        stream = Stream(server)
        await until(lambda: b"\n\n:\n\n:\n\n" in stream.asked.body)
        await stream.leave()


async def test_streams_end_with_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        stream = Stream(server)
        await stream.has("ready")
        server.tus.interrupt()
        assert await stream.ended() == 200
        assert await Stream(server).ended() == 503


async def test_who_does_not_keep_up_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_MOST_WAITING", 3)
    listener = Listener(("all",))
    told = Told("created", 1, "a", 0.0, None)
    for _ in range(3):
        listener.tell(told)
    assert not listener.is_over
    listener.tell(told)
    assert listener.is_over


async def test_only_the_newest_progress_counts() -> None:
    listener = Listener(("all",))
    for upload_id, text in (("a", "1"), ("b", "1"), ("a", "2")):
        listener.tell(Told("progress", None, upload_id, 0.0, None, text))
    assert [(told.upload_id, told.text) for told in listener.take()] == [("a", "2"), ("b", "1")]
    listener.tell(Told("progress", None, "a", 0.0, None, "3"))
    listener.tell(Told("finished", 1, "a", 0.0, None))
    assert [told.kind for told in listener.take()] == ["finished"]
    assert listener.take() == []


async def test_nothing_is_told_twice() -> None:
    """What was read for one who came back may reach the process a moment later."""
    listener = Listener(("all",))
    for number in (1, 2, 3):
        listener.tell(Told("created", number, "a", 0.0, None))
    listener.since = 2
    assert [told.number for told in listener.take()] == [3]
