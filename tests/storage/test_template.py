"""No name that a client chooses leads anywhere but to one visible file below `files/`."""

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.storage.samples import UPLOAD, named
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.storage.template import (
    FIELDS,
    InvalidTemplate,
    check_template,
    render,
    safe_name,
    safe_path,
    with_id,
)

steady = settings(deadline=None)

NAMES = (
    st.text()
    | st.text(alphabet=" ./\\\x00\n\t\u202e\u2028\u00a0ax~")
    | st.text(min_size=150, max_size=400)
)
IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._~-]{0,127}", fullmatch=True)
PIECES = st.sampled_from([f"{{{field}}}" for field in FIELDS] + ["/", "in", "-", ".", " ", "{{"])


def check(path: str) -> None:
    """What holds for the path of a finished file, whatever was asked for."""
    assert not path.startswith("/")
    for segment in path.split("/"):
        assert segment not in ("", ".", "..")
        assert len(segment.encode()) <= 255
    assert PurePosixPath("files", path).parts[:1] == ("files",)


def usable(template: str) -> bool:
    try:
        check_template(template)
    except InvalidTemplate:
        return False
    return True


@steady
@given(
    template=st.lists(PIECES, min_size=1, max_size=6).map("".join).filter(usable),
    upload_id=IDS,
    filename=NAMES.map(lambda text: text.encode("utf-8", "replace")) | st.binary(),
    key=st.sampled_from(["filename", "name", "other"]),
)
@example(template="{filename}", upload_id="a", filename=b". .", key="filename")
@example(template="{filename}", upload_id="a", filename=b". .bashrc", key="filename")
@example(template="{filename}", upload_id="a", filename=b"..", key="filename")
@example(template="{id}-{filename}", upload_id="a" * 128, filename=b"x" * 300, key="name")
def test_nothing_leads_outside(template: str, upload_id: str, filename: bytes, key: str) -> None:
    metadata = build_upload_metadata({key: filename})
    upload = UPLOAD._replace(id=upload_id, upload_metadata=metadata)
    path = render(template, upload)
    check(path)
    assert safe_path(path) == path
    check(with_id(path, upload_id))
    assert with_id(path, upload_id) != path


@steady
@given(NAMES)
@example(". .")
@example(". .bashrc")
@example("\u2028.x")
@example("." * 300)
def test_a_safe_name(name: str) -> None:
    safe = safe_name(name)
    assert len(safe.encode()) <= 200
    assert not safe.startswith("."), "hidden"
    assert safe == safe.strip()
    assert not set(safe) & set('/\\:*?"<>|\0')
    assert not {unicodedata.category(c) for c in safe} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.mp4", "film.mp4"),
        ("Ärger & Söhne (2).pdf", "Ärger & Söhne (2).pdf"),
        ("A\u0308rger", "Ärger"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\film.mp4", "film.mp4"),
        ("a/", ""),
        ("..", ""),
        (". .", ""),
        (" . .x", "x"),
        (".bashrc", "bashrc"),
        ("...a", "a"),
        ("a.", "a."),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("two\nlines\x1b[31m.txt", "twolines[31m.txt"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("line\u2028separator", "lineseparator"),
        ('what? "no": a|b*<c>', "what_ _no__ a_b__c_"),
        ("x" * 300, "x" * 200),
        ("x" * 300 + ".mp4", "x" * 196 + ".mp4"),
        ("x." + "y" * 300, "x." + "y" * 198),
        ("ü" * 300 + ".mp4", "ü" * 98 + ".mp4"),
        ("x" * 195 + "  .mp4", "x" * 195 + ".mp4"),
        ("", ""),
    ],
)
def test_what_becomes_of_a_name(name: str, expected: str) -> None:
    assert safe_name(name) == expected


def test_a_long_name_of_spaces_takes_no_time() -> None:
    """16 KiB of metadata are no reason to stop the thread for a second."""
    assert safe_name("a" + " " * 100_000 + "b")[:1] == "a"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "a"),
        ({"filename": b""}, "a"),
        ({"filename": b"", "name": b"film"}, "film"),
        ({"name": b"film"}, "film"),
        ({"filename": b"film", "name": b"x"}, "film"),
        ({"filename": b"\xff.mp4"}, "\ufffd.mp4"),
        ({"filename": b"../.."}, "a"),
    ],
)
def test_which_name_a_file_gets(metadata: dict[str, bytes], expected: str) -> None:
    upload = UPLOAD._replace(upload_metadata=build_upload_metadata(metadata) or None)
    assert render("{filename}", upload) == expected


def test_what_the_application_changed_counts() -> None:
    changed = build_upload_metadata({"filename": b"better.mp4"})
    upload = named("a", "film.mp4", changed_metadata=changed)
    assert render("{yyyy}-{mm}-{dd}/{id}/{filename}", upload) == "2023-11-14/a/better.mp4"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("", "needs {id} or {filename}"),
        ("all", "needs {id} or {filename}"),
        ("{yyyy}/{mm}", "needs {id} or {filename}"),
        ("{{id}}", "needs {id} or {filename}"),
        ("{size}", "has {size}; it can have {id}, {filename}, {yyyy}, {mm}, {dd}"),
        ("{id}{}", "has {}; it can have {id}"),
        ("{0}", "has {0}; it can have {id}"),
        ("{id.__class__}", "has {id.__class__}; it can have"),
        ("{id[0]}", "has {id[0]}; it can have"),
        ("{id", "is broken: "),
        ("id}", "is broken: "),
        ("{id!}", "is broken: "),
        ("{id!r}", "has '!' or ':' in {id}; a field is a name and nothing else"),
        ("{yyyy:d}/{id}", "has '!' or ':' in {yyyy}"),
        ("{filename:{size}}", "has '!' or ':' in {filename}"),
        ("/srv/{id}", "must be a relative path"),
        ("../{id}", "must be a relative path without '..'"),
        ("a/../{id}", "must be a relative path without '..'"),
        ("./{id}", "must be a relative path"),
        ("a//{id}", "or empty names"),
        ("{id}/", "or empty names"),
        ("{id}\0", "must be a relative path"),
    ],
)
def test_a_template_that_cannot_be_used(template: str, sentence: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        check_template(template)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("template", ["{id}", "{filename}", "in/{yyyy}/{id}.bin", "{{x}}-{id}"])
def test_a_template_that_can_be_used(template: str) -> None:
    assert check_template(template) == template


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("film.mp4", "film-ID.mp4"),
        ("in/a.b/film", "in/a.b/film-ID"),
        ("in/.hidden", "in/.hidden-ID"),
        ("a.tar.gz", "a.tar-ID.gz"),
        ("x" * 255, "x" * 252 + "-ID"),
        ("x" * 251 + ".mp4", "x" * 248 + "-ID.mp4"),
        ("x." + "y" * 21, "x." + "y" * 21 + "-ID"),
    ],
)
def test_another_name_beside_it(path: str, expected: str) -> None:
    assert with_id(path, "ID") == expected
