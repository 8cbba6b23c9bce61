"""Whether the state may lie somewhere: SQLite's locks and ours do not hold over a network."""

import re
from pathlib import Path

_NETWORK = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
    "sshfs",
}
_MOUNTS = Path("/proc/self/mountinfo")


class NetworkFileSystem(Exception):
    """The state lies on a network file system, where two hosts could write at once."""


def check_local(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Makes sure that a folder, or where it would be made, is on a file system of this host.

    Args:
        folder: Where the state shall lie.
        mounts: What is mounted here (proc(5), mountinfo).

    Raises:
        NetworkFileSystem: It is not.
    """
    resolved = folder.resolve()
    # In a chroot, what it lies on is not listed. Of two at one point, the later is seen.
    mounted = [(Path("/"), ""), *map(_parse_mount, mounts.read_text("utf-8").splitlines())]
    above = (each for each in mounted if resolved.is_relative_to(each[0]))
    *_, (point, kind) = sorted(above, key=lambda mount: len(mount[0].parts))
    if kind.removeprefix("fuse.") in _NETWORK:
        raise NetworkFileSystem(
            f"{folder} lies on {point}, a network file system ({kind}), where locks do not hold; "
            "put the state on a local disk with --state-dir (Settings.state_dir)"
        )


def _parse_mount(line: str) -> tuple[Path, str]:
    """Where something is mounted, and the type of its file system."""
    before, _, after = line.partition(" - ")
    escaped = before.split(" ")[4]
    point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), escaped)
    return Path(point), after.split(" ")[0]
