"""The URLs on the disk."""

import os
import stat
from pathlib import Path

import pytest

from tusd_py.client.errors import Busy, StateUnusable
from tusd_py.client.resume import ResumeStore, fingerprint, state_directory


@pytest.fixture
def store(tmp_path: Path) -> ResumeStore:
    return ResumeStore(directory=tmp_path / "a" / "b")


def test_a_url_is_found_again_by_another_process(store: ResumeStore) -> None:
    with store.locked("x"):
        store.slot("x", "/film").save("http://a/1")
        store.slot("x", "/film").save("http://a/2")
    assert ResumeStore(directory=store.directory).slot("x", "/film").load() == "http://a/2"
    assert store.slot("y", "/film").load() is None
    store.slot("x", "/film").remove()
    store.slot("x", "/film").remove()
    assert list(store.directory.iterdir()) == []


def test_nobody_else_may_read_it(store: ResumeStore) -> None:
    with store.locked("x"):
        slot = store.slot("x", "/film")
        slot.save("http://a/1")
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(slot.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"url": 7}', '{"other": "x"}', "\xff"])
def test_an_entry_that_means_nothing_is_none(store: ResumeStore, text: str) -> None:
    slot = store.slot("x", "/film")
    slot.path.parent.mkdir(parents=True)
    slot.path.write_text(text, "latin-1")
    assert slot.load() is None


def test_a_crash_in_the_middle_of_saving_leaves_the_old_entry(
    store: ResumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = store.slot("x", "/film")
    with store.locked("x"):
        slot.save("http://a/1")

        def crash(_descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", crash)
        with pytest.raises(StateUnusable, match="Input/output error; --no-resume does without"):
            slot.save("http://a/2")
    assert slot.load() == "http://a/1"


def test_one_process_at_a_time(store: ResumeStore) -> None:
    with store.locked("x"):
        with pytest.raises(Busy, match="another process is sending this file"), store.locked("x"):
            pass
        with store.locked("y"):
            pass
    with store.locked("x"):
        pass


def test_a_lock_on_a_file_that_was_removed_meanwhile_excludes_nobody(
    store: ResumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open
    removed: list[Path] = []

    def open_and_lose(path: Path, *arguments: int) -> int:
        descriptor = real(path, *arguments)
        if len(removed) < 2:  # once gone, and once replaced by another
            removed.append(path)
            path.unlink()
            if len(removed) == 2:
                path.touch()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with store.locked("x"):
        monkeypatch.setattr(os, "open", real)
        assert len(removed) == 2
        with pytest.raises(Busy), store.locked("x"):
            pass


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ResumeStore(directory=tmp_path / "file" / "x")
    with pytest.raises(StateUnusable, match="Not a directory"), store.locked("x"):
        pass


@pytest.mark.parametrize(
    ("home", "expected"),
    [
        ("/s", "/s/tusd-py/uploads"),
        ("", "/home/me/.local/state/tusd-py/uploads"),
        ("relative", "/home/me/.local/state/tusd-py/uploads"),
    ],
)
def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, home: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", home)
    assert str(state_directory()) == expected


def test_a_fingerprint_knows_where_one_fact_ends() -> None:
    assert fingerprint("ab", "c", 1) == fingerprint("ab", "c", 1)
    others: list[tuple[str | int, ...]] = [
        ("a", "bc", 1),
        ("ab", "c", 2),
        ("ab", "c", "1"),
        ("ab", "c"),
    ]
    assert len({fingerprint("ab", "c", 1), *(fingerprint(*other) for other in others)}) == 5
    assert fingerprint(os.fsdecode(b"\xff")) != fingerprint("\xff")
