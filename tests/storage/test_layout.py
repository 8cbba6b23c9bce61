"""The folders: whose they are, which files in them are ours, and which are let be."""

import errno
import os
from pathlib import Path

import pytest

from tests.storage.samples import UPLOAD, files_below, store
from tusd_py.protocol.errors import StorageFailed
from tusd_py.storage import layout
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.layout import Layout, boot_id

pytestmark = [pytest.mark.disk, pytest.mark.anyio]

FAR_FUTURE = 1e11
HOUR = 3600.0


async def strays(storage: DiskStorage, older_than: float = FAR_FUTURE) -> list[str]:
    return sorted([upload_id async for upload_id in storage.strays(older_than)])


def test_the_boot_has_a_name() -> None:
    assert len(boot_id()) == 36


class TestInstance:
    def test_the_mark_outlives_the_process(self, place: Path) -> None:
        for is_new in (True, False, True):
            Layout(place).open("mine", is_new=is_new)
            assert files_below(place) == {"data/.instance": b"mine\n"}

    @pytest.mark.parametrize("is_new", [True, False])
    def test_a_folder_with_files_that_are_not_ours(self, place: Path, is_new: bool) -> None:
        (place / "data").mkdir(parents=True)
        (place / "data" / "thesis.tex").write_text("ten years of work")
        with pytest.raises(WrongInstance, match="was not made by tusd-py"):
            Layout(place).open("mine", is_new=is_new)
        assert files_below(place) == {"data/thesis.tex": b"ten years of work"}

    def test_a_new_state_beside_old_uploads(self, place: Path) -> None:
        first = Layout(place)
        first.open("mine", is_new=True)
        first.file("a").touch()
        with pytest.raises(WrongInstance, match="database was lost or moved"):
            Layout(place).open("another", is_new=True)

    @pytest.mark.parametrize("is_new", [True, False])
    def test_the_state_of_another_place(self, place: Path, is_new: bool) -> None:
        Layout(place).open("mine", is_new=True)
        with pytest.raises(WrongInstance, match="belongs to another state"):
            Layout(place).open("another", is_new=is_new)

    @pytest.mark.parametrize("left", [None, "data", "data/.instance.0123"])
    def test_a_place_that_is_empty_though_the_state_has_uploads(
        self, place: Path, left: str | None
    ) -> None:
        if left is not None:
            (place / "data").mkdir(parents=True)
        if left == "data/.instance.0123":
            (place / left).touch()
        with pytest.raises(WrongInstance, match="is the volume mounted"):
            Layout(place).open("mine", is_new=False)
        assert (place / "data").exists() is (left is not None)
        assert not (place / "data/.instance").exists()

    def test_a_start_that_was_killed_while_it_wrote_the_mark(self, place: Path) -> None:
        (place / "data").mkdir(parents=True)
        (place / "data" / ".instance.0123").touch()
        Layout(place).open("mine", is_new=True)
        Layout(place).open("mine", is_new=False)

    @pytest.mark.parametrize(("instance", "fits"), [("theirs", True), ("mine", False)])
    def test_two_processes_start_at_once(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, instance: str, fits: bool
    ) -> None:
        """The other one writes the mark between our look and our own."""
        link = os.link

        def late(source: Path, target: Path) -> None:
            target.write_text("theirs\n")
            link(source, target)

        monkeypatch.setattr(os, "link", late)
        if fits:
            Layout(place).open(instance, is_new=True)
        else:
            with pytest.raises(WrongInstance):
                Layout(place).open(instance, is_new=True)
        assert files_below(place) == {"data/.instance": b"theirs\n"}

    def test_the_other_process_was_between_our_two_looks(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It writes the mark and takes an upload: we are one of four workers on a new place."""
        looked, exists = Layout._has_uploads, Path.exists

        def then_the_other(found: bool) -> bool:
            (place / "data/.instance").write_text("ours\n")
            (place / "data/1e1").mkdir(exist_ok=True)
            return found

        def late_exists(path: Path) -> bool:
            found = exists(path)
            return then_the_other(found) if path.name == ".instance" else found

        monkeypatch.setattr(Layout, "_has_uploads", lambda made: then_the_other(looked(made)))
        monkeypatch.setattr(Path, "exists", late_exists)
        Layout(place).open("ours", is_new=True)
        monkeypatch.undo()
        assert files_below(place) == {"data/.instance": b"ours\n"}


class TestShards:
    def test_spread_evenly_and_for_good(self, place: Path) -> None:
        made = Layout(place)
        shards = {made.file(f"upload-{number}").parent.name for number in range(5000)}
        assert len(shards) == 256
        assert made.file("a") == place / "data" / "de" / "a", "files of older releases are found"

    def test_are_all_there_from_the_start(self, place: Path) -> None:
        """To make one for an upload, and sync it, would cost more than a small upload does."""
        made = Layout(place)
        made.open("mine", is_new=True)
        assert len(made.shards()) == 256
        made.file("a").touch()

    def test_are_synced_before_they_are_used(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also by who finds them there: whoever made them may not have come to that."""
        Layout(place).open("mine", is_new=True)
        synced: list[Path] = []
        with monkeypatch.context() as patched:

            def failing(descriptor: int) -> None:
                synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
                raise OSError(errno.EIO, "")

            patched.setattr(os, "fsync", failing)
            with pytest.raises(StorageFailed):
                Layout(place).open("mine", is_new=False)
        assert synced == [place / "data"]


class TestStrays:
    async def test_only_files_that_look_like_ours_where_ours_would_lie(
        self, storage: DiskStorage, place: Path
    ) -> None:
        data = place / "data"
        for name in ("a", "b.c~d"):
            await store(storage, UPLOAD._replace(id=name), b"abc")
        shard = storage.locate(UPLOAD).parent
        (shard / "in another shard").touch()
        (shard / "elsewhere").touch()
        (shard / ".hidden").touch()
        (shard / ("x" * 129)).touch()
        (shard / "naïve").touch()
        (data / "not-in-a-shard").touch()
        folder = storage.locate(UPLOAD._replace(id="folder"))
        folder.mkdir(parents=True)
        link = storage.locate(UPLOAD._replace(id="link"))
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(storage.locate(UPLOAD))
        assert await strays(storage) == ["a", "b.c~d"]

    async def test_what_was_touched_lately_is_let_be(self, storage: DiskStorage) -> None:
        await store(storage, UPLOAD, b"abc")
        touched = storage.locate(UPLOAD).stat().st_mtime
        assert await strays(storage, touched) == []
        assert await strays(storage, touched + 1) == ["a"]

    async def test_what_goes_while_it_is_looked_at(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            await store(storage, UPLOAD._replace(id=f"a{number}"), b"abc")
        lstat = Path.lstat

        def late(path: Path) -> os.stat_result:
            if path.name == "a1":
                path.unlink()
            return lstat(path)

        monkeypatch.setattr(Path, "lstat", late)
        assert await strays(storage) == ["a0", "a2"]


class TestQuarantine:
    async def test_its_age_counts_from_then(self, storage: DiskStorage, place: Path) -> None:
        await store(storage, UPLOAD, b"abc")
        os.utime(storage.locate(UPLOAD), (1.0, 1.0))
        assert await storage.quarantine("a") == 3
        assert files_below(place / "quarantine") == {"a": b"abc"}
        set_aside = (place / "quarantine" / "a").stat().st_mtime
        assert set_aside > (place / "data" / ".instance").stat().st_mtime - HOUR
        assert await storage.empty_quarantine(set_aside - HOUR) == 0
        assert await storage.empty_quarantine(set_aside) == 0
        assert await storage.empty_quarantine(set_aside + 1) == 3

    async def test_what_was_not_set_aside_by_us_is_let_be(
        self, storage: DiskStorage, place: Path
    ) -> None:
        await store(storage, UPLOAD, b"abc")
        await storage.quarantine("a")
        quarantine = place / "quarantine"
        (quarantine / "folder").mkdir()
        (quarantine / "read me.txt").write_text("kept")
        (quarantine / "link").symlink_to(place / "data" / ".instance")
        (quarantine / "dangling").symlink_to("nowhere")
        assert await storage.empty_quarantine(FAR_FUTURE) == 3
        left = sorted(path.name for path in quarantine.iterdir())
        assert left == ["dangling", "folder", "link", "read me.txt"]

    async def test_two_sweepers(
        self, storage: DiskStorage, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store(storage, UPLOAD, b"abc")
        await storage.quarantine("a")
        found = layout._stat_of_file

        def late(path: Path) -> os.stat_result | None:
            stat = found(path)
            path.unlink()
            return stat

        monkeypatch.setattr(layout, "_stat_of_file", late)
        await storage.empty_quarantine(FAR_FUTURE)
        assert files_below(place / "quarantine") == {}
