"""Where finished files go: to a free name, once, whatever is killed on the way."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.conftest import NewTmpfs
from tests.storage.samples import NOW, UPLOAD, files_below, finished, named, store_whole
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.protocol.upload import Upload
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.template import InvalidTemplate

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Ends the process before a change to a folder or a sync: the `step`-th, counted from 0.

    Returns:
        How many steps there were.
    """
    steps = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal steps
            steps += 1
            if steps > step:
                raise Killed
            return real(*args, **kwargs)

        return call

    for name in ("link", "unlink", "fsync", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return lambda: steps


def opened(place: Path, file_template: str | None = None) -> DiskStorage:
    return DiskStorage(place, file_template=file_template)


async def with_template(place: Path, file_template: str = "{filename}") -> DiskStorage:
    storage = opened(place, file_template)
    await storage.open("mine", is_new=True, trust_unsynced=False)
    return storage


class TestFinish:
    async def test_without_a_template_it_stays_where_it_was_written(
        self, storage: DiskStorage, place: Path
    ) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        assert upload.path
        assert upload.path.startswith("data/")
        assert storage.locate(upload) == place / upload.path
        assert storage.locate(upload).read_bytes() == b"abc"

    @pytest.mark.parametrize(
        ("template", "path"),
        [
            ("{filename}", "film.mp4"),
            ("{id}", "a"),
            ("{yyyy}/{mm}/{dd}/{id}/{filename}", "2023/11/14/a/film.mp4"),
            ("in/{id}-{filename}", "in/a-film.mp4"),
        ],
    )
    async def test_with_a_template(self, place: Path, template: str, path: str) -> None:
        storage = await with_template(place, template)
        upload = await finished(storage, named("a", "film.mp4"), b"abc")
        assert upload.path == f"files/{path}"
        assert files_below(place / "files") == {path: b"abc"}
        assert not list((place / "data").rglob("a"))

    async def test_what_the_application_wants_comes_first(self, place: Path) -> None:
        storage = await with_template(place)
        upload = named("a", "film.mp4", target="of/my own.bin")
        assert (await finished(storage, upload, b"abc")).path == "files/of/my own.bin"

    @pytest.mark.parametrize("target", ["../a", "/etc/a", "a/../../b", "a//b", "a\0b", "."])
    async def test_the_application_cannot_lead_outside_by_mistake(
        self, storage: DiskStorage, target: str
    ) -> None:
        with pytest.raises(InvalidTemplate):
            await finished(storage, UPLOAD._replace(target=target), b"abc")
        assert storage.locate(UPLOAD).read_bytes() == b"abc"

    @pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
    async def test_a_name_that_is_taken_is_left_alone(self, place: Path, kind: str) -> None:
        storage = await with_template(place)
        taken = place / "files" / "film.mp4"
        taken.parent.mkdir()
        if kind == "file":
            taken.write_bytes(b"another")
        elif kind == "folder":
            taken.mkdir()
        else:
            taken.symlink_to(place if kind == "link" else "nowhere")
        upload = await finished(storage, named("a", "film.mp4"), b"abc")
        assert upload.path == "files/film-a.mp4"
        assert await storage.finish(upload, durable=True) == upload.path
        assert storage.locate(upload).read_bytes() == b"abc"
        if kind == "file":
            assert taken.read_bytes() == b"another"

    async def test_both_names_are_taken(self, place: Path) -> None:
        storage = await with_template(place)
        for name in ("film.mp4", "film-a.mp4"):
            await finished(storage, named(f"of-{name}", "x", target=name), b"another")
        whole = await store_whole(storage, named("a", "film.mp4"), b"abc")
        with pytest.raises(StorageFailed):
            await storage.finish(whole, durable=True)
        assert storage.locate(whole).read_bytes() == b"abc"

    @pytest.mark.parametrize("taken", [False, True])
    @pytest.mark.parametrize("durable", [True, False])
    async def test_a_kill_at_any_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool, durable: bool
    ) -> None:
        """Kills before step 0, 1, 2...: until nothing is left to kill."""
        step, was_killed = 0, True
        while was_killed:
            place = tmp_path / str(step)
            storage = await with_template(place, "{yyyy}/{filename}")
            expected = {"2023/film.mp4": b"abc"}
            if taken:
                await finished(storage, named("other", "film.mp4"), b"another")
                expected = {"2023/film.mp4": b"another", "2023/film-a.mp4": b"abc"}
            upload = await store_whole(storage, named("a", "film.mp4"), b"abc")
            with monkeypatch.context() as patched:
                kill_at(patched, step)
                try:
                    await storage.finish(upload, durable=durable)
                    was_killed = False
                except Killed:
                    step += 1
            again = opened(place, "{yyyy}/{filename}")
            path = await again.finish(upload, durable=durable)
            assert files_below(place / "files") == expected
            assert again.locate(upload._replace(path=path)).read_bytes() == b"abc"
            assert not list((place / "data").rglob("a"))
        assert step >= (5 if durable else 2)

    async def test_a_kill_and_a_boot_that_numbers_the_disks_in_another_way(
        self, place: Path
    ) -> None:
        storage = await with_template(place)
        upload = await store_whole(storage, named("a", "film.mp4"), b"abc")
        await storage.finish(upload, durable=True)
        boot, device, inode = upload.placement.split(":")
        renumbered = upload._replace(placement=f"{boot}:{int(device) + 1}:{inode}")
        assert await storage.finish(renumbered, durable=True) == "files/film.mp4"

    async def test_an_empty_upload_is_finished_once(self, place: Path) -> None:
        storage = await with_template(place)
        empty = await store_whole(storage, named("a", "film.mp4"), b"")
        for _ in range(2):
            assert await storage.finish(empty, durable=True) == "files/film.mp4"
        assert files_below(place / "files") == {"film.mp4": b""}
        assert not list((place / "data").rglob("a"))

    async def test_bytes_that_are_gone(self, place: Path) -> None:
        storage = await with_template(place)
        whole = await store_whole(storage, named("a", "film.mp4"), b"abc")
        await storage.remove(whole)
        with pytest.raises(StorageFailed):
            await storage.finish(whole, durable=True)

    async def test_names_that_file_systems_do_not_take_are_cut(self, place: Path) -> None:
        storage = await with_template(place, "{id}-{filename}")
        first = await finished(storage, named("i" * 128, "x" * 300 + ".mp4"), b"abc")
        assert len(storage.locate(first).name) == 255
        second = first._replace(id="j" * 128, target=storage.locate(first).name, path=None)
        second = await finished(storage, second._replace(upload_offset=0, placement=""), b"def")
        assert len(storage.locate(second).name) == 255
        assert storage.locate(second).name.endswith(f"-{'j' * 128}.mp4")
        assert {storage.locate(each).read_bytes() for each in (first, second)} == {b"abc", b"def"}


class TestRemove:
    @pytest.mark.parametrize("template", [None, "{yyyy}/{filename}"])
    async def test_leaves_nothing(self, place: Path, template: str | None) -> None:
        storage = DiskStorage(place, file_template=template)
        await storage.open("mine", is_new=True, trust_unsynced=False)
        upload = await finished(storage, named("a", "film.mp4"), b"abc")
        assert await storage.remove(upload) == 3
        assert list(files_below(place)) == ["data/.instance"]

    async def test_a_taken_file_belongs_to_the_application(
        self, place: Path, tmp_path: Path
    ) -> None:
        storage = await with_template(place)
        upload = await finished(storage, named("a", "film.mp4"), b"abc")
        await storage.take(upload, tmp_path / "mine.mp4")
        assert await storage.remove(upload._replace(path=None)) == 0
        assert (tmp_path / "mine.mp4").read_bytes() == b"abc"


class TestAnothersFile:
    """The operator moves a file away, and another upload finishes under its name."""

    async def replaced(self, place: Path) -> tuple[DiskStorage, Upload, Upload]:
        storage = await with_template(place)
        first = await finished(storage, named("a", "film.mp4"), b"first")
        storage.locate(first).rename(place / "archived.mp4")
        return storage, first, await finished(storage, named("b", "film.mp4"), b"second")

    async def test_is_not_had(self, place: Path) -> None:
        storage, first, second = await self.replaced(place)
        assert first.path == second.path
        assert not await storage.has(first)
        assert await storage.has(second)

    async def test_is_not_removed(self, place: Path) -> None:
        storage, first, second = await self.replaced(place)
        assert await storage.remove(first) == 0
        assert storage.locate(second).read_bytes() == b"second"

    async def test_is_not_taken(self, place: Path, tmp_path: Path) -> None:
        storage, first, second = await self.replaced(place)
        with pytest.raises(StorageFailed):
            await storage.take(first, tmp_path / "mine.mp4")
        assert storage.locate(second).read_bytes() == b"second"
        assert not (tmp_path / "mine.mp4").exists()

    async def test_is_not_copied(self, place: Path, tmp_path: Path) -> None:
        storage, first, _ = await self.replaced(place)
        empty = first._replace(path="files/gone", upload_offset=0, upload_length=0)
        for upload in (first, empty):
            with pytest.raises(StorageFailed):
                await storage.copy_out(upload, opened(tmp_path / "backup"))
        assert not (tmp_path / "backup").exists()

    @pytest.mark.parametrize("comes", ["before", "meanwhile"])
    async def test_stays_when_a_take_is_repeated(
        self, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: str
    ) -> None:
        """The first take was killed before it was on record."""
        storage = await with_template(place)
        first = await finished(storage, named("a", "film.mp4"), b"first")
        await storage.take(first, tmp_path / "mine.mp4")
        second = await finished(storage, named("b", "film.mp4"), b"second")
        if comes == "meanwhile":
            monkeypatch.setattr(storage, "_has", lambda *_: True)
        await storage.take(first, tmp_path / "mine.mp4")
        assert storage.locate(second).read_bytes() == b"second"
        assert (tmp_path / "mine.mp4").read_bytes() == b"first"

    @pytest.mark.parametrize("template", ["{id}/{filename}", "{id}", "by-{id}.bin"])
    async def test_a_name_with_its_id_is_its_own_also_on_another_disk(
        self, place: Path, template: str
    ) -> None:
        """Files that were restored by rsync have other inodes, and must not answer 404."""
        storage = await with_template(place, template)
        upload = await finished(storage, named("abc", "film.mp4"), b"first")
        restored = upload._replace(placement="boot:1:1")
        assert await storage.has(restored)
        assert await storage.remove(restored) == 5

    async def test_is_trusted_where_nothing_is_known(self, place: Path) -> None:
        """In a backup files have other inodes, and records name none."""
        storage = await with_template(place)
        upload = (await finished(storage, named("a", "film.mp4"), b"abc"))._replace(placement="")
        assert await storage.has(upload)
        assert await storage.remove(upload) == 3
        assert not await storage.has(upload)


class TestTake:
    """To the same file system, by a link; to another one, by a copy."""

    @pytest.fixture(params=["same", "other"])
    def to(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        folder = tmp_path / "mine" if request.param == "same" else self.mount(request)
        folder.mkdir(exist_ok=True)
        return folder / "mine.mp4"

    @staticmethod
    def mount(request: pytest.FixtureRequest) -> Path:
        new_tmpfs: NewTmpfs = request.getfixturevalue("new_tmpfs")
        return new_tmpfs(1 << 20)

    async def test_moves(self, storage: DiskStorage, to: Path) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        for _ in range(2):
            await storage.take(upload, to)
            assert files_below(to.parent) == {"mine.mp4": b"abc"}
        assert not storage.locate(upload).exists()
        assert to.stat().st_nlink == 1

    async def test_never_replaces_another_file(self, storage: DiskStorage, to: Path) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        to.write_bytes(b"another")
        for _ in range(2):
            with pytest.raises(FileExistsError):
                await storage.take(upload, to)
        assert to.read_bytes() == b"another"
        assert storage.locate(upload).read_bytes() == b"abc"
        assert list(files_below(to.parent)) == ["mine.mp4"]

    async def test_a_kill_at_any_step(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, to: Path
    ) -> None:
        step, was_killed = 0, True
        while was_killed:
            target = to.parent / str(step) / to.name
            upload = await finished(storage, UPLOAD._replace(id=f"a{step}"), b"abc")
            with monkeypatch.context() as patched:
                kill_at(patched, step)
                try:
                    await storage.take(upload, target)
                    was_killed = False
                except Killed:
                    step += 1
            held = [path for path in (storage.locate(upload), target) if path.exists()]
            assert held, "it lies at one of the two at any time"
            assert all(path.read_bytes() == b"abc" for path in held)
            await storage.take(upload, target)
            assert files_below(target.parent) == {"mine.mp4": b"abc"}
            assert not storage.locate(upload).exists()
        assert step >= 5

    async def test_another_file_that_comes_while_it_is_copied(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, new_tmpfs: NewTmpfs
    ) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        to = new_tmpfs(1 << 20) / "mine.mp4"
        fsync = os.fsync

        def late(descriptor: int) -> None:
            if str(to.parent) in os.readlink(f"/proc/self/fd/{descriptor}"):
                to.write_bytes(b"another")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", late)
        with pytest.raises(FileExistsError):
            await storage.take(upload, to)
        assert files_below(to.parent) == {"mine.mp4": b"another"}
        assert storage.locate(upload).read_bytes() == b"abc"

    async def test_a_full_disk(self, storage: DiskStorage, new_tmpfs: NewTmpfs) -> None:
        upload = await finished(storage, UPLOAD, bytes(1 << 20))
        folder = new_tmpfs(1 << 16)
        with pytest.raises(StorageFull):
            await storage.take(upload, folder / "mine.mp4")
        assert files_below(folder) == {}
        assert storage.locate(upload).stat().st_size == 1 << 20

    async def test_a_link_that_is_refused(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        upload = await finished(storage, UPLOAD, b"abc")

        def refused(*args: object) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refused)
        with pytest.raises(StorageFailed):
            await storage.take(upload, tmp_path / "mine.mp4")
        assert storage.locate(upload).read_bytes() == b"abc"

    async def test_to_where_it_lies_by_another_way(self, place: Path, tmp_path: Path) -> None:
        storage = await with_template(place)
        upload = await finished(storage, named("a", "film.mp4"), b"abc")
        (tmp_path / "shortcut").symlink_to(place / "files")
        await storage.take(upload, tmp_path / "shortcut" / "film.mp4")
        assert storage.locate(upload).read_bytes() == b"abc"

    async def test_within_on_finish(self, place: Path, tmp_path: Path) -> None:
        """The application takes the file, is killed before that is known, and takes it again."""
        storage = await with_template(place)
        await finished(storage, named("other", "film.mp4"), b"another")
        whole: Upload = await store_whole(storage, named("a", "film.mp4"), b"abc")
        await storage.finish(whole, durable=True)
        path = await storage.finish(whole, durable=True)
        assert path == "files/film-a.mp4"
        await storage.take(whole._replace(path=path), tmp_path / "mine.mp4")
        assert (tmp_path / "mine.mp4").read_bytes() == b"abc"
        assert whole.created_at == NOW
