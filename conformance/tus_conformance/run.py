"""Runs cases against a server: independent ones at the same time, results in order."""

import enum
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from tus_conformance.case import Case, Level
from tus_conformance.subject import Features, Settings, Tus
from tus_conformance.verdict import Hangup, NotApplicable, Silence, Violation
from tus_conformance.wire import Answer

PROBE_LENGTH = "1"
TIME_FOR_SECOND_TRIES = 35.0


class Result(enum.StrEnum):
    """What a case ended in."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    SKIP = "SKIP"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One case's result.

    Attributes:
        case: The case.
        result: What it ended in.
        expected: For FAIL, what a conforming server would have done.
        came: For FAIL, what this one did; for SKIP and ERROR, why.
        log: For FAIL and ERROR, what was sent and what came.
        seconds: How long it took.
        silent: For FAIL, that the server gave no answer in time.
    """

    case: Case
    result: Result
    expected: str = ""
    came: str = ""
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    silent: bool = False


class NotATusServer(Exception):
    """The URL does not answer, or what answers does not speak tus."""


def discover(settings: Settings) -> Features:
    """Asks the server what it offers.

    Raises:
        NotATusServer: Nobody answers, or not as a tus server.
    """
    tus = Tus(settings=settings, features=Features.of(_none()))
    try:
        options = _options(tus)
        if not _speaks_tus(options):
            answer = tus.post(("Upload-Length", PROBE_LENGTH))
            if not _speaks_tus(answer):
                raise NotATusServer(
                    f"{settings.url} is not a tus server: OPTIONS answered {options} and POST "
                    f"{answer}, neither with a Tus- header"
                )
    except Violation as violation:
        raise NotATusServer(f"{settings.url} does not answer: {violation.came}") from violation
    finally:
        tus.clean_up()
    return Features.of(options)


def _options(tus: Tus) -> Answer:
    """The answer to OPTIONS; an empty one when the server lets it fall, which is for core/1."""
    try:
        return tus.ask("OPTIONS", tus.url, version=None)
    except (Hangup, Silence):
        return _none()


def _none() -> Answer:
    return Answer(status=0, reason="nothing", fields=())


def _speaks_tus(answer: Answer) -> bool:
    return any(name.lower().startswith("tus-") for name, _ in answer.fields)


def judge(case: Case, settings: Settings, features: Features) -> Outcome:
    """Runs one case; whatever happens in it becomes its outcome."""
    missing = [name for name in case.needs if name not in features.extensions]
    if missing:
        why = f"{', '.join(missing)} is not announced"
        return Outcome(case=case, result=Result.SKIP, came=why)
    tus = Tus(settings=settings, features=features)
    began = time.monotonic()
    result, expected, came, silent = _attempt(case, tus)
    log = tuple(tus.log) if result in (Result.FAIL, Result.ERROR) else ()
    seconds = time.monotonic() - began
    tus.clean_up()
    return Outcome(
        case=case,
        result=result,
        expected=expected,
        came=came,
        log=log,
        seconds=seconds,
        silent=silent,
    )


def _attempt(case: Case, tus: Tus) -> tuple[Result, str, str, bool]:
    try:
        case.check(tus)
    except Violation as violation:
        silent = isinstance(violation, Silence)
        return Result.FAIL, violation.expected, violation.came, silent
    except NotApplicable as reason:
        return Result.SKIP, "", str(reason), False
    except Exception:
        return Result.ERROR, "", traceback.format_exc(), False
    return Result.PASS, "", "", False


def run(
    cases: Sequence[Case], settings: Settings, features: Features, *, jobs: int = 8
) -> Iterator[Outcome]:
    """Runs the cases on `jobs` threads and gives their outcomes in the order of the cases.

    A server that one case brings to a halt is silent to those that run beside it. A case that
    got no answer is therefore asked once more, alone, as long as the run has time for it.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        running = [pool.submit(judge, case, settings, features) for case in cases]
        for future in running:
            outcome = future.result()
            if outcome.silent and jobs > 1:
                wait(running)
                if time.monotonic() - began < TIME_FOR_SECOND_TRIES:
                    outcome = judge(outcome.case, settings, features)
            yield outcome


def exit_status(outcomes: Sequence[Outcome], *, strict: bool) -> int:
    """2 when the suite itself failed, 1 when the server did, else 0."""
    if any(outcome.result is Result.ERROR for outcome in outcomes):
        return 2
    binding = (Level.MUST, Level.SHOULD) if strict else (Level.MUST,)
    failed = [one for one in outcomes if one.result is Result.FAIL and one.case.level in binding]
    return 1 if failed else 0
