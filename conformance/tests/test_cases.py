"""What the cases claim about themselves: their numbers, their sentences, their levels."""

import ast
import os
import re
from pathlib import Path

import pytest

import tus_conformance
from tus_conformance.case import Case, Level
from tus_conformance.sections import SECTIONS, UnknownSelection, all_cases, select

BESIDE = Path(__file__).parents[3] / "shared" / "specs" / "tus-1.0.0.md"
SPEC = Path(os.environ.get("TUS_SPEC", BESIDE))
"""The specification as Markdown, github.com/tus/tus-resumable-upload-protocol: `protocol.md`."""

KEY_WORDS = {
    Level.MUST: r"\b(MUST|SHALL|REQUIRED)\b",
    Level.SHOULD: r"\b(SHOULD|should|RECOMMENDED)\b",
    Level.MAY: r"\b(MAY|OPTIONAL)\b",
}
ANY_KEY_WORD = re.compile(r"\b(MUST|SHALL|REQUIRED|SHOULD|should|RECOMMENDED|MAY|OPTIONAL)\b")


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def identify(case: Case) -> str:
    return case.id


def elsewhere(case: Case) -> bool:
    return case.source.startswith(("RFC ", "Fetch"))


@pytest.mark.skipif(not SPEC.exists(), reason="TUS_SPEC names no copy of the specification")
@pytest.mark.parametrize("case", [one for one in all_cases() if not elsewhere(one)], ids=identify)
def test_a_sentence_of_tus_stands_in_the_specification(case: Case) -> None:
    assert one_line(case.sentence) in one_line(SPEC.read_text())


@pytest.mark.parametrize("case", all_cases(), ids=identify)
def test_the_level_is_a_key_word_of_the_sentence(case: Case) -> None:
    if ANY_KEY_WORD.search(case.sentence):
        assert re.search(KEY_WORDS[case.level], case.sentence)
    elif case.source.startswith("Fetch"):
        assert case.level is not Level.MUST
    else:
        assert case.level is Level.MUST


def test_every_case_has_a_title_of_its_own_and_a_source() -> None:
    cases = all_cases()
    assert all(case.title and case.source for case in cases)
    titles = [(case.section, case.title) for case in cases]
    assert len(titles) == len(set(titles))


def test_there_are_enough_cases() -> None:
    assert len(all_cases()) >= 120


def test_numbers_count_from_one() -> None:
    for section in SECTIONS:
        assert [case.number for case in section] == list(range(1, len(section.cases) + 1))


def test_selections_name_sections_and_cases() -> None:
    assert [case.id for case in select(("creation/3,expiration/1", "creation/1"))] == [
        "creation/1",
        "creation/3",
        "expiration/1",
    ]
    assert {case.section for case in select(("cors",))} == {"cors"}
    assert select(()) == all_cases()
    with pytest.raises(UnknownSelection, match="creation/999"):
        select(("creation/999",))


def test_the_package_does_not_import_the_server_it_was_written_beside() -> None:
    package = Path(tus_conformance.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert not any(name.partition(".")[0] == "tusd_py" for name in names), path
