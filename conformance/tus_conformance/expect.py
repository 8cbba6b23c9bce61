"""What cases expect of an answer; each function raises `Violation` when it did not come."""

import re

from tus_conformance.verdict import Violation
from tus_conformance.wire import Answer

INTEGER = re.compile(r"[0-9]+\Z", re.ASCII)


def that(holds: bool, expected: str, came: object) -> None:
    """Fails unless `holds`."""
    if not holds:
        raise Violation(expected, str(came))


def status(answer: Answer, *allowed: int) -> None:
    """Fails unless the status is one of these."""
    that(answer.status in allowed, " or ".join(str(one) for one in allowed), answer)


def success(answer: Answer, what: str) -> None:
    """Fails unless the status is of the 2xx class."""
    that(answer.ok, f"{what} to succeed (2xx)", answer)


def refused(answer: Answer, what: str) -> None:
    """Fails unless the status is an error's."""
    that(answer.status >= 400, f"{what} to be refused (4xx)", answer)


def one(answer: Answer, name: str) -> str:
    """The value of a field that has to be there exactly once."""
    values = answer.all(name)
    that(len(values) == 1, f"one {name} header", _came(answer, name))
    return values[0]


def value(answer: Answer, name: str, expected: str) -> None:
    """Fails unless the field is there once, with this value."""
    that(one(answer, name) == expected, f"{name}: {expected}", _came(answer, name))


def absent(answer: Answer, name: str) -> None:
    """Fails when the field is there."""
    that(not answer.all(name), f"no {name} header", _came(answer, name))


def number(answer: Answer, name: str) -> int:
    """The value of a field that has to be a non-negative integer."""
    text = one(answer, name)
    that(bool(INTEGER.match(text)), f"{name} to be a non-negative integer", _came(answer, name))
    return int(text)


def integer(answer: Answer, name: str, expected: int) -> None:
    """Fails unless the field is this integer."""
    that(number(answer, name) == expected, f"{name}: {expected}", _came(answer, name))


def elements(answer: Answer, name: str) -> list[str]:
    """The elements of a comma-separated list; none of them may be empty or hold a space."""
    parts = [part.strip(" \t") for part in one(answer, name).split(",")]
    well = all(part and not re.search(r"\s", part) for part in parts)
    that(well, f"{name} to be a comma-separated list of names", _came(answer, name))
    return parts


def _came(answer: Answer, name: str) -> str:
    lines = [f"{key}: {text}" for key, text in answer.fields if key.lower() == name.lower()]
    return f"{answer} with " + (" and ".join(repr(line) for line in lines) or f"no {name}")
