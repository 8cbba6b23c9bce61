"""One holder among the processes of a host: as long as it lives, and no longer."""

import errno
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.locks.conftest import OtherProcess
from tusd_py.locks.host import HostLocks
from tusd_py.protocol.errors import StorageFailed

NewHost = Callable[[], HostLocks]


def descriptors(folder: Path) -> int:
    """How many lock files this process has open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += link.readlink().parent == folder
        except FileNotFoundError:
            continue
    return found


def in_child(work: Callable[[], bool]) -> bool:
    """What a function says in a child that was forked."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) in (0, 1)
    return os.WEXITSTATUS(status) == 0


class TestInstances:
    def test_two_in_one_process_exclude_each_other(self, new_host: NewHost) -> None:
        first, second = new_host(), new_host()
        assert first.acquire("a")
        assert not second.acquire("a")
        assert second.acquire("b")
        assert not first.acquire("b")
        first.release("a")
        assert second.acquire("a")

    def test_close_lets_go_of_everything_and_may_be_repeated(self, new_host: NewHost) -> None:
        first, second = new_host(), new_host()
        keys = [str(number) for number in range(50)]
        assert all(first.acquire(key) for key in keys)
        assert not any(second.acquire(key) for key in keys)
        first.close()
        first.close()
        assert all(second.acquire(key) for key in keys)
        assert not first.acquire("1")

    def test_a_release_of_what_another_one_holds_frees_nothing(self, new_host: NewHost) -> None:
        first, second, third = new_host(), new_host(), new_host()
        assert first.acquire("a")
        second.release("a")
        assert not third.acquire("a")

    def test_no_two_of_many_uploads_share_a_lock(self, new_host: NewHost) -> None:
        first, second = new_host(), new_host()
        assert all(first.acquire(f"upload-{number}") for number in range(0, 4000, 2))
        assert all(second.acquire(f"upload-{number}") for number in range(1, 4000, 2))

    def test_descriptors_are_few_and_do_not_leak(self, host: HostLocks, folder: Path) -> None:
        for number in range(1000):
            host.acquire(str(number))
            host.release(str(number))
        assert descriptors(folder) == 16
        host.close()
        assert descriptors(folder) == 0

    def test_lock_files_are_nobody_elses(self, host: HostLocks, folder: Path) -> None:
        host.acquire("a")
        paths = list(folder.iterdir())
        assert len(paths) == 16
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
        assert {path.stat().st_size for path in paths} == {0}


class TestShortOfDescriptors:
    @pytest.fixture
    def left(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many files may still be opened; counted down, and refilled by a test."""
        left, original = [0], os.open

        def short(path: Any, *args: Any, **kwargs: Any) -> int:
            if left[0] == 0:
                raise OSError(errno.EMFILE, "Too many open files", str(path))
            left[0] -= 1
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", short)
        return left

    def test_none_is_needed_in_the_midst_of_service(self, host: HostLocks, left: list[int]) -> None:
        """The first request of an upload would end with an error that nobody expects."""
        left[0] = 16
        assert host.acquire("first")
        assert left == [0]
        assert all(host.acquire(str(number)) for number in range(200))

    @pytest.mark.parametrize("room", [0, 1, 15])
    @pytest.mark.parametrize("take", [HostLocks.open, lambda host: host.acquire("a")])
    def test_all_are_opened_or_none(
        self,
        new_host: NewHost,
        folder: Path,
        left: list[int],
        room: int,
        take: Callable[[HostLocks], object],
    ) -> None:
        host, other = new_host(), new_host()
        left[0] = room
        with pytest.raises(StorageFailed) as caught:
            take(host)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EMFILE
        assert descriptors(folder) == 0
        left[0] = 32
        assert other.acquire("a"), "nothing is held after that"
        assert not host.acquire("a")
        assert host.acquire("b")

    def test_a_release_needs_none(self, host: HostLocks, folder: Path, left: list[int]) -> None:
        host.release("a")
        assert not folder.exists()

    def test_open_may_be_repeated(self, host: HostLocks, folder: Path, left: list[int]) -> None:
        left[0] = 16
        host.open()
        host.open()
        assert descriptors(folder) == 16

    def test_a_kernel_without_room_for_locks(
        self, host: HostLocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.fcntl", full)
        with pytest.raises(StorageFailed):
            host.acquire("a")


class TestProcesses:
    def test_a_lock_of_another_process(self, host: HostLocks, other_process: OtherProcess) -> None:
        other_process("a")
        assert not host.acquire("a")
        assert host.acquire("b")

    def test_a_killed_one_frees_it_at_once(
        self, host: HostLocks, other_process: OtherProcess
    ) -> None:
        process = other_process("a")
        assert not host.acquire("a")
        process.kill()
        process.wait()
        assert host.acquire("a")

    def test_a_stopped_one_keeps_it(self, host: HostLocks, other_process: OtherProcess) -> None:
        process = other_process("a")
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert not host.acquire("a")
        process.kill()
        process.wait()
        assert host.acquire("a")

    def test_a_program_that_is_started_inherits_none(
        self, host: HostLocks, folder: Path, other_process: OtherProcess
    ) -> None:
        assert host.acquire("a")
        process = other_process("b")
        names = [link.readlink().name for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert len([name for name in names if len(name) == 2]) == 16, "its own"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
class TestFork:
    """An application may fork: by multiprocessing, by a preloading server."""

    def test_a_child_has_no_part_in_its_parents_locks(self, new_host: NewHost) -> None:
        host = new_host()
        assert host.acquire("a")
        assert not in_child(lambda: host.acquire("a"))
        assert in_child(lambda: host.acquire("b"))

    @pytest.mark.parametrize("end", ["release", "close", "leave"])
    def test_a_child_does_not_free_them(self, new_host: NewHost, end: str) -> None:
        host, other = new_host(), new_host()
        assert host.acquire("a")

        def work() -> bool:
            if end == "release":
                host.release("a")
            elif end == "close":
                host.close()
            return True

        assert in_child(work)
        assert not other.acquire("a")

    def test_a_child_that_lives_on_does_not_keep_them(
        self, new_host: NewHost, folder: Path
    ) -> None:
        host, other = new_host(), new_host()
        assert host.acquire("a")
        (ended, end), (begun, begin) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(end)
            os.write(begin, b"!")
            os.read(ended, 1)
            os._exit(0)
        os.read(begun, 1)
        host.close()
        freed = other.acquire("a")
        os.close(end)
        os.waitpid(child, 0)
        for descriptor in (ended, begun, begin):
            os.close(descriptor)
        assert freed

    def test_a_child_inherits_no_descriptor(self, host: HostLocks, folder: Path) -> None:
        assert host.acquire("a")
        assert in_child(lambda: descriptors(folder) == 0)
        assert in_child(lambda: host.acquire("b") and descriptors(folder) == 16)
        assert descriptors(folder) == 16

    def test_an_instance_that_is_gone_is_not_kept_for_that(self, folder: Path) -> None:
        host = HostLocks(folder)
        assert host.acquire("a")
        host.close()
        del host
        gc.collect()
        assert in_child(lambda: descriptors(folder) == 0)
