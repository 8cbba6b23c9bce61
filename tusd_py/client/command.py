"""The command `tusd-py upload`: what the user typed, and the exit status.

0: all is sent. 1: something is not. 2: the command was wrong. 130: Ctrl-C.
"""

import netrc
import os
import sys
from pathlib import Path

import click
import httpx

from tusd_py.client.batch import Batch
from tusd_py.client.errors import SendError
from tusd_py.client.link import Access
from tusd_py.client.options import (
    parse_duration,
    parse_endpoint,
    parse_header,
    parse_metadata,
    parse_size,
)
from tusd_py.client.report import Report
from tusd_py.client.resume import ResumeStore, state_directory
from tusd_py.client.sending import Manner
from tusd_py.protocol.checksum import ALGORITHMS

FAILED = 1
INTERRUPTED = 130


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.argument("url", type=parse_endpoint, metavar="URL")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, help="Files sent at once.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=1,
    help="Parts of one file sent at once (Concatenation).",
)
@click.option(
    "--chunk-size",
    type=parse_size,
    metavar="SIZE",
    help="Bytes per request.  [default: the whole rest; 64MiB with --checksum]",
)
@click.option(
    "--checksum",
    type=click.Choice(list(ALGORITHMS)),
    help="Let the server verify each chunk.",
)
@click.option(
    "headers",
    "--header",
    type=parse_header,
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Goes with every request. Repeatable.",
)
@click.option(
    "--metadata",
    type=parse_metadata,
    multiple=True,
    metavar="KEY=VALUE",
    help="Goes with every upload, on top of filename, filetype and relativePath. Repeatable.",
)
@click.option(
    "--retry-for",
    type=parse_duration,
    metavar="DURATION",
    help="Give up after so long without progress; 0: at once.  [default: never]",
)
@click.option("--no-resume", is_flag=True, help="Begin anew, and remember nothing.")
@click.option("as_json", "--json", is_flag=True, help="One JSON object a line on stdout.")
@click.option("--quiet", is_flag=True, help="No progress; trouble is still told.")
def upload(
    files: tuple[str, ...],
    url: httpx.URL,
    jobs: int,
    parallel: int,
    chunk_size: int | None,
    checksum: str | None,
    headers: tuple[tuple[str, str], ...],
    metadata: tuple[tuple[str, bytes], ...],
    retry_for: float | None,
    no_resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Send files and folders to a tus server; `-` is standard input.

    Prints the URL of each finished upload. Whatever stops it (Ctrl-C, a crash, a lost network):
    run the same command again, and what was broken off goes on where it was. What was finished is
    sent again.
    """
    paths, takes_stdin = _inputs(files)
    if takes_stdin and parallel > 1:
        raise click.UsageError("standard input cannot be sent in parallel")
    store = None if no_resume else ResumeStore(directory=state_directory())
    manner = Manner(
        endpoint=str(url.copy_with(userinfo=b"")),
        metadata=_unique(metadata),
        parallel=parallel,
        chunk_size=chunk_size,
        checksum=checksum,
        retry_for=retry_for,
        store=store,
    )
    access = Access(headers=headers, auth=_auth(url, headers), tls=httpx.create_ssl_context())
    report = Report(as_json=as_json, quiet=quiet)
    batch = Batch(manner=manner, access=access, report=report, jobs=jobs)
    status = _run(batch, report, paths, takes_stdin=takes_stdin)
    click.get_current_context().exit(status)


def _run(batch: Batch, report: Report, paths: list[Path], *, takes_stdin: bool) -> int:
    pipe = sys.stdin.buffer if takes_stdin else None
    try:
        return 0 if batch.send(paths, pipe) else FAILED
    except SendError as error:
        report.say(f"tusd-py upload: {error}")
        return FAILED
    except KeyboardInterrupt:
        report.say(_farewell(resumable=batch.manner.store is not None and pipe is None))
        return INTERRUPTED


def _farewell(*, resumable: bool) -> str:
    if resumable:
        return "stopped; to go on from here, run the same command again"
    return "stopped; to send it, run the same command again, which begins anew"


def _inputs(files: tuple[str, ...]) -> tuple[list[Path], bool]:
    """The files and folders, and whether standard input is among them."""
    paths = [Path(file) for file in files if file != "-"]
    for path in paths:
        if not os.path.exists(path):  # and not Path.exists, which raises where it may not look
            raise click.UsageError(f"{click.format_filename(path)}: there is no such file")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be sent only once")
    return paths, "-" in files


def _unique(pairs: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
    metadata = dict(pairs)
    if len(metadata) < len(pairs):
        # "All keys MUST be unique." ("Creation, Upload-Metadata")
        raise click.UsageError("a metadata key was given twice")
    return metadata


def _auth(url: httpx.URL, headers: tuple[tuple[str, str], ...]) -> httpx.Auth | None:
    """From the URL, or from ~/.netrc; a header of the user's goes before both."""
    if any(name.lower() == "authorization" for name, _ in headers):
        return None
    if url.userinfo:
        return httpx.BasicAuth(url.username, url.password)
    try:
        return httpx.NetRCAuth()
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError) as error:
        raise click.UsageError(f"~/.netrc cannot be read: {error}") from error
