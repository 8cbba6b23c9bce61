"""The flags of commands: how their values are written, and groups of them."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from tusd_py.config import parse_duration, parse_size
from tusd_py.wiring.errors import EXPECTED, explain
from tusd_py.wiring.settings import HookSettings, parse_networks

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


def _speed(text: str) -> int | None:
    speed = _limit(text)
    if speed is not None and speed < 1024:
        raise ValueError(f"{text!r} is too slow; give 1KiB or more, or 0 for no limit")
    return speed


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a number, such as 1000; 0 is for no limit")
    return int(text)


def _expiry(text: str) -> float:
    expiry = parse_duration(text)
    if not expiry:
        raise ValueError(f"{text!r} would remove every upload at once; give never for no limit")
    return expiry


def _url_path(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9._~/-]*", text):
        raise ValueError(
            f"{text!r} is no path of a URL, such as /files/: letters, digits and - . _ ~"
        )
    return text


LIMIT = _Parsed("size", _limit, "none")
SIZE = _Parsed("size", parse_size)
SPEED = _Parsed("size", _speed, "none")
COUNT = _Parsed("number", _count)
DURATION = _Parsed("duration", parse_duration)
EXPIRY = _Parsed("duration", _expiry, "never")
URL_PATH = _Parsed("path", _url_path)
PATTERN = _Parsed("pattern", _pattern)
NETWORKS = _Parsed("networks", parse_networks)


def flag(name: str, **kwargs: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """An option that can also be an environment variable, or a line of the TOML file."""
    envvar = "TUSD_PY_" + name.strip("-").replace("-", "_").upper()
    return click.option(name, envvar=envvar, show_envvar=True, show_default=True, **kwargs)


signing_key = functools.partial(
    flag,
    "--auth-signing-key",
    metavar="FILE",
    help="Secret keys that URLs are signed with (see 'tusd-py sign'), one a line; or env:NAME.",
)


def place_flags(command: Callable[P, T]) -> Callable[P, T]:
    """The options that say where a deployment lies."""
    for option in (
        flag(
            "--s3-addressing-style",
            type=click.Choice(["auto", "path", "virtual"]),
            help="Whether the bucket's name stands in the URL's path or in its host.  "
            "[default: path with --s3-endpoint, auto without]",
        ),
        flag(
            "--s3-owner",
            metavar="NAME",
            help="Whose uploads are known from the bucket where the state directory was lost.  "
            "[default: the host's name and the path of the state]",
        ),
        flag("--s3-object-prefix", default="", help="What all keys in the bucket begin with."),
        flag("--s3-region", help="Of the bucket.  [default: as AWS's tools find it]"),
        flag("--s3-endpoint", metavar="URL", help="Of the store.  [default: AWS]"),
        flag(
            "--s3-bucket",
            help="Keep uploads in this bucket of an S3 store, not in files; needs tusd-py[s3]. "
            "Credentials are found as AWS's tools find them.",
        ),
        flag(
            "--file-template",
            metavar="PATH",
            help="Name of finished files below UPLOAD_DIR/files, or of objects in the bucket, "
            "such as '{yyyy}/{mm}/{id}-{filename}'.  [default: they stay in UPLOAD_DIR/data]",
        ),
        flag(
            "--state-dir",
            type=click.Path(path_type=Path),
            help="Folder of the database, on a local disk.  [default: UPLOAD_DIR/state]",
        ),
        flag(
            "--upload-dir",
            type=click.Path(path_type=Path),
            default=Path("data"),
            help="Folder of all uploads, finished or not.",
        ),
    ):
        command = option(command)
    return command


def hook_flags(command: Callable[P, T]) -> Callable[P, T]:
    """The options that say who is asked and told of uploads, as tusd has them."""
    for option in (
        flag(
            "--progress-hooks-interval",
            type=DURATION,
            default="1s",
            help="Between two post-receive of one upload.",
        ),
        flag(
            "--hooks-enabled-events",
            metavar="NAMES",
            default=HookSettings().hooks_enabled_events,
            help="Hooks that are called, separated by commas; empty for all.",
        ),
        flag(
            "--hooks-dir-timeout",
            type=DURATION,
            default="60s",
            help="How long a program in HOOKS_DIR may take.",
        ),
        flag(
            "--hooks-dir",
            type=click.Path(path_type=Path),
            help="Run the programs in this folder that are named as the hooks.",
        ),
        flag(
            "--hooks-http-secret-file",
            type=click.Path(path_type=Path),
            help="Sign what is sent with the secret in this file.",
        ),
        flag(
            "--hooks-http-forward-headers",
            metavar="NAMES",
            default="",
            help="Headers of the client that are sent along, separated by commas.",
        ),
        flag("--hooks-http-size-limit", type=SIZE, default="5KiB", help="Of the answer to a hook."),
        flag(
            "--hooks-http-timeout",
            type=DURATION,
            default="15s",
            help="How long a hook may take, with all its attempts.",
        ),
        flag(
            "--hooks-http-backoff",
            type=DURATION,
            default="1s",
            help="Between two attempts.",
        ),
        flag(
            "--hooks-http-retry",
            type=click.IntRange(1, 100),
            default=3,
            help="Attempts for each hook, where the network fails or the status is 500 or more.",
        ),
        flag("--hooks-http", metavar="URL", help="Send tusd's hooks there."),
    ):
        command = option(command)
    return command


def bucket_flags(command: Callable[P, T]) -> Callable[P, T]:
    """The options that say how a server uses a bucket."""
    number = click.IntRange(min=1)
    for option in (
        flag(
            "--s3-download-expires",
            type=DURATION,
            default="15m",
            help="How long a link of --s3-download redirect can be used; up to 7d.",
        ),
        flag(
            "--s3-download",
            type=click.Choice(["proxy", "redirect"]),
            default="proxy",
            help="Pass the bytes of a download through, or send the client to the bucket by a "
            "signed link.",
        ),
        flag(
            "--s3-tags",
            metavar="TAGS",
            default="",
            help="Of finished uploads, as in a URL: 'team=video&kind=upload'.",
        ),
        flag("--s3-sse-kms-key-id", metavar="ID", help="Key that --s3-sse aws:kms encrypts with."),
        flag("--s3-sse", help="Encryption of all objects: AES256 or aws:kms."),
        flag("--s3-storage-class", metavar="CLASS", help="Of finished uploads."),
        flag(
            "--s3-concurrent-parts-per-upload",
            type=number,
            default=4,
            help="Parts of one upload that are sent at once.",
        ),
        flag(
            "--s3-concurrent-part-uploads",
            type=number,
            default=32,
            help="Parts of all uploads of a worker that are sent at once.",
        ),
        flag("--s3-equal-parts", is_flag=True, help="Send parts of one size, as R2 wants them."),
        flag(
            "--s3-max-object-size",
            type=SIZE,
            default="5TiB",
            help="Largest object that the store takes; AWS takes 48.8TiB.",
        ),
        flag(
            "--s3-max-parts",
            type=number,
            default=10_000,
            help="Most parts of an object that the store takes.",
        ),
        flag(
            "--s3-min-part-size",
            type=SIZE,
            default="5MiB",
            help="Smallest part that the store takes, but for the last.",
        ),
        flag(
            "--s3-part-size",
            type=SIZE,
            default="8MiB",
            help="Of a part, unless an upload is so long that parts must be larger.",
        ),
        flag(
            "--s3-memory",
            type=SIZE,
            default="256MiB",
            help="For bytes on their way to the bucket, of all uploads of a worker together.",
        ),
    ):
        command = option(command)
    return command


def told(command: Callable[P, T]) -> Callable[P, T]:
    """Lets what an operator can mend end in one line, and not in a stack trace."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except EXPECTED as error:
            raise click.ClickException(explain(error)) from error

    return wrapped
