"""Real S3 servers on loopback: Ceph's gateway from Debian's packages, and Swift's from PyPI.

Each keeps everything in one folder, on free ports, and ends with the `with` block, or with the
process that started it, however that ends. Ceph keeps its objects in memory and is up in two
seconds; Swift keeps them in files, and brings another reading of the same API.
"""

import base64
import configparser
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STARTS_WITHIN = 60.0
STOPS_WITHIN = 10.0

_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")

CEPH_PROGRAMS = (
    "ceph-mon",
    "ceph-osd",
    "radosgw",
    "ceph-authtool",
    "monmaptool",
    "radosgw-admin",
    "setpriv",
)
SWIFT_PROGRAMS = ("memcached", str(Path(sys.executable).with_name("swift-proxy-server")), "setpriv")

KMS_KEY = "testkey-1"
"""The id of a key that Ceph's gateway encrypts with."""

SMALL_PART = 128 << 10
"""Bytes of any part but the last, where a gateway is to take small ones."""

STORAGE_CLASS = "COLD"
"""One of Ceph's beside the usual one."""

Sections = dict[str, dict[str, object]]


class Gateway:
    """What speaks S3; killed, it can be started again on the same port over the same objects."""

    def __init__(self, programs: "_Programs", port: int, name: str, *command: object) -> None:
        self._programs = programs
        self._port = port
        self._name = name
        self._command = command
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it listens; it may run already."""
        if self._running is None:
            self._running = self._programs.start(self._name, *self._command)
            self._programs.wait_for(self._port, self._running)

    def kill(self) -> None:
        """SIGKILL, in the midst of whatever it does."""
        running, self._running = self._running, None
        assert running is not None, "it runs"
        running.kill()
        running.wait(STOPS_WITHIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """Where one listens, and who may use it.

    Attributes:
        gateway: What listens there; None if others use it, too.
    """

    endpoint: str
    access_key: str
    secret_key: str
    gateway: Gateway | None

    @property
    def environment(self) -> dict[str, str]:
        """What the standard chain finds its credentials in."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def missing(programs: tuple[str, ...]) -> list[str]:
    """Those of the programs that are not installed."""
    return [name for name in programs if shutil.which(name) is None]


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]


class _Programs:
    """Programs that write their logs into a folder, and end in the reverse order."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = {**os.environ, **env}
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, *command: object) -> bytes:
        """One that ends by itself: its output."""
        done = subprocess.run(
            [str(word) for word in command], env=self.env, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr.decode()[-2000:]}"
        return done.stdout

    def start(self, name: str, *command: object) -> subprocess.Popen[bytes]:
        """One that runs until the end."""
        with (self.folder / f"{name}.out").open("ab") as log:
            words = [*_DIES_WITH_US, *(str(word) for word in command)]
            started = subprocess.Popen(words, env=self.env, stdout=log, stderr=log)
        self._running.append(started)
        return started

    def wait_for(self, port: int, program: subprocess.Popen[bytes]) -> None:
        """Until it listens."""
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            assert program.poll() is None, f"{program.args!r} ended; see {self.folder}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise AssertionError(f"{program.args!r} does not listen; see {self.folder}")

    def stop(self) -> None:
        """Ends all of them; what they kept is worth nothing."""
        for program in reversed(self._running):
            program.send_signal(signal.SIGKILL)
            program.wait(STOPS_WITHIN)


def _write(path: Path, sections: Sections) -> None:
    parser = configparser.RawConfigParser()
    parser.read_dict(
        {name: {k: str(v) for k, v in lines.items()} for name, lines in sections.items()}
    )
    with path.open("w") as file:
        parser.write(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Ceph that runs, for gateways of any process.

    Attributes:
        folder: All that belongs to it.
    """

    folder: Path
    access_key: str
    secret_key: str


@contextlib.contextmanager
def ceph(folder: Path, *, smallest_part: int = 5 << 20, room: int = 8 << 30) -> Iterator[S3Server]:
    """A cluster, and a gateway before it; see there."""
    with cluster(folder, room=room) as made, gateway(made, smallest_part=smallest_part) as server:
        yield server


@contextlib.contextmanager
def gateway(made: Cluster, *, smallest_part: int = 5 << 20) -> Iterator[S3Server]:
    """What speaks S3; a cluster may have several.

    Args:
        made: Where the objects lie.
        smallest_part: Bytes of any part but the last.
    """
    (port,) = free_ports(1)
    name = f"rgw-{port}"
    programs = _Programs(made.folder, {"CEPH_CONF": str(made.folder / "ceph.conf")})
    flags = {
        "rgw-frontends": f"beast endpoint=127.0.0.1:{port}",
        "rgw-multipart-min-part-size": smallest_part,
        "admin-socket": made.folder / f"{name}.sock",
        "log-file": made.folder / f"{name}.log",
    }
    words = [f"--{flag}={value}" for flag, value in flags.items()]
    started = Gateway(programs, port, name, "radosgw", "-f", "-n", "client.rgw", *words)
    try:
        started.start()
        yield S3Server(
            endpoint=f"http://127.0.0.1:{port}",
            access_key=made.access_key,
            secret_key=made.secret_key,
            gateway=started,
        )
    finally:
        programs.stop()


@contextlib.contextmanager
def cluster(folder: Path, *, room: int = 8 << 30) -> Iterator[Cluster]:
    """A monitor, and one store in memory.

    Args:
        folder: Its path must be short, since sockets lie in it.
        room: Bytes for objects; they are not taken before they are needed.
    """
    folder.mkdir(parents=True)
    monitor, first = free_ports(2)
    cluster, store = uuid.uuid4(), uuid.uuid4()
    keyring, config, monmap = folder / "keyring", folder / "ceph.conf", folder / "monmap"
    shared: dict[str, object] = {
        "fsid": cluster,
        "mon host": f"[v2:127.0.0.1:{monitor}/0]",
        "public addr": "127.0.0.1",
        "ms bind msgr1": "false",
        "ms bind port min": first,
        "ms bind port max": min(first + 200, 65_535),
        "keyring": keyring,
        "run dir": folder,
        "admin socket": folder / "$name.sock",
        "log file": folder / "$name.log",
        "crash dir": folder,
        # One copy, in one group, and no word about it.
        "osd pool default size": 1,
        "osd pool default pg num": 1,
        "osd pool default pgp num": 1,
        "osd pool default pg autoscale mode": "off",
        "osd crush chooseleaf type": 0,
        "mon allow pool size one": "true",
        "mon data avail crit": 0,
    }
    _write(
        config,
        {
            "global": shared,
            # Changes of the map are agreed on at once: this is most of the time of a start.
            "mon": {"mon data": folder / "mon", "paxos propose interval": 0.05},
            "osd": {
                "osd data": folder / "osd",
                "osd objectstore": "memstore",
                "memstore device bytes": room,
            },
            "client.rgw": {
                "rgw run sync thread": "false",
                # They would wait for one another, half a minute for one that was killed.
                "rgw cache enabled": "false",
                # All of a bucket's keys are listed from one place, since there are few.
                "rgw override bucket index max shards": 1,
                # A key of its own stands for a KMS, over plain HTTP.
                "rgw crypt require ssl": "false",
                "rgw crypt s3 kms backend": "testing",
                "rgw crypt s3 kms encryption keys": f"{KMS_KEY}={_new_key()}",
                # What was deleted is gone soon, since it all lies in memory.
                "rgw gc obj min wait": 1,
                "rgw gc processor period": 5,
            },
        },
    )
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    programs = _Programs(folder, {"CEPH_CONF": str(config)})
    everything = "allow *"
    for name, caps in {
        "mon.": {"mon": everything},
        "client.admin": {"mon": everything, "osd": everything, "mgr": everything},
        "osd.0": {"mon": "allow profile osd", "osd": everything},
        "client.rgw": {"mon": everything, "osd": everything},
    }.items():
        new = () if keyring.exists() else ("--create-keyring",)
        allowed = [word for cap in caps.items() for word in ("--cap", *cap)]
        programs.run("ceph-authtool", keyring, *new, "--gen-key", "-n", name, *allowed)
    address = f"[v2:127.0.0.1:{monitor}]"
    programs.run("monmaptool", "--create", "--addv", "a", address, "--fsid", cluster, monmap)
    programs.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
    access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
    try:
        programs.start("mon", "ceph-mon", "-f", "-i", "a")
        programs.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        programs.run("ceph", "osd", "new", store, "0")
        programs.start("osd", "ceph-osd", "-f", "-i", "0")
        key, secret = f"--access-key={access_key}", f"--secret-key={secret_key}"
        programs.run("radosgw-admin", "user", "create", "--uid=u", "--display-name=u", key, secret)
        for zone in ("zonegroup", "zone"):
            where = (f"--rgw-{zone}=default", "--placement-id=default-placement")
            pool = ("--data-pool=default.rgw.cold",) if zone == "zone" else ()
            add = ("placement", "add", *where, f"--storage-class={STORAGE_CLASS}", *pool)
            programs.run("radosgw-admin", zone, *add)
        yield Cluster(folder=folder, access_key=access_key, secret_key=secret_key)
    finally:
        programs.stop()


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode("ascii")


_ROLES = ("object", "container", "account")
_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for each in ports:
    role, port = each.split(":")
    builder = RingBuilder(4, 1, 0)
    where = {"ip": "127.0.0.1", "port": int(port), "device": "disk"}
    builder.add_dev({"region": 1, "zone": 1, "weight": 1, **where})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{role}.ring.gz")
"""
"""All rings by one process, where Swift's own program would have to be started nine times."""


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """The servers of Swift, and its proxy that speaks S3."""
    folder.mkdir(parents=True)
    port, cache, *ports = free_ports(2 + len(_ROLES))
    (folder / "node" / "disk").mkdir(parents=True)
    bin_folder = Path(sys.executable).parent
    programs = _Programs(folder, {"PYTHONWARNINGS": "ignore"})
    shared: dict[str, object] = {
        "swift_dir": folder,
        "bind_ip": "127.0.0.1",
        "workers": 0,
        "user": _user(),
        "log_udp_host": "127.0.0.1",
        "log_udp_port": 9,
    }
    _write(
        folder / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_prefix": "p", "swift_hash_path_suffix": "s"},
            "storage-policy:0": {"name": "only", "default": "yes"},
            "swift-constraints": {"max_file_size": (5 << 30) + 2},
        },
    )
    try:
        for role, role_port in zip(_ROLES, ports, strict=True):
            _write_role(folder, role, role_port, shared)
        words = (f"{role}:{role_port}" for role, role_port in zip(_ROLES, ports, strict=True))
        programs.run(sys.executable, "-c", _RINGS, folder, *words)
        _write_proxy(folder, port, cache, shared)
        where = ("-u", _user(), "-l", "127.0.0.1", "-p", cache, "-U", 0, "-m", 64)
        memory = programs.start("memcached", "memcached", *where)
        started = [(cache, memory)]
        for role, role_port in zip(_ROLES, ports, strict=True):
            program = bin_folder / f"swift-{role}-server"
            started.append((role_port, programs.start(role, program, folder / f"{role}.conf")))
        for each, program_ in started:
            programs.wait_for(each, program_)
        program = bin_folder / "swift-proxy-server"
        proxy = Gateway(programs, port, "proxy", program, folder / "proxy.conf")
        proxy.start()
        yield S3Server(
            endpoint=f"http://127.0.0.1:{port}",
            access_key="test:tester",
            secret_key="testing",
            gateway=proxy,
        )
    finally:
        programs.stop()


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _write_role(folder: Path, role: str, port: int, shared: dict[str, object]) -> None:
    _write(
        folder / f"{role}.conf",
        {
            "DEFAULT": {
                **shared,
                "bind_port": port,
                "devices": folder / "node",
                "mount_check": "false",
                "fallocate_reserve": 0,
            },
            "pipeline:main": {"pipeline": f"{role}-server"},
            f"app:{role}-server": {"use": f"egg:swift#{role}", "recon_cache_path": folder},
        },
    )


def _write_proxy(folder: Path, port: int, cache: int, shared: dict[str, object]) -> None:
    filters: Sections = {
        "catch_errors": {},
        "gatekeeper": {},
        "cache": {"memcache_servers": f"127.0.0.1:{cache}"},
        "listing_formats": {},
        "bulk": {},
        "s3api": {"s3_acl": "false", "location": "us-east-1", "check_bucket_owner": "false"},
        "tempauth": {"user_test_tester": "testing .admin"},
        "copy": {},
        "slo": {},
        "dlo": {},
    }
    uses = {"cache": "memcache"}
    sections: Sections = {
        "DEFAULT": {**shared, "bind_port": port},
        "pipeline:main": {"pipeline": " ".join([*filters, "proxy-server"])},
        "app:proxy-server": {
            "use": "egg:swift#proxy",
            "allow_account_management": "true",
            "account_autocreate": "true",
        },
    }
    for name, lines in filters.items():
        sections[f"filter:{name}"] = {"use": f"egg:swift#{uses.get(name, name)}", **lines}
    _write(folder / "proxy.conf", sections)
