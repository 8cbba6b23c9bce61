"""The tools themselves: a fault strikes the call that it is meant for, and no other."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.injected.calls import Call, place
from tests.faults.injected.rebooting import BOOT_ID
from tests.faults.injected.watch import Fault, Watch

pytestmark = pytest.mark.usefixtures("watching")

PROGRAM = """
import os, sys, threading
def write(number):
    descriptor = os.open(f"{sys.argv[1]}/{number}", os.O_CREAT | os.O_WRONLY)
    for at in range(3):
        try:
            os.pwrite(descriptor, b"x", at)
        except OSError as error:
            print(number, at, error.errno, flush=True)
for number in range(3):
    thread = threading.Thread(target=write, args=(number,))
    thread.start()
    thread.join()
os.rename(f"{sys.argv[1]}/0", f"{sys.argv[1]}/renamed")
print(open("/proc/sys/kernel/random/boot_id").read())
"""


def writes(call: Call) -> bool:
    return call.name == "pwrite64"


def run(folder: Path, fault: Fault, boot: Path | None = None) -> tuple[Watch, int, list[str]]:
    watch = Watch(folder, instead={} if boot is None else {BOOT_ID: boot})
    watch.arm(fault)
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    process = watch.start(command, stdout=subprocess.PIPE)
    printed, _ = process.communicate(timeout=30)
    watch.join()
    return watch, process.returncode, printed.split("\n")


def test_a_kill_counts_over_all_threads(tmp_path: Path) -> None:
    """Each thread by itself, as strace counts, would never come to the fifth of nine calls."""
    watch, status, _ = run(tmp_path, Fault(at=5, counts=writes))
    assert status == -9
    assert watch.has_killed
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {"0": 3, "1": 1}, "the fifth was not carried out"


@pytest.mark.parametrize(("lasting", "failed"), [(False, ["0 1"]), (True, ["0 1", "0 2", "1 0"])])
def test_an_error_once_or_from_then_on(tmp_path: Path, *, lasting: bool, failed: list[str]) -> None:
    fault = Fault(at=2, error=errno.ENOSPC, lasting=lasting, counts=writes)
    watch, status, printed = run(tmp_path, fault)
    assert status == 0
    seen = [line for line in printed if line.endswith(f" {errno.ENOSPC}")]
    assert [line.rpartition(" ")[0] for line in seen][: len(failed)] == failed
    assert len(seen) == (8 if lasting else 1)
    assert watch.count == 9


def test_names_are_seen_and_other_folders_are_not(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    watch, _, _ = run(ours, Fault(at=1, error=errno.EIO, counts=lambda c: c.name == "rename"))
    assert watch.struck == [
        Call(name="rename", paths=(f"{ours}/0", f"{ours}/renamed"), changes=True)
    ]
    elsewhere = Watch(tmp_path / "elsewhere")
    elsewhere.arm(Fault(at=1))
    process = elsewhere.start([sys.executable, "-c", PROGRAM, str(ours)])
    assert process.wait(30) == 0
    elsewhere.join()
    assert elsewhere.count == 0


def test_a_process_sees_another_boot(tmp_path: Path) -> None:
    """A seam that needs no mount, and no switch in the server."""
    folder, boot = tmp_path / "files", tmp_path / "boot"
    folder.mkdir()
    boot.write_text("another one")
    _, status, printed = run(folder, Fault(at=1 << 30), boot=boot)
    assert status == 0
    assert "another one" in printed


def test_places_are_told_without_what_is_random() -> None:
    root = Path("/srv/uploads")
    assert place(f"/srv/uploads/data/0af/{'0123456789abcdef' * 2}", root) == "data/<shard>/<id>"
    assert place("/srv/uploads/data/0af", root) == "data/<shard>"
    assert os.sep not in place("/srv/uploads/file", root)
