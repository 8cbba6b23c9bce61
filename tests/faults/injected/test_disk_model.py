"""The model of a disk: what a loss of power leaves, by what was synced before."""

from pathlib import Path

import pytest

from tests.faults.injected.disk_model import Cut, Disk
from tests.faults.injected.recording import parse

RECORDING = r"""
7 100.1 mkdir("/r/data", 0777) = 0
7 100.2 openat(AT_FDCWD</>, "/r/data/a", O_WRONLY|O_CREAT|O_CLOEXEC, 0644) = 3</r/data/a>
7 100.3 pwrite64(3</r/data/a>, "one\0", 4, 0) = 4
8 100.4 fdatasync(3</r/data/a> <unfinished ...>
7 100.5 pwrite64(3</r/data/a>, "t\"wo", 4, 4) = 4
8 100.6 <... fdatasync resumed>)           = 0
7 100.7 fsync(4</r>) = 0
7 100.8 fsync(5</r/data>) = 0
7 100.9 link("/r/data/a", "/r/data/b") = 0
7 101.0 unlink("/r/data/a") = 0
7 101.1 ftruncate(3</r/data/b>, 6) = 0
7 101.2 rename("/r/data/b", "/r/data/c") = -1 EIO (Input/output error)
7 101.3 write(9<socket:[1]>, "HTTP/1.1 204 No Content\r\n\r\n", 27) = 27
9 101.3 ???( <detached ...>
7 101.4 pwrite64(3</r/data/b>, "never", 5, 0 <detached ...>
""".strip()


def replay(until: int = 1 << 30) -> Disk:
    disk = Disk(Path("/r"))
    steps = [(event.begun, 0, event) for event in parse(RECORDING)]
    steps += [(event.ended, 1, event) for event in parse(RECORDING)]
    for line, is_end, event in sorted(steps, key=lambda step: step[:2]):
        if line <= until:
            (disk.end if is_end else disk.begin)(event)
    return disk


def left(disk: Disk, to: Path, cut: Cut) -> dict[str, bytes]:
    disk.write(to, cut, seed=1)
    return {
        str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()
    }


def test_a_sync_brings_what_was_there_when_it_began() -> None:
    disk = replay()
    assert disk.file("data/b", synced=False) == b'one\0t"'
    assert disk.file("data/a", synced=True) == b"one\0", (
        "a name outlives until its folder is synced"
    )
    assert disk.file("data/b", synced=True) is None


@pytest.mark.parametrize(
    ("cut", "expected"), [(Cut.STRICT, {"data/a": b"one\0"}), (Cut.LUCKY, {"data/b": b'one\0t"'})]
)
def test_what_is_left(tmp_path: Path, cut: Cut, expected: dict[str, bytes]) -> None:
    assert left(replay(), tmp_path / "left", cut) == expected


def test_before_the_folder_is_synced_nothing_is_left(tmp_path: Path) -> None:
    assert left(replay(until=5), tmp_path / "left", Cut.STRICT) == {}
    assert left(replay(until=5), tmp_path / "lucky", Cut.LUCKY) == {"data/a": b'one\0t"wo'}


def test_two_names_are_one_file(tmp_path: Path) -> None:
    replay(until=8).write(tmp_path, Cut.LUCKY, seed=1)
    assert (tmp_path / "data/a").samefile(tmp_path / "data/b")


def test_an_answer_is_known_by_its_head() -> None:
    (answer,) = [event.answer for event in parse(RECORDING) if event.answer]
    assert answer.startswith("HTTP/1.1 204 ")
