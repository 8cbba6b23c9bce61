"""Each case can fail: a mutant turns exactly its cases red, and the whole server none."""

import pytest
from mutant_server import MutantServer
from mutants import MUTANTS, Mutant

from tus_conformance.run import Outcome, Result, discover, run
from tus_conformance.sections import all_cases, select
from tus_conformance.subject import Settings
from tus_conformance.wire import Url

SMOKE = (
    "core/1",
    "core/28",
    "creation/3",
    "checksum/6",
    "termination/4",
    "concatenation/5",
    "cors/2",
    "resilience/18",
)


def outcomes(server: MutantServer, selection: tuple[str, ...], jobs: int = 12) -> list[Outcome]:
    settings = Settings(url=Url.parse(server.url), timeout=1.0, limit=4.0, pace=0.2)
    return list(run(select(selection), settings, discover(settings), jobs=jobs))


def ended(found: list[Outcome], result: Result) -> dict[str, str]:
    return {one.case.id: f"{one.expected} / {one.came}" for one in found if one.result is result}


def selection(mutant: Mutant) -> tuple[str, ...]:
    sections = {case.partition("/")[0] for case in mutant.red | mutant.perhaps}
    return (*sorted(sections), *(() if mutant.elsewhere else SMOKE))


def test_the_server_without_a_fault_passes_everything() -> None:
    with MutantServer() as server:
        found = outcomes(server, ())
    assert ended(found, Result.FAIL) == {}
    assert ended(found, Result.ERROR) == {}
    assert set(ended(found, Result.SKIP)) == {"expiration/7"}


def test_uploads_that_expire_soon_are_waited_for() -> None:
    with MutantServer(lifetime=1) as server:
        found = outcomes(server, ("expiration/7",))
    assert [one.result for one in found] == [Result.PASS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_turns_exactly_its_cases_red(mutant: Mutant) -> None:
    with MutantServer(
        mutant.name,
        rewrite=mutant.rewrite,
        extensions=mutant.extensions,
        lifetime=mutant.lifetime,
    ) as server:
        found = outcomes(server, selection(mutant), mutant.jobs)
    assert ended(found, Result.ERROR) == {}
    red = ended(found, Result.FAIL)
    assert set(red) - mutant.perhaps == mutant.red - mutant.perhaps, red


def test_every_case_is_turned_red_by_a_mutant() -> None:
    red = frozenset().union(*(mutant.red for mutant in MUTANTS))
    assert {case.id for case in all_cases()} == red


def test_every_mutant_has_its_own_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
