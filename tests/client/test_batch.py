"""Many files, and what ends all of them."""

import os
from pathlib import Path

import pytest

from tests.client.conftest import Send
from tests.client.scripted import ScriptedServer
from tusd_py.client import batch
from tusd_py.client.link import Access, Link
from tusd_py.client.sending import Sender


def test_a_folder_that_cannot_be_listed_fails_the_run_and_not_the_rest(
    server: ScriptedServer, send: Send, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = send(tmp_path / "closed", file, server.url)
    assert result.exit_code == 1
    assert result.stderr.endswith("closed: cannot be read: Permission denied\n")
    assert bytes(server.only.data) == file.read_bytes()


def test_one_connection_serves_many_files(
    server: ScriptedServer, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Counted(Link):
        def __init__(self, access: Access) -> None:
            made.append(access)
            super().__init__(access)

    monkeypatch.setattr(batch, "Link", Counted)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / str(number)).write_text("x")
    assert send(folder, server.url).exit_code == 0
    assert len(server.uploads) == 20
    assert len(made) == 2, "one for OPTIONS, one for all files"


def test_a_defect_of_ours_is_not_taken_for_a_failed_file(
    server: ScriptedServer, send: Send, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(Sender, "send_file", broken)
    with pytest.raises(ZeroDivisionError):
        send(file, server.url)


def test_an_empty_folder_is_done(server: ScriptedServer, send: Send, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = send(tmp_path / "empty", server.url)
    assert (result.exit_code, result.stdout) == (0, "")
