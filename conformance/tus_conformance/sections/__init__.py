"""The sections, in the order of the specification; `resilience` is what it implies."""

from tus_conformance.case import Case, Section
from tus_conformance.sections import core_patch as core_patch  # adds to `core`
from tus_conformance.sections import resilience_bounds as resilience_bounds  # to `resilience`
from tus_conformance.sections import resilience_http as resilience_http  # to `resilience`
from tus_conformance.sections.checksum import checksum
from tus_conformance.sections.checksum_trailer import checksum_trailer
from tus_conformance.sections.concatenation import concatenation
from tus_conformance.sections.concatenation_unfinished import concatenation_unfinished
from tus_conformance.sections.core import core
from tus_conformance.sections.cors import cors
from tus_conformance.sections.creation import creation
from tus_conformance.sections.creation_defer_length import creation_defer_length
from tus_conformance.sections.creation_with_upload import creation_with_upload
from tus_conformance.sections.expiration import expiration
from tus_conformance.sections.resilience import resilience
from tus_conformance.sections.termination import termination

SECTIONS: tuple[Section, ...] = (
    core,
    creation,
    creation_with_upload,
    creation_defer_length,
    expiration,
    checksum,
    checksum_trailer,
    termination,
    concatenation,
    concatenation_unfinished,
    cors,
    resilience,
)


def all_cases() -> list[Case]:
    """Every case, in order."""
    return [case for section in SECTIONS for case in section]


class UnknownSelection(ValueError):
    """A selection that names no section and no case."""


def select(selections: tuple[str, ...]) -> list[Case]:
    """The cases that `core`, `creation/3` or `creation/3,core` name; all without selections.

    Raises:
        UnknownSelection: One of them, or all together, name nothing.
    """
    if not selections:
        return all_cases()
    wanted = [one.strip() for text in selections for one in text.split(",") if one.strip()]
    for one in wanted:
        if not any(one in (case.section, case.id) for case in all_cases()):
            keys = ", ".join(section.key for section in SECTIONS)
            raise UnknownSelection(f"no case or section {one!r}; the sections are {keys}")
    if not wanted:
        raise UnknownSelection("an empty selection; without --select every case is run")
    return [case for case in all_cases() if case.section in wanted or case.id in wanted]
