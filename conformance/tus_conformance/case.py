"""What a case is: a numbered, titled question that stands on one sentence of a specification."""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tus_conformance.subject import Tus

Check = Callable[["Tus"], None]


class Level(enum.StrEnum):
    """How strongly the sentence binds (RFC 2119): the key word that stands in it."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to the server.

    Attributes:
        section: The key of its section.
        number: Its number within the section; never given to another case.
        level: That of the sentence.
        source: Where the sentence stands, such as `Core Protocol, HEAD` or `RFC 9112 6.3`.
        sentence: The sentence, verbatim.
        needs: Extensions without which there is nothing to ask.
        check: Asks, and raises `Violation` or `NotApplicable`.
    """

    section: str
    number: int
    level: Level
    source: str
    sentence: str
    needs: tuple[str, ...]
    check: Check

    @property
    def id(self) -> str:
        """What `--select` takes: `creation/3`."""
        return f"{self.section}/{self.number}"

    @property
    def title(self) -> str:
        """What the server is asked, in one line."""
        return (self.check.__doc__ or "").strip().split("\n")[0].rstrip(".")


@dataclass(slots=True)
class Section:
    """The cases of one part of the protocol, by number, from however many files they come.

    Args:
        key: Its name in `--select`.
        title: Its name in the report.
        needs: Extensions that all of its cases need, unless a case says `always`.
    """

    key: str
    title: str
    needs: tuple[str, ...] = ()
    cases: list[Case] = field(default_factory=list)

    def case(
        self,
        number: int,
        level: Level,
        source: str,
        sentence: str,
        *,
        needs: tuple[str, ...] = (),
        always: bool = False,
    ) -> Callable[[Check], Check]:
        """Adds the decorated function as a case; its docstring is the title."""

        def add(check: Check) -> Check:
            assert all(one.number != number for one in self.cases), f"{self.key}/{number} twice"
            self.cases.append(
                Case(
                    section=self.key,
                    number=number,
                    level=level,
                    source=source,
                    sentence=sentence,
                    needs=needs if always else (*self.needs, *needs),
                    check=check,
                )
            )
            self.cases.sort(key=lambda one: one.number)
            return check

        return add

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)
