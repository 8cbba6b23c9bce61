"""The state stays where locks hold."""

from pathlib import Path

import pytest

from tusd_py.state.filesystem import NetworkFileSystem, check_local

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 22 0:27 / /srv rw,relatime shared:13 - nfs4 nas:/export rw
32 31 254:1 / /srv/local\040disk rw - xfs /dev/vdb rw
33 22 0:40 / /mnt/far rw - fuse.sshfs me@there: rw
34 22 254:2 / /home rw - ext4 /dev/vdc rw
35 34 0:28 / /home rw - nfs4 nas:/home rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/tusd-py", None),
        ("/srv/local disk/state", None),
        ("/srv/uploads/state", "nfs4"),
        ("/srv", "nfs4"),
        ("/srvs", None),
        ("/mnt/far/not/there/yet", "fuse.sshfs"),
        ("/home/me", "nfs4"),
    ],
)
def test_two_hosts_cannot_share_a_state(tmp_path: Path, folder: str, kind: str | None) -> None:
    """Otherwise: two servers on two machines cut the tails of each other's uploads."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.strip() + "\n")
    if kind is None:
        check_local(Path(folder), mounts)
        return
    with pytest.raises(NetworkFileSystem) as caught:
        check_local(Path(folder), mounts)
    assert kind in str(caught.value)
    assert "--state-dir" in str(caught.value)


def test_the_real_mounts_can_be_read(tmp_path: Path) -> None:
    check_local(tmp_path)


def test_in_a_chroot_the_root_is_not_listed(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("36 22 0:5 / /proc rw,relatime - proc proc rw\n")
    check_local(Path("/srv"), mounts)
