"""`tusd-py serve`."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tusd_py.cli.flags import (
    COUNT,
    DURATION,
    EXPIRY,
    LIMIT,
    NETWORKS,
    PATTERN,
    SIZE,
    SPEED,
    URL_PATH,
    bucket_flags,
    flag,
    hook_flags,
    place_flags,
    signing_key,
    told,
)
from tusd_py.wiring.logs import configure_logging
from tusd_py.wiring.server import page_beside, serve
from tusd_py.wiring.settings import (
    FSYNC,
    BucketSettings,
    ConnectionLimits,
    HookSettings,
    Place,
    ServerSettings,
    UploadSettings,
    connections_by_descriptors,
)

_COMPANY = (
    ("s3_", "s3_bucket"),
    ("hooks_http_", "hooks_http"),
    ("hooks_dir_", "hooks_dir"),
    ("trusted_proxies", "behind_proxy"),
    ("auth_jwt_leeway", "auth_jwt_keys"),
)
"""What flags begin with, and the one that they belong to."""


@click.command(name="serve")
@flag("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 for all.")
@flag("--port", type=click.IntRange(0, 65_535), default=1080, help="0 picks a free one.")
@flag(
    "--unix-sock",
    type=click.Path(path_type=Path),
    help="Listen on this Unix socket instead of a port.",
)
@flag("--base-path", type=URL_PATH, default="/files/", help="URL path that uploads are sent to.")
@place_flags
@bucket_flags
@flag("--max-size", type=LIMIT, default="none", help="Largest upload, such as 500MB or 5GiB.")
@flag(
    "--min-free-disk",
    type=SIZE,
    default="64MiB",
    help="Room that stays free on the disk of the uploads, for everything else; 0 for none. "
    "A bucket has no floor.",
)
@flag("--max-metadata-size", type=SIZE, default="16KiB", help="Largest Upload-Metadata.")
@flag("--max-head-size", type=SIZE, default="64KiB", help="Largest request line and headers.")
@flag(
    "--head-timeout",
    type=DURATION,
    default="30s",
    help="How long the request line and the headers may take.",
)
@flag(
    "--max-connections",
    type=COUNT,
    help="Of a worker, at the same time; 0 for no limit.  [default: three quarters of the files "
    "that it may open]",
)
@flag(
    "--max-connections-per-address",
    type=COUNT,
    default="1000",
    help="Likewise, of one address that is no trusted proxy.",
)
@flag(
    "--max-requests-per-client",
    type=COUNT,
    default="0",
    help="Per second and worker, and ten seconds' worth at once; HEAD is always answered. 0 for no "
    "limit.",
)
@flag(
    "--max-open-uploads",
    type=COUNT,
    default="100000",
    help="Unfinished uploads at the same time; 0 for no limit.",
)
@flag(
    "--max-open-uploads-per-client",
    type=COUNT,
    default="2000",
    help="Likewise, of whoever an upload belongs to, or of one address where nobody is asked.",
)
@flag(
    "--max-speed",
    type=SPEED,
    default="none",
    help="Bytes per second of all uploads together, such as 10MB, over all workers; what comes "
    "faster waits.",
)
@flag(
    "--max-speed-per-client",
    type=SPEED,
    default="none",
    help="Likewise, of whoever sends them: the principal, or one address where nobody is asked.",
)
@flag("--max-speed-per-upload", type=SPEED, default="none", help="Likewise, of one upload.")
@flag(
    "--expire-after",
    type=EXPIRY,
    default="24h",
    help="Remove an unfinished upload that got nothing for so long, such as 90m or 7d; or never.",
)
@flag(
    "--fsync",
    type=click.Choice(FSYNC),
    default="complete",
    help="What a loss of power cannot take away again: nothing, complete uploads, or every "
    "byte that was acknowledged.",
)
@flag(
    "--behind-proxy",
    is_flag=True,
    help="Take our public URL, and who the client is, from Forwarded and X-Forwarded-*; only "
    "behind a proxy that sets them.",
)
@flag(
    "--trusted-proxies",
    type=NETWORKS,
    default=UploadSettings().trusted_proxies,
    help="Addresses and networks of such proxies, separated by commas; those headers do not count "
    "from others.",
)
@flag(
    "--cors-allow-origin",
    type=PATTERN,
    default="*",
    help="Web pages that may upload: * for all, or a regular expression for the whole origin.",
)
@flag("--cors-allow-credentials", is_flag=True, help="Let those pages send cookies.")
@flag(
    "--cors-allow-headers",
    default="",
    help="Further request headers that those pages may send, separated by commas.",
)
@flag(
    "--auth-tokens",
    metavar="FILE",
    help="Let in who sends one of these tokens: lines of a token and whose it is; or env:NAME.",
)
@flag(
    "--auth-jwt-keys",
    metavar="URL|FILE",
    help="Let in who sends a JSON Web Token that these keys verify: URL or file of a JWK set, "
    "file of public keys in PEM or of secrets, or env:NAME; needs tusd-py[jwt].",
)
@flag("--auth-jwt-audience", help="What a JSON Web Token must name in aud.")
@flag("--auth-jwt-issuer", help="What the iss of a JSON Web Token must be.  [default: any]")
@flag(
    "--auth-jwt-leeway", type=DURATION, default="10s", help="By which clocks may differ for them."
)
@signing_key()
@flag(
    "--no-auth",
    is_flag=True,
    help="Let everyone in, on any address; otherwise only loopback is open to all.",
)
@flag(
    "--network-timeout",
    type=DURATION,
    default="60s",
    help="End a request that brought no byte for so long; what came is kept.",
)
@flag(
    "--slowest-speed",
    type=SIZE,
    default="100",
    help="End a request that brings fewer bytes per second, over half a minute; 0 for no limit.",
)
@flag(
    "--slowest-download",
    type=SIZE,
    default="100",
    help="End an answer of which the client takes fewer bytes per second, over a minute; 0 for no "
    "limit.",
)
@flag(
    "--acquire-lock-timeout",
    type=DURATION,
    default="20s",
    help="How long a request waits for another one on the same upload.",
)
@flag(
    "--shutdown-timeout",
    type=DURATION,
    default="10s",
    help="How long the end may take, after SIGTERM or Ctrl-C.",
)
@flag(
    "--workers",
    type=click.IntRange(1, 1024),
    default=1,
    help="Processes that serve; with more than one, another process keeps them running.",
)
@flag(
    "--worker-timeout",
    type=DURATION,
    default="30s",
    help="Kill one of several workers that does not answer for so long.",
)
@hook_flags
@flag(
    "--metrics-path",
    type=URL_PATH,
    default="/metrics",
    help="URL path for Prometheus; empty for none.",
)
@flag(
    "--traces",
    type=click.Choice(["otlp", "console"]),
    help="Send a trace of each request with OpenTelemetry; see the variables OTEL_...",
)
@flag("--no-ui", is_flag=True, help="No page for browsers at /.")
@flag(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Of the log, which goes to stderr.",
)
@flag(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least that is logged.",
)
@told
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
    _check_company(flags)
    taken = ("", flags["base_path"].strip("/"))
    if flags["metrics_path"] and flags["metrics_path"].strip("/") in taken:
        raise click.UsageError(
            f"--metrics-path {flags['metrics_path']} is where uploads or the page are; give another"
        )
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


def _check_company(flags: dict[str, Any]) -> None:
    """Whether a flag was given that means nothing without another one."""
    context = click.get_current_context()
    for name in flags:
        needed = next((other for prefix, other in _COMPANY if name.startswith(prefix)), name)
        if needed == name or flags[needed]:
            continue
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            alone, other = (f"--{each.replace('_', '-')}" for each in (name, needed))
            raise click.UsageError(
                f"{alone} means nothing without {other}: give that too, or leave {alone} out"
            )


def _check_auth(flags: dict[str, Any]) -> None:
    kinds = ("auth_tokens", "auth_jwt_keys", "auth_signing_key")
    for name in (*kinds, "auth_jwt_audience", "auth_jwt_issuer"):
        if flags[name] == "":
            # As a script gives it whose variable is not set: it wants somebody to be asked.
            raise click.UsageError(
                f"--{name.replace('_', '-')} is empty: say what, or leave it out"
            )
    asking = [name for name in kinds if flags[name]]
    if flags["no_auth"] and asking:
        flag = "--" + asking[0].replace("_", "-")
        raise click.UsageError(f"--no-auth lets everyone in, and {flag} does not; give one of them")
    for name in ("auth_jwt_audience", "auth_jwt_issuer"):
        if flags[name] and not flags["auth_jwt_keys"]:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} is for JSON Web Tokens: give --auth-jwt-keys with it")
