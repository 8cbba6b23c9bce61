"""From the last byte to `complete`: told once or again, and never too early."""

import asyncio
from pathlib import Path

import pytest

from tests.asgi.in_process import BASE, id_of, path_of, running, until
from tusd_py import DiskStorage, FinishedUpload, Reject, Reply, Settings, Timing, TusApp
from tusd_py.engine.services import Jobs
from tusd_py.protocol.errors import UploadLocked
from tusd_py.protocol.upload import Phase

pytestmark = pytest.mark.anyio

HELLO = b"hello world"


class Application:
    """An `on_finish` that notes its calls, and does what a test gives it to do, in turn."""

    def __init__(self, *then: object) -> None:
        self.calls: list[FinishedUpload] = []
        self.then = list(then)

    async def __call__(self, finished: FinishedUpload) -> Reply | None:
        self.calls.append(finished)
        do = self.then.pop(0) if self.then else None
        if isinstance(do, Exception):
            raise do
        if isinstance(do, asyncio.Event):
            await do.wait()
            return None
        assert do is None or isinstance(do, Reply)
        return do


@pytest.mark.parametrize("way", ["patch", "post", "empty", "deferred", "final"])
async def test_it_is_called_once_with_the_file_before_the_client_is_told(
    tmp_path: Path, way: str
) -> None:
    """PEERS: several do not call it for an upload that came whole in its POST, or an empty one."""
    application = Application()
    async with running(tmp_path, on_finish=application) as server:
        content = b"" if way == "empty" else HELLO
        if way == "final":
            part = await server.whole(HELLO, Upload_Concat="partial")
            assert application.calls == [], "a part is no file yet"
            answer = await server.post(Upload_Concat=f"final;{part}", Upload_Metadata="name YQ==")
            path = path_of(answer)
        elif way == "deferred":
            path = await server.create(None, Upload_Metadata="name YQ==")
            await server.patch(path, 0, HELLO)
            assert application.calls == []
            await server.patch(path, 11, b"", Upload_Length="11")
        elif way == "patch":
            path = await server.create(11, Upload_Metadata="name YQ==")
            await server.patch(path, 0, HELLO)
        else:
            path = await server.whole(content, Upload_Metadata="name YQ==")
        (finished,) = application.calls
        assert finished.id == id_of(path)
        assert finished.length == len(content)
        assert finished.metadata == {"name": b"a"}
        assert finished.path.read_bytes() == content
        await server.head(path)
        assert len(application.calls) == 1


async def test_a_reply_adds_to_the_answer(tmp_path: Path) -> None:
    """PEERS: a finish response of one's own."""
    reply = Reply(headers={"X-Import": "42\r\nX-Evil: 1"}, body="imported ü")
    async with running(tmp_path, on_finish=Application(reply, Reply(status=202))) as server:
        path = await server.create(11)
        answer = await server.patch(path, 0, HELLO)
        assert answer.status_code == 200
        assert answer.text == "imported ü"
        assert answer.headers["X-Import"] == "42X-Evil: 1"
        assert answer.headers["Upload-Offset"] == "11"
        assert (await server.post(b"x", Upload_Length="1")).status_code == 202


async def test_a_refusal_fails_the_upload_for_good(tmp_path: Path) -> None:
    """Whoever asks again hears the same, and nobody is asked twice; the bytes go."""
    application = Application(Reject(422, "a virus", {"X-Scan": "no"}))
    async with running(tmp_path, on_finish=application) as server:
        path = await server.create(11)
        for answer in (
            await server.patch(path, 0, HELLO),
            await server.patch(path, 11, b""),
            await server.client.get(path),
        ):
            assert answer.status_code == 422
            assert "a virus" in answer.text
            assert answer.headers["X-Scan"] == "no"
        assert (await server.head(path)).status_code == 422
        assert (await server.record(path)).phase is Phase.FAILED
        assert server.files() == []
        assert len(application.calls) == 1
        assert (await server.delete(path)).status_code == 204
        assert (await server.head(path)).status_code == 410


async def test_a_refusal_of_a_whole_post_has_no_location(tmp_path: Path) -> None:
    """CLIENTS: tuspy does not look at the status."""
    async with running(tmp_path, on_finish=Application(Reject(422, "no"))) as server:
        answer = await server.post(HELLO, Upload_Length="11")
        assert answer.status_code == 422
        assert "Location" not in answer.headers


async def test_a_function_that_raises_is_called_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All bytes are here: the client must neither send them again nor hear that all is well."""
    application = Application(RuntimeError("db"), RuntimeError("db"), RuntimeError("db"), None)
    async with running(tmp_path, on_finish=application) as server:
        path = await server.create(11)
        answer = await server.patch(path, 0, HELLO)
        assert answer.status_code == 500
        assert answer.text.startswith("ERR_FINISH_FAILED: all bytes are stored")
        assert (await server.record(path)).phase is Phase.FINISHING
        assert "db" in caplog.text
        assert (await server.head(path)).status_code == 423
        assert (await server.client.get(path)).status_code == 400
        assert (await server.patch(path, 11, b"")).status_code == 500
        found = await server.head(path)
        assert (found.status_code, found.headers["Upload-Offset"]) == (200, "11")
        assert len(application.calls) == 4
        assert await server.bytes_of(path) == HELLO


async def test_a_patch_to_what_is_being_finished_is_held_to_its_offset(tmp_path: Path) -> None:
    """A wrong offset is 409 at any time, also while the finish has to be repeated."""
    application = Application(RuntimeError("db"), None)
    async with running(tmp_path, on_finish=application) as server:
        path = await server.create(11)
        await server.patch(path, 0, HELLO)
        assert (await server.patch(path, 5, b" world")).status_code == 409
        assert (await server.patch(path, 11, b"")).status_code == 204


async def test_a_head_joins_a_finish_and_gives_up_in_time(tmp_path: Path) -> None:
    """A finish may take longer than a client waits; 423 lets it come back."""
    gate = asyncio.Event()
    application = Application(gate)
    settings = Settings(base_path=BASE, timing=Timing(acquire_lock=0.1))
    async with running(tmp_path, on_finish=application, settings=settings) as server:
        path = await server.create(11)
        asked = server.patching(path, 0, 11)
        asked.feed(HELLO, more=False)
        await until(lambda: application.calls)
        assert (await server.head(path)).status_code == 423
        joined = asyncio.create_task(server.head(path))
        await asyncio.sleep(0.01)
        gate.set()
        assert (await joined).headers["Upload-Offset"] == "11"
        assert await asked.answered() == 204
        assert len(application.calls) == 1


async def test_a_resumed_finish_is_joined_and_goes_on_behind_the_time_limit(
    tmp_path: Path,
) -> None:
    """The job that one HEAD began is the one that the next HEAD finds."""
    gate = asyncio.Event()
    application = Application(RuntimeError("db"), gate)
    settings = Settings(base_path=BASE, timing=Timing(acquire_lock=0.1))
    async with running(tmp_path, on_finish=application, settings=settings) as server:
        path = await server.create(11)
        await server.patch(path, 0, HELLO)
        assert (await server.head(path)).status_code == 423
        gate.set()
        await until(lambda: not server.tus.services.jobs._tasks)
        assert await server.offset(path) == 11
        assert len(application.calls) == 2


class Taking:
    """An `on_finish` that takes the file, and raises as often as it is told."""

    def __init__(self, to: Path, *, raises: int = 0) -> None:
        self.to = to
        self.raises = raises
        self.tus: TusApp | None = None

    async def __call__(self, finished: FinishedUpload) -> None:
        assert self.tus is not None
        await self.tus.take(finished.id, self.to)
        self.raises -= 1
        if self.raises >= 0:
            raise RuntimeError("after the move")


@pytest.mark.parametrize("raises", [0, 2])
async def test_take_inside_on_finish(tmp_path: Path, raises: int) -> None:
    """The file is moved out durably, also when the function has to run again after that."""
    taking = Taking(tmp_path / "mine", raises=raises)
    async with running(tmp_path / "uploads", on_finish=taking) as server:
        taking.tus = server.tus
        path = await server.create(11)
        await server.patch(path, 0, HELLO)
        while (await server.head(path)).status_code == 423:
            continue
        assert await server.offset(path) == 11
        assert (tmp_path / "mine").read_bytes() == HELLO
        assert server.files() == []
        assert (await server.client.get(path)).status_code == 404
        assert (await server.record(path)).path is None
        assert (await server.delete(path)).status_code == 204
        assert (tmp_path / "mine").read_bytes() == HELLO, "it is not ours any more"


@pytest.mark.parametrize(
    ("content", "file_template"),
    [
        (HELLO, None),
        (b"", None),
        (HELLO, "{filename}"),
        (b"", "{filename}"),
    ],
)
async def test_take_may_be_repeated(
    tmp_path: Path, content: bytes, file_template: str | None
) -> None:
    """A function that failed, or was killed, behind `take` runs again, and finds its work done."""
    taking = Taking(tmp_path / "mine", raises=1)
    storage = DiskStorage(tmp_path / "uploads", file_template=file_template)
    async with running(tmp_path / "uploads", storage=storage, on_finish=taking) as server:
        taking.tus = server.tus
        answer = await server.post(content, Upload_Length=str(len(content)))
        assert answer.status_code == 500
        (left,) = await server.records()
        assert await server.offset(BASE + left.id) == len(content)
        assert (tmp_path / "mine").read_bytes() == content


async def test_take_later(tmp_path: Path) -> None:
    """Outside of `on_finish` it holds the upload's lock, and refuses to overwrite."""
    async with running(tmp_path / "uploads") as server:
        path = await server.whole(HELLO)
        (tmp_path / "other").write_text("other")
        with pytest.raises(FileExistsError):
            await server.tus.take(id_of(path), tmp_path / "other")
        assert await server.bytes_of(path) == HELLO
        await server.tus.take(id_of(path), tmp_path / "mine")
        assert (tmp_path / "mine").read_bytes() == HELLO
        assert (tmp_path / "other").read_text() == "other"
        assert (await server.head(path)).status_code == 200
        assert (await server.client.get(path)).status_code == 404


async def test_a_cancelled_finish_is_taken_up_by_the_next_start(tmp_path: Path) -> None:
    """A server that ends while the application works asks it again."""
    application = Application(RuntimeError("db"), asyncio.Event(), None)
    async with running(tmp_path, on_finish=application) as server:
        path = await server.create(11)
        await server.patch(path, 0, HELLO)
        head = asyncio.create_task(server.head(path))
        await until(lambda: len(application.calls) == 2)
        await server.tus.services.jobs.close(0.01)
        assert server.tus.services.finishing == {}
        head.cancel()
        await asyncio.wait({head})
        assert (await server.record(path)).phase is Phase.FINISHING
    async with running(tmp_path, on_finish=application, background=True) as server:
        await until(lambda: len(application.calls) == 3)
        assert await server.offset(path) == 11


async def test_finished_files_lie_where_the_template_says(tmp_path: Path) -> None:
    """Two of one name do not overwrite each other."""
    storage = DiskStorage(tmp_path, file_template="{filename}")
    async with running(tmp_path, storage=storage) as server:
        paths = [
            await server.whole(content, Upload_Metadata="filename YS50eHQ=")
            for content in (HELLO, b"other")
        ]
        assert [await server.bytes_of(path) for path in paths] == [HELLO, b"other"]
        assert (tmp_path / "files" / "a.txt").read_bytes() == HELLO


async def test_a_job_is_one_for_each_upload_and_its_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody may wait for it any more, so the log has to know."""
    jobs = Jobs()

    async def broken() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError):
        await jobs.join("a", broken, None)  # type: ignore[arg-type]
    assert "work on upload a failed" in caplog.text

    async def endless() -> None:
        await asyncio.Event().wait()

    with pytest.raises(UploadLocked):
        await jobs.join("a", endless, 0.01)  # type: ignore[arg-type]
    assert jobs.start("a", broken) is jobs.start("a", endless)  # type: ignore[arg-type]
    await jobs.close(0.01)
    await jobs.close(0.01)
