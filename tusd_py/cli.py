"""The command `tusd-py`: what the operator types, and what comes back."""

import asyncio
import datetime
import functools
import json
import re
import sys
import tomllib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from tusd_py import __version__
from tusd_py.app import TusApp
from tusd_py.config import build_size, parse_duration, parse_size
from tusd_py.tools import back_up, import_tusd, list_uploads
from tusd_py.wiring import (
    EXPECTED,
    FSYNC,
    UPLOADING,
    VERBS,
    BucketSettings,
    ConnectionLimits,
    HookSettings,
    InvalidKeys,
    Place,
    ServerSettings,
    UploadSettings,
    build_signer,
    configure_logging,
    connections_by_descriptors,
    explain,
    opened,
    page_beside,
    parse_networks,
    serve,
)

T = TypeVar("T")
P = ParamSpec("P")


class _Parsed(click.ParamType[Any]):
    """A value in a syntax of ours; `never` or `none` may stand for no value at all."""

    def __init__(self, name: str, parse: Callable[[str], Any], nothing: str = "") -> None:
        self.name = name
        self._parse = parse
        self._nothing = nothing

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if not isinstance(value, str) or (self._nothing and value == self._nothing):
            return None if value == self._nothing else value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _pattern(text: str) -> str:
    try:
        re.compile(text if text != "*" else "")
    except (re.error, OverflowError) as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error
    return text


def _limit(text: str) -> int | None:
    return parse_size(text) or None  # 0 is tusd's word for no limit


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a number, such as 1000; 0 is for no limit")
    return int(text)


LIMIT = _Parsed("size", _limit, "none")
SIZE = _Parsed("size", parse_size)
COUNT = _Parsed("number", _count)
DURATION = _Parsed("duration", parse_duration)
EXPIRY = _Parsed("duration", parse_duration, "never")
PATTERN = _Parsed("pattern", _pattern)


def _flag(name: str, **kwargs: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """An option that can also be an environment variable, or a line of the TOML file."""
    envvar = "TUSD_PY_" + name.strip("-").replace("-", "_").upper()
    return click.option(name, envvar=envvar, show_envvar=True, show_default=True, **kwargs)


_signing_key = functools.partial(
    _flag,
    "--auth-signing-key",
    metavar="FILE",
    help="Secret keys that URLs are signed with (see 'tusd-py sign'), one a line; or env:NAME.",
)


def _place(command: Callable[P, T]) -> Callable[P, T]:
    """The options that say where a deployment lies."""
    for option in (
        _flag(
            "--s3-addressing-style",
            type=click.Choice(["auto", "path", "virtual"]),
            help="Whether the bucket's name stands in the URL's path or in its host.  "
            "[default: path with --s3-endpoint, auto without]",
        ),
        _flag(
            "--s3-owner",
            metavar="NAME",
            help="Whose uploads are known from the bucket where the state directory was lost.  "
            "[default: the host's name and the path of the state]",
        ),
        _flag("--s3-object-prefix", default="", help="What all keys in the bucket begin with."),
        _flag("--s3-region", help="Of the bucket.  [default: as AWS's tools find it]"),
        _flag("--s3-endpoint", metavar="URL", help="Of the store.  [default: AWS]"),
        _flag(
            "--s3-bucket",
            help="Keep uploads in this bucket of an S3 store, not in files; needs tusd-py[s3]. "
            "Credentials are found as AWS's tools find them.",
        ),
        _flag(
            "--file-template",
            metavar="PATH",
            help="Name of finished files below UPLOAD_DIR/files, or of objects in the bucket, "
            "such as '{yyyy}/{mm}/{id}-{filename}'.  [default: they stay in UPLOAD_DIR/data]",
        ),
        _flag(
            "--state-dir",
            type=click.Path(path_type=Path),
            help="Folder of the database, on a local disk.  [default: UPLOAD_DIR/state]",
        ),
        _flag(
            "--upload-dir",
            type=click.Path(path_type=Path),
            default=Path("data"),
            help="Folder of all uploads, finished or not.",
        ),
    ):
        command = option(command)
    return command


def _hooks(command: Callable[P, T]) -> Callable[P, T]:
    """The options that say who is asked and told of uploads, as tusd has them."""
    for option in (
        _flag(
            "--progress-hooks-interval",
            type=DURATION,
            default="1s",
            help="Between two post-receive of one upload.",
        ),
        _flag(
            "--hooks-enabled-events",
            metavar="NAMES",
            default=HookSettings().hooks_enabled_events,
            help="Hooks that are called, separated by commas; empty for all.",
        ),
        _flag(
            "--hooks-dir-timeout",
            type=DURATION,
            default="60s",
            help="How long a program in HOOKS_DIR may take.",
        ),
        _flag(
            "--hooks-dir",
            type=click.Path(path_type=Path),
            help="Run the programs in this folder that are named as the hooks.",
        ),
        _flag(
            "--hooks-http-secret-file",
            type=click.Path(path_type=Path),
            help="Sign what is sent with the secret in this file.",
        ),
        _flag(
            "--hooks-http-forward-headers",
            metavar="NAMES",
            default="",
            help="Headers of the client that are sent along, separated by commas.",
        ),
        _flag(
            "--hooks-http-size-limit", type=SIZE, default="5KiB", help="Of the answer to a hook."
        ),
        _flag(
            "--hooks-http-timeout",
            type=DURATION,
            default="15s",
            help="How long a hook may take, with all its attempts.",
        ),
        _flag(
            "--hooks-http-backoff",
            type=DURATION,
            default="1s",
            help="Between two attempts.",
        ),
        _flag(
            "--hooks-http-retry",
            type=click.IntRange(1, 100),
            default=3,
            help="Attempts for each hook, where the network fails or the status is 500 or more.",
        ),
        _flag("--hooks-http", metavar="URL", help="Send tusd's hooks there."),
    ):
        command = option(command)
    return command


def _in_bucket(command: Callable[P, T]) -> Callable[P, T]:
    """The options that say how a server uses a bucket."""
    number = click.IntRange(min=1)
    for option in (
        _flag(
            "--s3-download-expires",
            type=DURATION,
            default="15m",
            help="How long a link of --s3-download redirect can be used; up to 7d.",
        ),
        _flag(
            "--s3-download",
            type=click.Choice(["proxy", "redirect"]),
            default="proxy",
            help="Pass the bytes of a download through, or send the client to the bucket by a "
            "signed link.",
        ),
        _flag(
            "--s3-tags",
            metavar="TAGS",
            default="",
            help="Of finished uploads, as in a URL: 'team=video&kind=upload'.",
        ),
        _flag("--s3-sse-kms-key-id", metavar="ID", help="Key that --s3-sse aws:kms encrypts with."),
        _flag("--s3-sse", help="Encryption of all objects: AES256 or aws:kms."),
        _flag("--s3-storage-class", metavar="CLASS", help="Of finished uploads."),
        _flag(
            "--s3-concurrent-parts-per-upload",
            type=number,
            default=4,
            help="Parts of one upload that are sent at once.",
        ),
        _flag(
            "--s3-concurrent-part-uploads",
            type=number,
            default=32,
            help="Parts of all uploads of a worker that are sent at once.",
        ),
        _flag("--s3-equal-parts", is_flag=True, help="Send parts of one size, as R2 wants them."),
        _flag(
            "--s3-max-object-size",
            type=SIZE,
            default="5TiB",
            help="Largest object that the store takes; AWS takes 48.8TiB.",
        ),
        _flag(
            "--s3-max-parts",
            type=number,
            default=10_000,
            help="Most parts of an object that the store takes.",
        ),
        _flag(
            "--s3-min-part-size",
            type=SIZE,
            default="5MiB",
            help="Smallest part that the store takes, but for the last.",
        ),
        _flag(
            "--s3-part-size",
            type=SIZE,
            default="8MiB",
            help="Of a part, unless an upload is so long that parts must be larger.",
        ),
        _flag(
            "--s3-memory",
            type=SIZE,
            default="256MiB",
            help="For bytes on their way to the bucket, of all uploads of a worker together.",
        ),
    ):
        command = option(command)
    return command


def _told(command: Callable[P, T]) -> Callable[P, T]:
    """Lets what an operator can mend end in one line, and not in a stack trace."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except EXPECTED as error:
            raise click.ClickException(explain(error)) from error

    return wrapped


def _read_config(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    try:
        lines = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}") from error
    values = {name.replace("_", "-"): value for name, value in lines.items()}
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    flags = {name: _flags(command) for name, command in commands.items() if command is not None}
    unknown = sorted(set(values) - set().union(*flags.values()))
    if unknown:
        raise click.BadParameter(f"{path} has {unknown[0]!r}, which is no flag of any command")
    context.default_map = {
        command: {
            str(known[flag].name): _checked(path, flag, values[flag], known[flag])
            for flag in values.keys() & known.keys()
        }
        for command, known in flags.items()
    }
    return path


def _flags(command: click.Command) -> dict[str, click.Option]:
    """The options of a command, by flag without its dashes."""
    options = (param for param in command.params if isinstance(param, click.Option))
    return {flag.lstrip("-"): option for option in options for flag in option.opts}


def _checked(path: Path, flag: str, value: object, option: click.Option) -> object:
    """A value of the file, in a shape that its flag can be given in."""
    if isinstance(value, list) and option.multiple:
        return [str(entry) for entry in value]
    if isinstance(value, dict | list) or isinstance(value, bool) is not option.is_flag:
        wanted = "true or false" if option.is_flag else "text or a number"
        raise click.BadParameter(f"{path}: {flag} must be {wanted}")
    return value if option.is_flag else str(value)


class _Commands(click.Group):
    """The commands; the client's is loaded when it is asked for, so that a server starts sooner."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group.list_commands`."""
        return sorted([*super().list_commands(ctx), "upload"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group.get_command`."""
        if cmd_name == "upload":
            from tusd_py.client.command import upload

            return upload
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tusd-py")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="TUSD_PY_CONFIG",
    show_envvar=True,
    callback=_read_config,
    expose_value=False,
    is_eager=True,
    help="A TOML file with flags of any command, without their dashes: max-size = '5GiB'.",
)
def main() -> None:
    """A tus 1.0 server for resumable uploads that never loses a byte it acknowledged."""


@main.command(name="serve")
@_flag("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 for all.")
@_flag("--port", type=click.IntRange(0, 65_535), default=1080, help="0 picks a free one.")
@_flag(
    "--unix-sock",
    type=click.Path(path_type=Path),
    help="Listen on this Unix socket instead of a port.",
)
@_flag("--base-path", default="/files/", help="URL path that uploads are sent to.")
@_place
@_in_bucket
@_flag("--max-size", type=LIMIT, default="none", help="Largest upload, such as 500MB or 5GiB.")
@_flag(
    "--min-free-disk",
    type=SIZE,
    default="64MiB",
    help="Room that stays free on the disk of the uploads, for everything else; 0 for none. "
    "A bucket has no floor.",
)
@_flag("--max-metadata-size", type=SIZE, default="16KiB", help="Largest Upload-Metadata.")
@_flag("--max-head-size", type=SIZE, default="64KiB", help="Largest request line and headers.")
@_flag(
    "--head-timeout",
    type=DURATION,
    default="30s",
    help="How long the request line and the headers may take.",
)
@_flag(
    "--max-connections",
    type=COUNT,
    help="Of a worker, at the same time; 0 for no limit.  [default: three quarters of the files "
    "that it may open]",
)
@_flag(
    "--max-connections-per-address",
    type=COUNT,
    default="1000",
    help="Likewise, of one address that is no trusted proxy.",
)
@_flag(
    "--max-requests-per-client",
    type=COUNT,
    default="0",
    help="Per second and worker, and ten seconds' worth at once; HEAD is always answered. 0 for no "
    "limit.",
)
@_flag(
    "--max-open-uploads",
    type=COUNT,
    default="100000",
    help="Unfinished uploads at the same time; 0 for no limit.",
)
@_flag(
    "--max-open-uploads-per-client",
    type=COUNT,
    default="2000",
    help="Likewise, of whoever an upload belongs to, or of one address where nobody is asked.",
)
@_flag(
    "--expire-after",
    type=EXPIRY,
    default="24h",
    help="Remove an unfinished upload that got nothing for so long, such as 90m or 7d; or never.",
)
@_flag(
    "--fsync",
    type=click.Choice(FSYNC),
    default="complete",
    help="What a loss of power cannot take away again: nothing, complete uploads, or every "
    "byte that was acknowledged.",
)
@_flag(
    "--behind-proxy",
    is_flag=True,
    help="Take our public URL, and who the client is, from Forwarded and X-Forwarded-*; only "
    "behind a proxy that sets them.",
)
@_flag(
    "--trusted-proxies",
    type=_Parsed("networks", parse_networks),
    default=UploadSettings().trusted_proxies,
    help="Addresses and networks of such proxies, separated by commas; those headers do not count "
    "from others.",
)
@_flag(
    "--cors-allow-origin",
    type=PATTERN,
    default="*",
    help="Web pages that may upload: * for all, or a regular expression for the whole origin.",
)
@_flag("--cors-allow-credentials", is_flag=True, help="Let those pages send cookies.")
@_flag(
    "--cors-allow-headers",
    default="",
    help="Further request headers that those pages may send, separated by commas.",
)
@_flag(
    "--auth-tokens",
    metavar="FILE",
    help="Let in who sends one of these tokens: lines of a token and whose it is; or env:NAME.",
)
@_flag(
    "--auth-jwt-keys",
    metavar="URL|FILE",
    help="Let in who sends a JSON Web Token that these keys verify: URL or file of a JWK set, "
    "file of public keys in PEM or of secrets, or env:NAME; needs tusd-py[jwt].",
)
@_flag("--auth-jwt-audience", help="What a JSON Web Token must name in aud.")
@_flag("--auth-jwt-issuer", help="What the iss of a JSON Web Token must be.  [default: any]")
@_flag(
    "--auth-jwt-leeway", type=DURATION, default="10s", help="By which clocks may differ for them."
)
@_signing_key()
@_flag(
    "--no-auth",
    is_flag=True,
    help="Let everyone in, on any address; otherwise only loopback is open to all.",
)
@_flag(
    "--network-timeout",
    type=DURATION,
    default="60s",
    help="End a request that brought no byte for so long; what came is kept.",
)
@_flag(
    "--slowest-speed",
    type=SIZE,
    default="100",
    help="End a request that brings fewer bytes per second, over half a minute; 0 for no limit.",
)
@_flag(
    "--slowest-download",
    type=SIZE,
    default="100",
    help="End an answer of which the client takes fewer bytes per second, over a minute; 0 for no "
    "limit.",
)
@_flag(
    "--acquire-lock-timeout",
    type=DURATION,
    default="20s",
    help="How long a request waits for another one on the same upload.",
)
@_flag(
    "--shutdown-timeout",
    type=DURATION,
    default="10s",
    help="How long the end may take, after SIGTERM or Ctrl-C.",
)
@_flag(
    "--workers",
    type=click.IntRange(1, 1024),
    default=1,
    help="Processes that serve; with more than one, another process keeps them running.",
)
@_flag(
    "--worker-timeout",
    type=DURATION,
    default="30s",
    help="Kill one of several workers that does not answer for so long.",
)
@_hooks
@_flag("--metrics-path", default="/metrics", help="URL path for Prometheus; empty for none.")
@_flag(
    "--traces",
    type=click.Choice(["otlp", "console"]),
    help="Send a trace of each request with OpenTelemetry; see the variables OTEL_...",
)
@_flag("--no-ui", is_flag=True, help="No page for browsers at /.")
@_flag(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Of the log, which goes to stderr.",
)
@_flag(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least that is logged.",
)
@_told
def serve_command(**flags: Any) -> None:
    """Take uploads, until SIGTERM or Ctrl-C.

    The first line of output tells the URL that a tus client needs. A flag goes before its
    environment variable, and that before the file of `tusd-py --config`.
    """
    if flags["cors_allow_credentials"] and flags["cors_allow_origin"] == "*":
        raise click.UsageError(
            "--cors-allow-credentials needs --cors-allow-origin with the pages that may send them, "
            r"such as 'https://app\.example\.com'; it is * now, which is any page of the web"
        )
    if flags["head_timeout"] < 1 or flags["max_head_size"] < 1024:
        raise click.UsageError(
            "honest requests need more: give --head-timeout 1s and --max-head-size 1KiB, or more"
        )
    if flags["worker_timeout"] < 1:
        raise click.UsageError(
            "--worker-timeout is too short: a busy worker would be killed; give 1s or more"
        )
    _check_auth(flags)
    if flags["progress_hooks_interval"] < 0.1:
        raise click.UsageError("--progress-hooks-interval is too short; give 100ms or more")
    configure_logging(flags["log_format"], flags["log_level"])
    in_bucket = BucketSettings(**_of(BucketSettings, flags))
    place = Place(**_of(Place, flags), in_bucket=in_bucket)
    most = flags["max_connections"]
    server = ServerSettings(
        host=flags["host"],
        port=flags["port"],
        unix_sock=flags["unix_sock"],
        metrics_path=flags["metrics_path"] or None,
        traces=flags["traces"],
        ui=not flags["no_ui"],
        shutdown_timeout=flags["shutdown_timeout"],
        workers=flags["workers"],
        worker_timeout=flags["worker_timeout"],
        connections=ConnectionLimits(
            most=connections_by_descriptors() if most is None else most or None,
            most_per_address=flags["max_connections_per_address"] or None,
            head_within=flags["head_timeout"],
            max_head=flags["max_head_size"],
            slowest_download=flags["slowest_download"],
        ),
    )
    flags["hooks"] = HookSettings(**_of(HookSettings, flags))
    uploads = UploadSettings(**_of(UploadSettings, flags))

    def announce(url: str) -> None:
        click.echo(f"tusd-py takes uploads at {url}")
        if page := page_beside(url, server):
            click.echo(f"with a page for browsers at {page}")

    serve(place, server, uploads, announce)


def _of(settings: Any, flags: dict[str, Any]) -> dict[str, Any]:
    """Those of the flags that the fields of some settings are named as."""
    return {name: flags[name] for name in settings.__dataclass_fields__ if name in flags}


def _check_auth(flags: dict[str, Any]) -> None:
    asking = [name for name in ("auth_tokens", "auth_jwt_keys", "auth_signing_key") if flags[name]]
    if flags["no_auth"] and asking:
        flag = "--" + asking[0].replace("_", "-")
        raise click.UsageError(f"--no-auth lets everyone in, and {flag} does not; give one of them")
    for name in ("auth_jwt_audience", "auth_jwt_issuer"):
        if flags[name] and not flags["auth_jwt_keys"]:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} is for JSON Web Tokens: give --auth-jwt-keys with it")


@main.command()
@_signing_key(required=True)
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
    "--may",
    type=click.Choice(VERBS),
    multiple=True,
    default=UPLOADING,
    show_default=True,
    help="What it allows; can be repeated.",
)
@click.argument("url")
@_told
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


@main.command()
@_place
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@_told
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


@main.command()
@_place
@click.option("as_json", "--json", is_flag=True, help="One JSON object a line.")
@_told
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


@main.command()
@_place
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@_told
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


@main.command(name="import")
@_place
@_flag("--base-path", default="/files/", help="URL path that uploads are sent to.")
@_flag("--expire-after", type=EXPIRY, default="24h", help="For unfinished uploads, from now on.")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@_told
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
