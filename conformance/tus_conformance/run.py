"""Runs cases against a server: independent ones at the same time, results in order."""

import contextlib
import enum
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from tus_conformance.case import Case, Level
from tus_conformance.pulse import NO_ANSWER, Pulse
from tus_conformance.subject import NAMED, Features, Field, Settings, Tus
from tus_conformance.verdict import Hangup, NotApplicable, Silence, Violation
from tus_conformance.wire import Answer

PROBE_LENGTH = "1"
TIME_FOR_SECOND_TRIES = 45.0
LONGEST_HALT = 35.0


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
        unanswered: For FAIL, that no answer came: silence, or a connection that just ended.
    """

    case: Case
    result: Result
    expected: str = ""
    came: str = ""
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    unanswered: bool = False


class NotATusServer(Exception):
    """The URL does not answer, or what answers does not speak tus."""


def discover(settings: Settings) -> Features:
    """Asks the server what it offers, and finds out how an upload is made.

    Raises:
        NotATusServer: Nobody answers, or not as a tus server.
    """
    tus = Tus(settings=settings, features=Features.of(NO_ANSWER))
    try:
        options = _options(tus)
        tus.features = Features.of(options)
        if not _speaks_tus(options):
            answer = tus.post(("Upload-Length", PROBE_LENGTH))
            if not _speaks_tus(answer):
                raise NotATusServer(
                    f"{settings.url} is not a tus server: OPTIONS answered {options} and POST "
                    f"{answer}, neither with a Tus- header"
                )
        return replace(tus.features, metadata=_metadata(tus))
    except Violation as violation:
        raise NotATusServer(f"{settings.url} does not answer: {violation.came}") from violation
    finally:
        tus.clean_up()


def _metadata(tus: Tus) -> tuple[Field, ...]:
    """What POST has to carry for HEAD to find the upload.

    Without this, the one mistake of a server that finds no upload without a file name would be
    the failure of every case that looks at an upload; it is that of creation/3 alone.
    """
    fields: tuple[Field, ...]
    for fields in ((), (NAMED,)):
        with contextlib.suppress(Violation):
            answer = tus.post(("Upload-Length", PROBE_LENGTH), *fields)
            location = answer.get("Location")
            if answer.ok and location and tus.head(tus.located(location)).ok:
                return fields
    return ()


def _options(tus: Tus) -> Answer:
    """The answer to OPTIONS; an empty one when the server lets it fall, which is for core/1."""
    try:
        return tus.ask("OPTIONS", tus.url, version=None)
    except (Hangup, Silence):
        return NO_ANSWER


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
    result, expected, came, unanswered = _attempt(case, tus)
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
        unanswered=unanswered,
    )


def _attempt(case: Case, tus: Tus) -> tuple[Result, str, str, bool]:
    try:
        case.check(tus)
    except Violation as violation:
        unanswered = isinstance(violation, (Silence, Hangup))
        return Result.FAIL, violation.expected, violation.came, unanswered
    except NotApplicable as reason:
        return Result.SKIP, "", str(reason), False
    except Exception:
        return Result.ERROR, "", traceback.format_exc(), False
    return Result.PASS, "", "", False


def run(
    cases: Sequence[Case], settings: Settings, features: Features, *, jobs: int = 8
) -> Iterator[Outcome]:
    """Runs the cases on `jobs` threads and gives their outcomes in the order of the cases.

    A server that one case brings to a halt, or down, gives no answer to those that run beside it,
    or next. A case that got none is therefore asked once more, alone, as long as there is time.
    """
    began = time.monotonic()
    pulse = Pulse(settings, LONGEST_HALT)
    again: dict[str, Outcome] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        running = [pool.submit(_guarded, case, settings, features, pulse) for case in cases]
        for future in running:
            outcome = future.result()
            if outcome.unanswered and not again:
                wait(running)
                found = [done.result() for done in running]
                unanswered = [one for one in found if one.unanswered]
                again = _once_more(unanswered, settings, features, pulse, began)
            yield again.get(outcome.case.id, outcome)


def _guarded(case: Case, settings: Settings, features: Features, pulse: Pulse) -> Outcome:
    """Runs one case when the server is not at a halt, and finds out whether it is at one then."""
    pulse.wait()
    if pulse.dead:
        came = "nothing: the server does not answer anything any more"
        return Outcome(case=case, result=Result.FAIL, expected="an answer", came=came)
    outcome = judge(case, settings, features)
    if outcome.unanswered:
        pulse.check()
    return outcome


def _once_more(
    unanswered: Sequence[Outcome],
    settings: Settings,
    features: Features,
    pulse: Pulse,
    began: float,
) -> dict[str, Outcome]:
    """Second tries, one after the other; what took longest may be the cause, and is the last."""
    again = {one.case.id: one for one in unanswered}
    halted = False
    for case in (one.case for one in sorted(unanswered, key=lambda one: one.seconds)):
        if halted:
            pulse.check()
        if not pulse.dead and time.monotonic() - began < TIME_FOR_SECOND_TRIES:
            again[case.id] = judge(case, settings, features)
            halted = again[case.id].unanswered
    return again


def exit_status(outcomes: Sequence[Outcome], *, strict: bool) -> int:
    """2 when the suite itself failed, 1 when the server did, else 0."""
    if any(outcome.result is Result.ERROR for outcome in outcomes):
        return 2
    binding = (Level.MUST, Level.SHOULD) if strict else (Level.MUST,)
    failed = [one for one in outcomes if one.result is Result.FAIL and one.case.level in binding]
    return 1 if failed else 0
