"""The backends: each passes every suite in this folder. A further one is a further entry here."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tusd_py.locks.host import HostLocks
from tusd_py.locks.interface import Locks
from tusd_py.locks.local import LocalLocks
from tusd_py.state.interface import StateStore
from tusd_py.state.sqlite import SqliteState
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import Storage

STORAGES = ("disk", "s3")
STATES: dict[str, Callable[[Path], StateStore]] = {
    "sqlite": lambda path: SqliteState(path / "state" / "db.sqlite3")
}
LOCKS: dict[str, Callable[[Path], Locks]] = {
    "local": lambda path: LocalLocks(HostLocks(path / "locks"))
}

if TYPE_CHECKING:
    from tests.storage.s3_place import S3Place

NewStorage = Callable[[], Storage]
NewState = Callable[[], StateStore]


@pytest.fixture(params=STORAGES)
def new_storage(request: pytest.FixtureRequest, tmp_path: Path) -> NewStorage:
    """The same place again, as another process sees it; not opened."""
    if request.param == "disk":
        return lambda: DiskStorage(tmp_path / "place")
    place: S3Place = request.getfixturevalue("s3_place")
    return place.storage


@pytest.fixture
async def storage(new_storage: NewStorage) -> AsyncIterator[Storage]:
    made = new_storage()
    await made.open("mine", is_new=True, trust_unsynced=False)
    yield made
    await made.close()


@pytest.fixture(params=STATES)
def new_state(request: pytest.FixtureRequest, tmp_path: Path) -> NewState:
    """The same store again, as another process sees it; not opened."""
    make = STATES[request.param]
    return lambda: make(tmp_path)


@pytest.fixture
async def state(new_state: NewState) -> AsyncIterator[StateStore]:
    made = new_state()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def other(new_state: NewState, state: StateStore) -> AsyncIterator[StateStore]:
    """What a second process has of `state`."""
    made = new_state()
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=LOCKS)
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> Locks:
    return LOCKS[request.param](tmp_path)
