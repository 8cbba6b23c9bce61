"""A store of its own for each test, and every statement that its connections were given."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tusd_py.state.sqlite import SqliteState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "db.sqlite3"


@pytest.fixture
async def state(path: Path) -> AsyncIterator[SqliteState]:
    made = SqliteState(path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What SQLite carries out, on connections that are made from now on."""
    carried_out: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_trace_callback(carried_out.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return carried_out
