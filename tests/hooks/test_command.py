"""Hooks as programs: real ones, as tusd's users have them in their folder."""

import os
import time
from pathlib import Path

import pytest

from tests.serving import eventually
from tusd_py.hooks.command import CommandCarrier, CommandSettings
from tusd_py.hooks.interface import UploadInfo
from tusd_py.hooks.tusd import Call, NoAnswer

pytestmark = pytest.mark.anyio

UPLOAD = UploadInfo(id="abc", length=11, offset=5, metadata={})
CALL = Call(hook="pre-create", body=b'{"Type": "pre-create"}', upload=UPLOAD)


def program(folder: Path, script: str, name: str = "pre-create") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def carry(folder: Path, call: Call = CALL, timeout: float = 20.0) -> bytes | None:
    return await CommandCarrier(CommandSettings(directory=folder, timeout=timeout)).carry(call)


async def test_a_program_gets_the_call_and_answers(tmp_path: Path) -> None:
    program(tmp_path, 'echo "$TUS_ID $TUS_SIZE $TUS_OFFSET $TUSD_PY_EVENT_ID"; pwd; cat')
    said = await carry(tmp_path, Call(hook="pre-create", body=b"hi", upload=UPLOAD, event_id="7"))
    assert said == f"abc 11 5 7\n{tmp_path}\nhi".encode()


async def test_a_late_length_is_0_as_in_tusd(tmp_path: Path) -> None:
    program(tmp_path, 'printf "$TUS_SIZE"')
    late = Call(hook="pre-create", body=b"", upload=UploadInfo(id="a", length=None, metadata={}))
    assert await carry(tmp_path, late) == b"0"


async def test_a_hook_without_a_file_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "exit 1", name="post-finish")
    assert await carry(tmp_path) is None


async def test_no_output_says_nothing(tmp_path: Path) -> None:
    program(tmp_path, "exit 0")
    assert await carry(tmp_path) is None


async def test_a_program_need_not_read(tmp_path: Path) -> None:
    """A call is larger than a pipe when its headers are."""
    program(tmp_path, "echo {}")
    assert await carry(tmp_path, Call(hook="pre-create", body=b"x" * 500_000, upload=UPLOAD))


async def test_what_it_says_on_stderr_goes_to_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path, "echo hello from the hook >&2")
    await carry(tmp_path)
    assert "hello from the hook" in capfd.readouterr().err


@pytest.mark.parametrize("status", [1, 17, 255])
async def test_another_status_than_0_is_a_failure(tmp_path: Path, status: int) -> None:
    program(tmp_path, f"echo {{}}; exit {status}")
    with pytest.raises(NoAnswer, match=f"pre-create ended with status {status}$"):
        await carry(tmp_path)


@pytest.mark.parametrize(
    ("first_line", "mode", "why"),
    [
        ("#!/bin/sh", 0o644, "Permission denied"),
        ("#!/no/such/interpreter", 0o755, "No such file"),
        ("no program", 0o755, "Exec format error"),
    ],
)
async def test_what_cannot_be_run_is_a_failure(
    tmp_path: Path, first_line: str, mode: int, why: str
) -> None:
    """And not a hook that nobody takes part in: whatever it was to refuse would be let in."""
    (tmp_path / "pre-create").write_text(first_line + "\n")
    (tmp_path / "pre-create").chmod(mode)
    with pytest.raises(NoAnswer, match=f"pre-create cannot be run: {why}"):
        await carry(tmp_path)


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    program(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; wait")
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match=r"not done within 0\.5 s, and killed"):
        await carry(tmp_path, timeout=0.5)
    assert time.monotonic() - begun < 300, "it was waited for"
    child = int((tmp_path / "child").read_text())
    eventually("the child lives on", lambda: not _is_alive(child))


def _is_alive(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_relative_folder_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "echo {}")
    monkeypatch.chdir(tmp_path)
    made = CommandCarrier(CommandSettings(directory=Path(".")))
    monkeypatch.chdir(os.sep)
    assert await made.carry(CALL) == b"{}\n"
