"""The page for those who come from tusd names every flag of tusd's, and none that is not ours."""

import re
from pathlib import Path

import click
import pytest

import tusd_py
from tests.interop.programs import run
from tests.tusd import tusd_program
from tusd_py.cli import main

PAGE = (Path(tusd_py.__file__).parent / "docs/from-tusd.md").read_text("utf-8")


def rows() -> list[tuple[str, str]]:
    """The table of flags: tusd's side, and ours."""
    table = PAGE.partition("## Flags")[2].partition("## Metrics")[0]
    found = re.findall(r"^\| (`-.*?) \| (.*) \|$", table, re.M)
    assert len(found) > 40
    return found


@pytest.mark.timeout(900)  # the first test of a session may build tusd
def test_every_flag_of_tusd_is_named() -> None:
    """One that is passed over is one that an operator loses without a word."""
    ended = run([tusd_program(), "-help"])
    flags = set(re.findall(r"^\s+-([a-z0-9-]+)", ended.stdout + ended.stderr, re.M))
    assert len(flags) > 60
    named = {flag for theirs, _ in rows() for flag in re.findall(r"`-([a-z0-9-]+)`", theirs)}
    assert named == flags


def test_every_flag_of_ours_is_there() -> None:
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    ours = {
        option
        for command in (main, *commands)
        if command is not None
        for param in command.params
        if isinstance(param, click.Option)
        for option in param.opts
    } | {"--version"}
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", PAGE):
        assert flag in ours, flag


def test_metrics_that_are_named_are_there() -> None:
    from tusd_py.metrics import Metrics

    shown = Metrics().render()[0].decode()
    named = PAGE.partition("## Metrics")[2].partition("## Answers")[0]
    for name in set(re.findall(r"`(tusd_\w+)`", named)):
        assert f" {name} " in shown, name
