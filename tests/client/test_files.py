"""Finding files, and reading them as they were."""

import os
from pathlib import Path

import pytest

from tusd_py.client.errors import FileChanged, FileUnreadable
from tusd_py.client.files import Found, OpenFile, find, total_size


def _find(*paths: Path) -> tuple[list[Found], list[str]]:
    trouble: list[str] = []
    found = list(find(list(paths), lambda path, error: trouble.append(f"{path.name}: {error}")))
    return found, trouble


def test_a_folder_is_walked_in_order_and_links_to_folders_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in ("b", "a", "sub/c"):
        (root / name).write_text(name)
    (root / "loop").symlink_to(root)
    (root / "link").symlink_to(root / "a")
    os.mkfifo(root / "pipe")
    found, trouble = _find(root)
    assert [item.relative_path for item in found] == ["root/a", "root/b", "root/link", "root/sub/c"]
    assert [item.path for item in found][-1] == root / "sub" / "c"
    assert trouble == []
    assert total_size(found) == 1 + 1 + 1 + 5


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").touch()
    monkeypatch.chdir(tmp_path / "here")
    ((found,), _) = _find(Path("."))
    assert found.relative_path == "here/a"


def test_a_file_named_twice_is_sent_once(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    found, _ = _find(tmp_path / "a", tmp_path, tmp_path / "a")
    assert [item.relative_path for item in found] == [None]


def test_a_link_that_leads_nowhere_fails_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    ((found,), _) = _find(tmp_path)
    assert total_size([found]) == 0
    with pytest.raises(FileUnreadable, match="No such file or directory"):
        OpenFile.open(found.path)


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, trouble = _find(tmp_path)
    assert found == []
    assert trouble == [f"{tmp_path.name}: cannot be read: Permission denied"]


def test_metadata_holds_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    found = Found(path=tmp_path / name, relative_path=f"x/{name}")
    assert found.metadata() == {
        "filename": b"caf\xe9.txt",
        "filetype": b"text/plain",
        "relativePath": b"x/caf\xe9.txt",
    }
    assert Found(path=Path("noext")).metadata() == {"filename": b"noext"}


def test_a_file_is_read_at_any_offset(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with OpenFile.open(tmp_path / "a") as file:
        assert file.size == 10
        assert file.read(3, 4) == b"3456"
        assert file.read(8, 100) == b"89"


@pytest.mark.parametrize("what", ["longer", "shorter", "other bytes"])
def test_a_file_that_is_not_what_it_was(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with OpenFile.open(path) as file:
        if what == "longer":
            os.truncate(path, 11)
            os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
        elif what == "shorter":
            os.truncate(path, 3)
        else:
            path.write_bytes(b"9876543210")
            os.utime(path, ns=(1, 1))
        with pytest.raises(FileChanged, match="the file changed"):
            file.read(5, 5)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: int) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "a").write_bytes(b"x")
    with OpenFile.open(tmp_path / "a") as file:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(FileUnreadable, match="cannot be read: Input/output error"):
            file.read(0, 1)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(FileUnreadable, match="Not a regular file"):
        OpenFile.open(path)
