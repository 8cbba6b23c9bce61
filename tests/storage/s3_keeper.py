"""One of each S3 store for all processes of a test run, since a start takes seconds.

The rules:
- The process that the run begins with keeps them: under pytest-xdist that which hands out the
  tests. The others find it by the environment.
- A store starts when somebody asks for it first, and ends with that process, however it ends: its
  programs die with the thread that started them.
- Tests share a store, and no bucket. Whoever kills a gateway starts one of its own.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.storage.s3_servers import (
    CEPH_PROGRAMS,
    SMALL_PART,
    SWIFT_PROGRAMS,
    Cluster,
    S3Server,
    cluster,
    gateway,
    missing,
    swift,
)

_WHERE = "TUSD_PY_TEST_STORES"


def kept_store(name: Literal["ceph", "ceph of small parts", "swift"]) -> S3Server:
    """A store that others use, too; skips the test where it is not installed."""
    _need(SWIFT_PROGRAMS if name == "swift" else CEPH_PROGRAMS)
    store: S3Server = _ask(name)
    return store


def kept_cluster() -> Cluster:
    """Where Ceph's objects lie, for a gateway of one's own; skips as `kept_store`."""
    _need(CEPH_PROGRAMS)
    found: Cluster = _ask("cluster")
    return found


def _need(programs: tuple[str, ...]) -> None:
    if lacking := missing(programs):
        pytest.skip(f"no S3 server to test on: {', '.join(lacking)} not installed")


def _ask(name: str) -> Any:
    with Client(os.environ[_WHERE], "AF_UNIX") as asked:
        asked.send(name)
        found = asked.recv()
    if isinstance(found, Exception):
        raise found
    return found


@contextmanager
def keeping() -> Iterator[None]:
    """Keeps stores for this process and those that it starts, for the length of a `with` block."""
    # Of a short name, since there are sockets in it.
    folder = Path(tempfile.mkdtemp(prefix="kept-"))
    os.environ[_WHERE] = str(folder / "ask")
    try:
        with closing(Listener(os.environ[_WHERE], "AF_UNIX", backlog=16)) as listener:
            thread = threading.Thread(target=_keep, args=(listener, folder), daemon=True)
            thread.start()
            yield
            _ask("")
            thread.join()
    finally:
        del os.environ[_WHERE]
        shutil.rmtree(folder)


def _keep(listener: Listener, folder: Path) -> None:
    kept: dict[str, object] = {}
    with ExitStack() as stack:
        while True:
            # Who asked may be gone meanwhile.
            with listener.accept() as asking, suppress(EOFError, OSError):
                name = asking.recv()
                if name and name not in kept:
                    kept[name] = _started(name, kept, folder, stack)
                asking.send(kept.get(name))
                if not name:
                    return


def _started(name: str, kept: dict[str, object], folder: Path, stack: ExitStack) -> object:
    try:
        if name == "cluster":
            return stack.enter_context(cluster(folder / "c"))
        if name == "swift":
            store = stack.enter_context(swift(folder / "s"))
        else:
            made = kept.get("cluster") or _started("cluster", kept, folder, stack)
            assert isinstance(made, Cluster), made
            kept["cluster"] = made
            smallest = SMALL_PART if name == "ceph of small parts" else 5 << 20
            store = stack.enter_context(gateway(made, smallest_part=smallest))
        return replace(store, gateway=None)
    except Exception as error:
        # Whoever asks raises it: their tests fail, and not this thread.
        return RuntimeError(f"{name} does not start: {error!r}")
