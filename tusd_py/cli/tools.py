"""The commands that work on a deployment while it is served, or before."""

import asyncio
import datetime
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from tusd_py.app import TusApp
from tusd_py.cli.flags import DURATION, EXPIRY, LIMIT, SPEED, flag, place_flags, signing_key, told
from tusd_py.config import build_size
from tusd_py.tools import back_up, import_tusd, list_uploads
from tusd_py.wiring.deployment import build_signer, opened
from tusd_py.wiring.errors import InvalidKeys
from tusd_py.wiring.logs import configure_logging
from tusd_py.wiring.settings import UPLOADING, VERBS, Place, UploadSettings


@click.command()
@signing_key(required=True)
@click.option(
    "--lasts", type=DURATION, default="1h", show_default=True, help="How long it is good for."
)
@click.option("--principal", default="", help="Whose uploads they are.  [default: nobody else's]")
@click.option(
    "--max-size",
    type=LIMIT,
    default="none",
    show_default=True,
    help="Of one upload, besides the limit of the server.",
)
@click.option(
    "--max-speed",
    type=SPEED,
    default="none",
    show_default=True,
    help="Bytes per second of all that is sent with it, besides the limits of the server.",
)
@click.option(
    "--may",
    type=click.Choice(VERBS),
    multiple=True,
    default=UPLOADING,
    show_default=True,
    help="What it allows; can be repeated.",
)
@click.argument("url")
@told
def sign(auth_signing_key: str, url: str, **given: Any) -> None:
    """Sign URL, for a browser that has no other credentials.

    URL is where uploads are created, with a slash at its end, or that of an upload. A server that
    has the same key lets in whoever has the signed one, until it ends.
    """
    try:
        click.echo(build_signer(auth_signing_key).sign(url, **given))
    except InvalidKeys:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@click.command()
@place_flags
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@told
def cleanup(dry_run: bool, **place: Any) -> None:
    """Remove expired uploads and stray files.

    A running server does this by itself every ten minutes; it is safe beside one. Finished files
    are never touched. Files that no record knows are set aside for a week first.
    """

    async def run(tus: TusApp) -> None:
        report = await tus.sweep(dry_run=dry_run)
        would = "would " if dry_run else ""
        for upload_id in report.expired:
            click.echo(f"{would}remove {upload_id}: expired")
        for upload_id in report.quarantined:
            click.echo(f"{would}set aside {upload_id}: no record knows this file")
        click.echo(
            f"{would}free {build_size(report.bytes_freed)}: {len(report.expired)} expired, "
            f"{len(report.quarantined)} stray, {report.forgotten} forgotten, {report.busy} busy"
        )

    _run(Place(**place), run)


@click.command()
@place_flags
@click.option("as_json", "--json", is_flag=True, help="One JSON object a line.")
@told
def ls(as_json: bool, **place: Any) -> None:
    """List uploads.

    A line has the id, the phase, the bytes so far and in all, the file's name, when it expires, and
    where it lies.
    """

    async def run(tus: TusApp) -> None:
        async for line in list_uploads(tus):
            click.echo(json.dumps(line) if as_json else _row(line))

    _run(Place(**place), run)


def _row(line: dict[str, Any]) -> str:
    length, expires_at = line["length"], line["expires_at"]
    of = "?" if length is None else build_size(length)
    when = "" if expires_at is None else f"expires {_moment(expires_at)}"
    name, path = _printable(line["filename"]) or "-", _printable(line["path"] or "")
    columns = (line["id"], line["phase"], f"{build_size(line['offset'])} of {of}", name, when, path)
    return "  ".join(filter(None, columns))


def _printable(text: str) -> str:
    """Text that a client chose, without what could steer the terminal or start a line."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    # A terminal that knows fewer characters than the text gets escapes, and not an error.
    encoding = sys.stdout.encoding or "utf-8"
    return "".join(shown).encode(encoding, "backslashreplace").decode(encoding)


def _moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"


@click.command()
@place_flags
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@told
def backup(directory: Path, **place: Any) -> None:
    """Copy everything to DIR, while servers run.

    DIR must be new or empty. It can be served as it is: `tusd-py serve --upload-dir DIR`.
    """

    async def run(tus: TusApp) -> None:
        report = await back_up(tus, directory)
        skipped = f"; {report.skipped} ended meanwhile" if report.skipped else ""
        size = build_size(report.bytes_copied)
        click.echo(f"copied {report.copied} uploads, {size}, to {directory}{skipped}")

    _run(Place(**place), run)


@click.command(name="import")
@place_flags
@flag("--base-path", default="/files/", help="URL path that uploads are sent to.")
@flag("--expire-after", type=EXPIRY, default="24h", help="For unfinished uploads, from now on.")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@told
def import_command(
    directory: Path, base_path: str, expire_after: float | None, **place: Any
) -> None:
    """Take over the uploads in DIR, the upload directory of tusd.

    Unfinished ones too: their clients resume, if the server answers under the same URL. Stop tusd
    first, and do not start it again on DIR. Nothing is changed there: files get a second name in
    UPLOAD_DIR, or are copied if that is on another disk. It may be run again.
    """

    async def run(tus: TusApp) -> None:
        report = await import_tusd(tus, directory, base_path)
        for upload_id in report.known:
            click.echo(f"{_printable(upload_id)} is here already")
        for upload_id, reason in report.not_taken.items():
            click.echo(f"not taken: {_printable(upload_id)}: {_printable(reason)}", err=True)
        click.echo(
            f"took {len(report.taken)} uploads, {build_size(report.bytes_taken)}; "
            f"{len(report.known)} were here already, {len(report.not_taken)} not taken"
        )
        if report.not_taken:
            sys.exit(1)

    _run(Place(**place), run, UploadSettings(expire_after=expire_after), is_new=True)


def _run(
    place: Place,
    use: Callable[[TusApp], Coroutine[Any, Any, None]],
    uploads: UploadSettings | None = None,
    *,
    is_new: bool = False,
) -> None:
    configure_logging("text", "warning")

    async def run() -> None:
        async with opened(place, uploads, is_new=is_new) as tus:
            await use(tus)

    asyncio.run(run())
