"""Pages of uploads: they walk along an index, whoever asks."""

import sqlite3
from pathlib import Path

import pytest

from tests.state.samples import UPLOAD
from tusd_py.state.interface import Owners
from tusd_py.state.listing import newest
from tusd_py.state.sqlite import SqliteState

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("owners", "steps"),
    [
        (Owners(has_all=True), ["uploads_of_nobody", "uploads_of_somebody"]),
        (Owners("alice"), ["uploads_of_nobody", "uploads_of_principal"]),
    ],
)
@pytest.mark.parametrize("after", [None, (1.5, "b")])
async def test_nothing_is_sorted_and_nothing_else_is_read(
    tmp_path: Path, owners: Owners, steps: list[str], after: tuple[float, str] | None
) -> None:
    """Of a million uploads, a page would take seconds, in which nobody else is answered."""
    state = SqliteState(tmp_path / "db.sqlite3")
    await state.open()
    await state.insert(UPLOAD)
    await state.close()
    connection = sqlite3.connect(tmp_path / "db.sqlite3")
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    newest(connection, owners, lambda _: True, after, 10)
    connection.set_trace_callback(None)
    plans = [
        [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        for statement in asked
        if statement.startswith("SELECT")
    ]
    for plan in plans:
        assert len([step for step in plan if " controls " not in step]) == 1, plan
    used = {plan[0].partition("USING INDEX ")[2].partition(" ")[0] for plan in plans}
    assert used == set(steps)
    connection.close()
