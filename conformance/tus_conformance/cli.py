"""The command `tus-conformance`."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from tus_conformance import __version__
from tus_conformance.export import write_html, write_json, write_junit
from tus_conformance.report import Report, list_cases, section_table, summary
from tus_conformance.run import NotATusServer, Outcome, discover, exit_status, run
from tus_conformance.sections import SECTIONS, UnknownSelection, select
from tus_conformance.subject import ORIGIN, Settings
from tus_conformance.wire import Url

Writer = Callable[[Report], str]

USAGE_ERROR = 2
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:([\t -~\x80-\xff]*)\Z")
VISIBLE = re.compile(r"[!-~]+\Z")


def _header(text: str) -> tuple[str, str]:
    match = HEADER.match(text)
    if not match:
        raise click.BadParameter(
            f"{text!r} is not of the form 'Name: value'", param_hint="--header"
        )
    return match[1], match[2].strip()


def _origin(text: str) -> str:
    if not VISIBLE.match(text):
        raise click.BadParameter(f"{text!r} is no origin", param_hint="--origin")
    return text


def _url(text: str) -> Url:
    try:
        if not VISIBLE.match(text):
            raise ValueError(f"{text!r} has characters that a URL can only have percent-encoded")
        return Url.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from error


def _cannot_write(path: Path, why: str) -> NoReturn:
    click.echo(f"tus-conformance: cannot write {path}: {why}", err=True)
    sys.exit(USAGE_ERROR)


FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("url", required=False)
@click.option("--select", "selections", multiple=True, help="A section or a case: creation/3.")
@click.option("--strict", is_flag=True, help="Exit 1 when a SHOULD fails, too.")
@click.option("--list", "only_list", is_flag=True, help="List the cases and ask no server.")
@click.option("--header", "headers", multiple=True, help="'Name: value', sent with every request.")
@click.option("--origin", default=ORIGIN, show_default=True, help="The Origin of the CORS cases.")
@click.option(
    "--timeout",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1, 60.0),
    help="Seconds that one answer may take.",
)
@click.option(
    "--jobs",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Cases that run at the same time.",
)
@click.option("--json", "json_file", type=FILE, help="Write the results as JSON.")
@click.option("--junit", "junit_file", type=FILE, help="Write the results as JUnit XML.")
@click.option("--html", "html_file", type=FILE, help="Write the results as an HTML page.")
@click.version_option(__version__)
def main(
    url: str | None,
    selections: tuple[str, ...],
    strict: bool,
    only_list: bool,
    headers: tuple[str, ...],
    origin: str,
    timeout: float,
    jobs: int,
    json_file: Path | None,
    junit_file: Path | None,
    html_file: Path | None,
) -> None:
    """Says, sentence by sentence, what the tus 1.0 server at URL keeps of the protocol.

    URL is the upload creation URL. Exits with 0 when no MUST fails, with 1 when one does, and
    with 2 when the suite cannot judge: a usage error, no tus server, or a fault of its own.
    """
    console = Console()
    try:
        cases = select(selections)
    except UnknownSelection as error:
        raise click.BadParameter(str(error), param_hint="--select") from error
    if only_list:
        list_cases(console, cases)
        return
    if url is None:
        raise click.UsageError("Missing argument 'URL'.")
    settings = Settings(
        url=_url(url),
        headers=tuple(_header(text) for text in headers),
        timeout=timeout,
        limit=3.0 * timeout,
        origin=_origin(origin),
    )
    for path in (json_file, junit_file, html_file):
        if path is not None and not path.parent.is_dir():
            _cannot_write(path, "there is no such folder")
    try:
        features = discover(settings)
    except NotATusServer as error:
        click.echo(f"tus-conformance: {error}", err=True)
        sys.exit(USAGE_ERROR)
    outcomes = _run(console, run(cases, settings, features, jobs=jobs))
    report = Report(url=str(settings.url), features=features, outcomes=tuple(outcomes))
    summary(console, report, strict=strict)
    _write(((json_file, write_json), (junit_file, write_junit), (html_file, write_html)), report)
    sys.exit(exit_status(outcomes, strict=strict))


def _run(console: Console, running: Iterator[Outcome]) -> list[Outcome]:
    """Shows each section as soon as its cases are through."""
    outcomes: list[Outcome] = []
    titles = {section.key: section.title for section in SECTIONS}
    rows: list[Outcome] = []
    for outcome in running:
        if rows and rows[0].case.section != outcome.case.section:
            section_table(console, titles[rows[0].case.section], rows)
            rows = []
        rows.append(outcome)
        outcomes.append(outcome)
    if rows:
        section_table(console, titles[rows[0].case.section], rows)
    return outcomes


def _write(files: tuple[tuple[Path | None, Writer], ...], report: Report) -> None:
    for path, writer in files:
        if path is None:
            continue
        try:
            path.write_text(writer(report), encoding="utf-8")
        except OSError as error:
            _cannot_write(path, error.strerror or str(error))
