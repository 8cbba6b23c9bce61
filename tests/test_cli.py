"""What an operator types, and what comes back: one clear line, never a stack trace."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from tests.frameworks.hosts import browser
from tests.frameworks.journey import BYTES, TUS
from tests.serving import Served, eventually, serving
from tusd_py import DiskStorage, Settings, Timing, TusApp, __version__, cli
from tusd_py.wire.limits import ConnectionLimits, connections_by_descriptors
from tusd_py.wire.server import ServerSettings
from tusd_py.wiring.settings import BucketSettings, Place, UploadSettings

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No flags from outside, and a log as it was before."""
    for name in list(os.environ):
        if name.startswith("TUSD_PY_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "asyncio", "httpx", "httpcore")]
    before = [(logger, logger.level) for logger in loggers]
    handlers = loggers[0].handlers[:]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in before:
        logger.setLevel(level)


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    """A command in this process."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], env=env)


def ask(server: Served, method: str, url: str, content: bytes = b"", **headers: str) -> Any:
    """A request of a tus client to a server."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(verify=NO_TLS) as client:
        return client.request(
            method,
            httpx.URL(server.url).join(url),
            content=content,
            headers=TUS | (BYTES if content else {}) | named,
        )


def create(server: Served, length: int = 10, content: bytes = b"", **headers: str) -> str:
    created = ask(server, "POST", "", content, Upload_Length=str(length), **headers)
    assert created.status_code == 201, created.text
    return str(created.headers["Location"])


@contextmanager
def hanging_patch(url: str, content: bytes = b"01234", length: int = 10) -> Iterator[socket.socket]:
    """A client that has sent some bytes of a `PATCH`, and goes on waiting."""
    parsed = httpx.URL(url)
    with socket.create_connection((parsed.host, parsed.port or 80), timeout=20) as connection:
        connection.sendall(
            f"PATCH {parsed.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
            + content
        )
        yield connection


def stored(directory: Path, url: str) -> int:
    found = directory.glob(f"data/*/{url.rpartition('/')[2]}")
    return sum(path.stat().st_size for path in found)


# What the flags become


Told = list[tuple[Place, ServerSettings, UploadSettings, BucketSettings]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What `serve` was given, instead of serving."""
    calls: Told = []

    def serve(place: Place, server: ServerSettings, uploads: UploadSettings, _: object) -> None:
        calls.append((place, server, uploads, place.in_bucket))

    monkeypatch.setattr("tusd_py.cli.serve.serve", serve)
    return calls


FLAGS: list[tuple[str, str, int, str, object]] = [
    ("host", "0.0.0.0", 1, "host", "0.0.0.0"),
    ("port", "8080", 1, "port", 8080),
    ("unix-sock", "/run/tus.sock", 1, "unix_sock", Path("/run/tus.sock")),
    ("base-path", "/up", 2, "base_path", "/up"),
    ("upload-dir", "/srv/tus", 0, "upload_dir", Path("/srv/tus")),
    ("state-dir", "/var/tus", 0, "state_dir", Path("/var/tus")),
    ("file-template", "{id}/{filename}", 0, "file_template", "{id}/{filename}"),
    ("s3-bucket", "uploads", 0, "s3_bucket", "uploads"),
    ("s3-endpoint", "http://store", 0, "s3_endpoint", "http://store"),
    ("s3-region", "eu-west-1", 0, "s3_region", "eu-west-1"),
    ("s3-object-prefix", "in/", 0, "s3_object_prefix", "in/"),
    ("s3-addressing-style", "virtual", 0, "s3_addressing_style", "virtual"),
    ("s3-memory", "1GiB", 3, "s3_memory", 2**30),
    ("s3-part-size", "16MiB", 3, "s3_part_size", 2**24),
    ("s3-min-part-size", "6MiB", 3, "s3_min_part_size", 6 * 2**20),
    ("s3-max-parts", "1000", 3, "s3_max_parts", 1000),
    ("s3-max-object-size", "5TB", 3, "s3_max_object_size", 5 * 10**12),
    ("s3-equal-parts", "true", 3, "s3_equal_parts", True),
    ("s3-concurrent-part-uploads", "8", 3, "s3_concurrent_part_uploads", 8),
    ("s3-concurrent-parts-per-upload", "2", 3, "s3_concurrent_parts_per_upload", 2),
    ("s3-storage-class", "COLD", 3, "s3_storage_class", "COLD"),
    ("s3-sse", "aws:kms", 3, "s3_sse", "aws:kms"),
    ("s3-sse-kms-key-id", "key-1", 3, "s3_sse_kms_key_id", "key-1"),
    ("s3-tags", "a=b&c=d", 3, "s3_tags", "a=b&c=d"),
    ("s3-download", "redirect", 3, "s3_download", "redirect"),
    ("s3-download-expires", "1h", 3, "s3_download_expires", 3600.0),
    ("s3-owner", "films", 0, "s3_owner", "films"),
    ("max-size", "5GiB", 2, "max_size", 5 * 2**30),
    ("max-size", "none", 2, "max_size", None),
    ("min-free-disk", "5GiB", 2, "min_free_disk", 5 * 2**30),
    ("min-free-disk", "0", 2, "min_free_disk", 0),
    ("max-size", "0", 2, "max_size", None),
    ("expire-after", "7d", 2, "expire_after", 604_800.0),
    ("expire-after", "never", 2, "expire_after", None),
    ("fsync", "always", 2, "fsync", "always"),
    ("behind-proxy", "true", 2, "behind_proxy", True),
    ("trusted-proxies", "192.0.2.1, 10.0.0.0/8", 2, "trusted_proxies", "192.0.2.1, 10.0.0.0/8"),
    ("max-open-uploads", "9", 2, "max_open_uploads", 9),
    ("max-open-uploads-per-client", "0", 2, "max_open_uploads_per_client", 0),
    ("max-requests-per-client", "9", 2, "max_requests_per_client", 9),
    ("max-speed", "10MB", 2, "max_speed", 10_000_000),
    ("max-speed", "none", 2, "max_speed", None),
    ("max-speed", "0", 2, "max_speed", None),
    ("max-speed-per-client", "1KiB", 2, "max_speed_per_client", 1024),
    ("max-speed-per-upload", "1MiB", 2, "max_speed_per_upload", 1 << 20),
    ("max-metadata-size", "2KiB", 2, "max_metadata_size", 2048),
    ("max-connections", "9", 1, "connections.most", 9),
    ("max-connections", "0", 1, "connections.most", None),
    ("max-connections-per-address", "9", 1, "connections.most_per_address", 9),
    ("max-connections-per-address", "0", 1, "connections.most_per_address", None),
    ("head-timeout", "5s", 1, "connections.head_within", 5.0),
    ("max-head-size", "8KiB", 1, "connections.max_head", 8192),
    ("cors-allow-origin", r"https://.*\.test", 2, "cors_allow_origin", r"https://.*\.test"),
    ("cors-allow-credentials", "true", 2, "cors_allow_credentials", True),
    ("cors-allow-headers", "X-One,X-Two", 2, "cors_allow_headers", "X-One,X-Two"),
    ("auth-tokens", "/etc/tokens", 2, "auth_tokens", "/etc/tokens"),
    ("auth-jwt-keys", "https://id.test/keys", 2, "auth_jwt_keys", "https://id.test/keys"),
    ("auth-jwt-audience", "uploads", 2, "auth_jwt_audience", "uploads"),
    ("auth-jwt-issuer", "https://id.test", 2, "auth_jwt_issuer", "https://id.test"),
    ("auth-jwt-leeway", "1m", 2, "auth_jwt_leeway", 60.0),
    ("auth-signing-key", "env:TUS_KEY", 2, "auth_signing_key", "env:TUS_KEY"),
    ("no-auth", "true", 2, "no_auth", True),
    ("network-timeout", "1m30s", 2, "network_timeout", 90.0),
    ("slowest-speed", "1KiB", 2, "slowest_speed", 1024),
    ("slowest-download", "1KiB", 1, "connections.slowest_download", 1024),
    ("acquire-lock-timeout", "250ms", 2, "acquire_lock_timeout", 0.25),
    ("shutdown-timeout", "30", 1, "shutdown_timeout", 30.0),
    ("workers", "4", 1, "workers", 4),
    ("worker-timeout", "90s", 1, "worker_timeout", 90.0),
    ("hooks-http", "https://app.test/hooks", 2, "hooks.hooks_http", "https://app.test/hooks"),
    ("hooks-http-retry", "5", 2, "hooks.hooks_http_retry", 5),
    ("hooks-http-backoff", "2s", 2, "hooks.hooks_http_backoff", 2.0),
    ("hooks-http-timeout", "1m", 2, "hooks.hooks_http_timeout", 60.0),
    ("hooks-http-size-limit", "1KiB", 2, "hooks.hooks_http_size_limit", 1024),
    (
        "hooks-http-forward-headers",
        "Cookie,X-A",
        2,
        "hooks.hooks_http_forward_headers",
        "Cookie,X-A",
    ),
    ("hooks-http-secret-file", "/etc/s", 2, "hooks.hooks_http_secret_file", Path("/etc/s")),
    ("hooks-dir", "/srv/hooks", 2, "hooks.hooks_dir", Path("/srv/hooks")),
    ("hooks-dir-timeout", "5s", 2, "hooks.hooks_dir_timeout", 5.0),
    ("hooks-enabled-events", "pre-create", 2, "hooks.hooks_enabled_events", "pre-create"),
    ("progress-hooks-interval", "2s", 2, "hooks.progress_hooks_interval", 2.0),
    ("metrics-path", "/m", 1, "metrics_path", "/m"),
    ("metrics-path", "", 1, "metrics_path", None),
    ("traces", "otlp", 1, "traces", "otlp"),
    ("no-ui", "true", 1, "ui", False),
]
"""Flag, text, which of the four settings, its field, and its value."""

BESIDE = {
    "cors-allow-credentials": {"TUSD_PY_CORS_ALLOW_ORIGIN": r"https://app\.test"},
    "auth-jwt-audience": {"TUSD_PY_AUTH_JWT_KEYS": "keys"},
    "auth-jwt-issuer": {"TUSD_PY_AUTH_JWT_KEYS": "keys"},
    "auth-jwt-leeway": {"TUSD_PY_AUTH_JWT_KEYS": "keys"},
    "trusted-proxies": {"TUSD_PY_BEHIND_PROXY": "1"},
    "hooks-dir-timeout": {"TUSD_PY_HOOKS_DIR": "hooks"},
    **{
        flag: {"TUSD_PY_S3_BUCKET": "b"}
        for flag, *_ in FLAGS
        if flag.startswith("s3-") and flag != "s3-bucket"
    },
    **{
        flag: {"TUSD_PY_HOOKS_HTTP": "http://app.test/"}
        for flag, *_ in FLAGS
        if flag.startswith("hooks-http-")
    },
}
"""What has to be set as well."""


def check(told: Told, result: Result, index: int, name: str, value: object) -> None:
    assert result.exit_code == 0, result.output
    assert attrgetter(name)(told[-1][index]) == value


@pytest.mark.parametrize(("flag", "text", "index", "name", "value"), FLAGS)
def test_a_flag_arrives(
    told: Told, flag: str, text: str, index: int, name: str, value: object
) -> None:
    given = [f"--{flag}"] if text == "true" else [f"--{flag}", text]
    check(told, run("serve", *given, env=BESIDE.get(flag)), index, name, value)


@pytest.mark.parametrize(("flag", "text", "index", "name", "value"), FLAGS)
def test_an_environment_variable_arrives(
    told: Told, flag: str, text: str, index: int, name: str, value: object
) -> None:
    variable = "TUSD_PY_" + flag.upper().replace("-", "_")
    if text == "":  # to click an empty variable is one that is not set
        value = "/metrics"
    check(told, run("serve", env={variable: text} | BESIDE.get(flag, {})), index, name, value)


@pytest.mark.parametrize("dash", ["-", "_"])
@pytest.mark.parametrize(("flag", "text", "index", "name", "value"), FLAGS)
def test_a_line_of_the_file_arrives(
    told: Told,
    tmp_path: Path,
    flag: str,
    text: str,
    index: int,
    name: str,
    value: object,
    dash: str,
) -> None:
    file = tmp_path / "tus.toml"
    literal = text if text in ("true", "8080", "30") else f"'{text}'"
    file.write_text(f"{flag.replace('-', dash)} = {literal}\n")
    check(told, run("--config", file, "serve", env=BESIDE.get(flag)), index, name, value)


def test_every_flag_of_serve_is_in_the_table() -> None:
    known = {param.name for param in cli.main.commands["serve"].params}
    tested = {flag.replace("-", "_") for flag, *_ in FLAGS}
    assert known - tested == {"log_format", "log_level"}, "see the tests of the log"


def test_without_flags_the_defaults_are_those_of_the_settings(told: Told) -> None:
    """An embedder and an operator get the same."""
    assert run("serve").exit_code == 0
    place = Place(upload_dir=Path("data"))
    limits = ConnectionLimits(most=connections_by_descriptors(), most_per_address=1000)
    server = ServerSettings(connections=limits)
    assert told == [(place, server, UploadSettings(), BucketSettings())]


def test_a_flag_goes_before_a_variable_and_that_before_the_file(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "tus.toml"
    file.write_text("port = 1111\nmax-size = '1KiB'\nbehind-proxy = true\n")
    variables = {"TUSD_PY_CONFIG": str(file)}
    assert run("serve", env=variables).exit_code == 0
    variables["TUSD_PY_PORT"] = "2222"
    variables["TUSD_PY_MAX_SIZE"] = "2KiB"
    variables["TUSD_PY_BEHIND_PROXY"] = "no"
    assert run("serve", env=variables).exit_code == 0
    assert run("serve", "--port", "3333", "--max-size", "none", env=variables).exit_code == 0
    seen = [(server.port, up.max_size, up.behind_proxy) for _, server, up, _ in told]
    assert seen == [(1111, 1024, True), (2222, 2048, False), (3333, None, False)]


def test_one_file_serves_all_commands(told: Told, tmp_path: Path) -> None:
    """`ls` and `cleanup` look where the server of the same file keeps its uploads."""
    file = tmp_path / "tus.toml"
    file.write_text(f"upload-dir = '{tmp_path}/here'\nport = 1111\njobs = 2\nheader = ['A: b']\n")
    assert run("--config", file, "serve").exit_code == 0
    assert told[0][0].upload_dir == tmp_path / "here"
    listed = run("--config", file, "ls")
    assert listed.exit_code == 1
    assert f"no uploads of tusd-py in {tmp_path}/here" in listed.stderr


BAD_FILES = {
    "unknown": ("prot = 1", "has 'prot', which is no flag of any command"),
    "a table": ("[serve]\nport = 1", "has 'serve', which is no flag"),
    "no flag but an argument": ("directory = 'x'", "has 'directory', which is no flag"),
    "a list": ("port = [1]", "port must be text or a number"),
    "a table for a text": ("host = {a = 1}", "host must be text or a number"),
    "true for a size": ("max-size = true", "max-size must be text or a number"),
    "true for a port": ("port = true", "port must be text or a number"),
    "a text for a switch": ("behind-proxy = 'perhaps'", "behind-proxy must be true or false"),
    "a number for a switch": ("behind-proxy = 1", "behind-proxy must be true or false"),
    "no number": ("port = 'http'", "'http' is not a valid int"),
    "no port": ("port = 65536", "65536 is not in the range"),
    "no size": ("max-size = '5XB'", "'5XB' is not a size"),
    "no duration": ("expire-after = 'soon'", "'soon' is not a duration"),
    "no choice": ("fsync = 'maybe'", "'maybe' is not one of"),
    "no TOML": ("port = ", "cannot be read"),
    "no UTF-8": ("host = '\udcff'", "cannot be read"),
}


@pytest.mark.parametrize(("text", "complaint"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_mistake_in_the_file_is_named(
    told: Told, tmp_path: Path, text: str, complaint: str
) -> None:
    """A setting that is silently not there is a server open to the world."""
    file = tmp_path / "tus.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = run("--config", file, "serve")
    assert_refused(result, 2, complaint)
    assert told == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert_refused(run("--config", tmp_path / "no", "serve"), 2, "cannot be read")


def assert_refused(result: Result, status: int, complaint: str) -> None:
    assert result.exit_code == status, result.output
    assert complaint in " ".join(result.stderr.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert lines == result.stderr.splitlines()[-1:], result.stderr
    assert result.stdout == ""


BAD_FLAGS = [
    ("--max-size", "5XB", "is not a size; write bytes, or a unit as in 500MB or 5GiB"),
    ("--max-size", "-5", "is not a size"),
    ("--max-size", "never", "is not a size"),
    ("--min-free-disk", "5%", "is not a size"),
    ("--expire-after", "24x", "is not a duration; write it as in 90s, 15m, 24h or 7d"),
    ("--expire-after", "none", "is not a duration"),
    ("--expire-after", "0", "would remove every upload at once; give never for no limit"),
    ("--base-path", "http://files.test/files", "is no path of a URL, such as /files/"),
    ("--base-path", "/my files/", "is no path of a URL"),
    ("--metrics-path", "/m?x", "is no path of a URL"),
    ("--network-timeout", "never", "is not a duration"),
    ("--shutdown-timeout", "-1s", "is not a duration"),
    ("--acquire-lock-timeout", "", "is not a duration"),
    ("--port", "65536", "not in the range"),
    ("--port", "-1", "not in the range"),
    ("--fsync", "sometimes", "is not one of"),
    ("--log-format", "xml", "is not one of"),
    ("--log-level", "loud", "is not one of"),
    ("--cors-allow-origin", "https://[", "is not a regular expression"),
    ("--max-sise", "5", "No such option"),
]


@pytest.mark.parametrize(("flag", "text", "complaint"), BAD_FLAGS)
def test_a_mistake_in_a_flag_is_named(told: Told, flag: str, text: str, complaint: str) -> None:
    assert_refused(run("serve", flag, text), 2, complaint)
    assert told == []


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        (("--s3-part-size", "1MiB"), "the preferred part size of 1048576 bytes"),
        (("--s3-memory", "9MiB"), "give more memory or smaller parts"),
        (("--s3-sse-kms-key-id", "x"), "the encryption aws:kms"),
        (("--s3-sse", "rot13"), "'rot13' is no encryption"),
        (("--s3-tags", "team"), "write them as team=video&kind=upload"),
        (("--s3-download", "redirect", "--s3-download-expires", "8d"), "604800 seconds"),
        (("--s3-object-prefix", "a\tb"), "no listing of a bucket"),
        (("--file-template", "{filename}"), "needs {id}"),
    ],
)
def test_flags_of_a_bucket_that_contradict_each_other(
    tmp_path: Path, flag: tuple[str, ...], complaint: str
) -> None:
    pytest.importorskip("aiobotocore")
    result = run("serve", "--upload-dir", tmp_path / "up", "--s3-bucket", "b", *flag)
    assert_refused(result, 1, complaint)


@pytest.mark.parametrize("origin", [[], ["--cors-allow-origin", "*"]])
def test_credentials_need_an_origin(told: Told, origin: list[str]) -> None:
    result = run("serve", "--cors-allow-credentials", *origin)
    assert_refused(result, 2, "--cors-allow-credentials needs --cors-allow-origin with the pages")
    assert told == []


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--no-auth --auth-tokens x", "--no-auth lets everyone in, and --auth-tokens does not"),
        ("--no-auth --auth-jwt-keys x", "--no-auth lets everyone in, and --auth-jwt-keys does"),
        ("--auth-signing-key x --no-auth", "--no-auth lets everyone in, and --auth-signing-key"),
        (
            "--auth-jwt-audience x",
            "--auth-jwt-audience is for JSON Web Tokens: give --auth-jwt-keys",
        ),
        ("--auth-jwt-issuer x", "--auth-jwt-issuer is for JSON Web Tokens: give --auth-jwt-keys"),
    ],
)
def test_who_is_asked_must_be_clear(told: Told, flags: str, complaint: str) -> None:
    assert_refused(run("serve", *flags.split()), 2, complaint)
    assert told == []


@pytest.mark.parametrize(
    ("flags", "other"),
    [
        ("--s3-endpoint http://store.test", "--s3-bucket"),
        ("--s3-part-size 8MiB", "--s3-bucket"),
        ("--hooks-http-secret-file x", "--hooks-http"),
        ("--hooks-dir-timeout 1s", "--hooks-dir"),
        ("--trusted-proxies 10.0.0.1", "--behind-proxy"),
        ("--auth-jwt-leeway 1s", "--auth-jwt-keys"),
    ],
)
def test_a_flag_that_means_nothing_alone(told: Told, flags: str, other: str) -> None:
    """Uploads for a bucket would come to lie on the disk, say."""
    name, value = flags.split()
    complaint = f"{name} means nothing without {other}: give that too, or leave {name} out"
    assert_refused(run("serve", name, value), 2, complaint)
    variable = "TUSD_PY_" + name.strip("-").upper().replace("-", "_")
    assert_refused(run("serve", env={variable: value}), 2, complaint)
    assert told == []


@pytest.mark.parametrize("flags", ["/", "/files/", "files", "/up --base-path up/"])
def test_metrics_are_not_in_the_way(told: Told, flags: str) -> None:
    result = run("serve", "--metrics-path", *flags.split())
    assert_refused(result, 2, "is where uploads or the page are; give another")
    assert told == []


@pytest.mark.parametrize(
    "name", ["tokens", "jwt-keys", "jwt-audience", "jwt-issuer", "signing-key"]
)
def test_an_empty_flag_does_not_let_everyone_in(told: Told, name: str) -> None:
    """A script whose variable is not set gives one, and wants somebody to be asked."""
    result = run("serve", f"--auth-{name}", "")
    assert_refused(result, 2, f"--auth-{name} is empty: say what, or leave it out")
    assert told == []


def test_a_worker_is_given_time_to_answer(told: Told) -> None:
    result = run("serve", "--workers", "2", "--worker-timeout", "500ms")
    assert_refused(result, 2, "--worker-timeout is too short: a busy worker would be killed")
    assert told == []


def test_a_mistake_in_a_variable_is_named(told: Told) -> None:
    result = run("serve", env={"TUSD_PY_BEHIND_PROXY": "perhaps"})
    assert_refused(result, 2, "'perhaps' is not a valid boolean")


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["cleanup"], ["ls"], ["backup"], ["sign"], ["upload"]]
)
def test_help_says_what_each_flag_is_for(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    group = cli.main
    asked = group.get_command(click.Context(group), command[0]) if command else group
    assert asked is not None
    for param in asked.params:
        if isinstance(param, click.Option):
            assert len(param.help or "") >= 15, f"{param.opts} says too little"
    assert run(*command, "-h").output == result.output or command == ["upload"]


def test_a_server_does_not_load_what_only_clients_need() -> None:
    """Each of its workers would take a third longer to start."""
    loaded = "import sys, tusd_py.cli; print(*sorted({'httpx', 'rich'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).split() == []


def test_version() -> None:
    assert run("--version").stdout == f"tusd-py, version {__version__}\n"


# A server that cannot start


def _port_taken(directory: Path) -> tuple[list[str], str]:
    taken = socket.create_server(("127.0.0.1", 0))
    _KEPT.append(taken)
    port = taken.getsockname()[1]
    return ["--port", str(port)], f"cannot listen on 127.0.0.1:{port}: Address already in use"


def _not_our_address(_: Path) -> tuple[list[str], str]:
    return ["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0: Cannot assign requested address"


def _no_host(_: Path) -> tuple[list[str], str]:
    return ["--host", "a..b"], "cannot listen on a..b:0: "


def _reachable(_: Path) -> tuple[list[str], str]:
    return ["--host", "0.0.0.0"], (
        "0.0.0.0 can be reached from other machines, and nobody would be asked who they are: give "
        "--auth-tokens, --auth-jwt-keys or --auth-signing-key, or --no-auth if something in front"
    )


def _reachable_by_workers(_: Path) -> tuple[list[str], str]:
    return ["--host", "::", "--workers", "2"], ":: can be reached from other machines, and nobody"


def _open_to_all(_: Path) -> tuple[list[str], str]:
    # As far as to the next mistake, before anybody is served.
    flags = ["--host", "0.0.0.0", "--no-auth"]
    return [*flags, "--upload-dir", "/proc/tusd-py"], "/proc/tusd-py: No such file or directory"


def _open_to_those_with_tokens(directory: Path) -> tuple[list[str], str]:
    (directory / "tokens").write_text("a-token-of-alice_1234 alice")
    flags = ["--host", "0.0.0.0", "--auth-tokens", str(directory / "tokens")]
    return [*flags, "--upload-dir", "/proc/tusd-py"], "/proc/tusd-py: No such file or directory"


def _no_tokens(directory: Path) -> tuple[list[str], str]:
    file = directory / "tokens"
    return ["--auth-tokens", str(file)], f"{file}: No such file or directory"


def _bad_tokens(directory: Path) -> tuple[list[str], str]:
    (directory / "tokens").write_text("# mine\na-token-of-alice_1234")
    file = str(directory / "tokens")
    return ["--auth-tokens", file], f"{file}, line 2: must be a token, a space, and whose it is"


def _bad_tokens_of_workers(directory: Path) -> tuple[list[str], str]:
    flags, complaint = _bad_tokens(directory)
    return [*flags, "--workers", "2"], complaint


def _bad_signing_key(_: Path) -> tuple[list[str], str]:
    return ["--auth-signing-key", "env:NO"], "env:NO: there is no environment variable NO"


def _bad_jwt_keys(directory: Path) -> tuple[list[str], str]:
    (directory / "keys").write_text('{"keys": []}')
    return ["--auth-jwt-keys", str(directory / "keys")], "/keys has no key for RS256"


def _no_jwt_keys(_: Path) -> tuple[list[str], str]:
    url = "http://127.0.0.1:1/keys"
    return ["--auth-jwt-keys", url], f"the keys at {url} cannot be fetched: "


def _not_permitted(_: Path) -> tuple[list[str], str]:
    if not os.path.ismount("/sys"):
        pytest.skip("nothing forbids root to make a folder in /sys here")
    return ["--upload-dir", "/sys/tusd-py"], "/sys/tusd-py: "


def _nowhere(_: Path) -> tuple[list[str], str]:
    return ["--upload-dir", "/proc/tusd-py"], "/proc/tusd-py: No such file or directory"


def _a_file(directory: Path) -> tuple[list[str], str]:
    file = directory / "file"
    file.touch()
    return ["--upload-dir", str(file)], f"{file}/state: Not a directory"


def _below_a_file(directory: Path) -> tuple[list[str], str]:
    (directory / "file").touch()
    return ["--upload-dir", str(directory / "file" / "x")], "Not a directory"


def _foreign(directory: Path) -> tuple[list[str], str]:
    (directory / "u/data/photos").mkdir(parents=True)
    return [], f"{directory}/u/data has files but no .instance: it was not made by tusd-py"


def _newer(directory: Path) -> tuple[list[str], str]:
    made(directory / "u")
    with sqlite3.connect(directory / "u/state/tusd-py.sqlite3") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    return [], "the state has version 99, made by a newer tusd-py"


def _lost(directory: Path) -> tuple[list[str], str]:
    made(directory / "u", finished=1)
    (directory / "u/state").rename(directory / "lost")
    return [], "has uploads, but the state is new: its database was lost or moved"


def _of_another(directory: Path) -> tuple[list[str], str]:
    made(directory / "u")
    made(directory / "other")
    return ["--state-dir", str(directory / "other/state")], "belongs to another state"


def _rubbish(directory: Path) -> tuple[list[str], str]:
    (directory / "u/state").mkdir(parents=True)
    (directory / "u/state/tusd-py.sqlite3").write_bytes(b"rubbish" * 1000)
    return [], "the state cannot be used: file is not a database"


def _template(_: Path) -> tuple[list[str], str]:
    return ["--file-template", "{name}"], "the file template has {name}; it can have {id}"


def _template_outside(_: Path) -> tuple[list[str], str]:
    return ["--file-template", "../{id}"], "without '..'"


def _socket_is_a_file(directory: Path) -> tuple[list[str], str]:
    (directory / "sock").write_text("precious")
    return ["--unix-sock", str(directory / "sock")], "sock: Address already in use"


def _socket_nowhere(directory: Path) -> tuple[list[str], str]:
    return ["--unix-sock", str(directory / "no/sock")], "sock: No such file or directory"


def _socket_too_long(directory: Path) -> tuple[list[str], str]:
    return ["--unix-sock", str(directory / ("x" * 120))], "AF_UNIX path too long"


def _socket_lives(directory: Path) -> tuple[list[str], str]:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(directory / "sock"))
    listening.listen()
    _KEPT.append(listening)
    return ["--unix-sock", str(directory / "sock")], "sock: another server listens there"


_KEPT: list[socket.socket] = []
CANNOT_START = [
    _port_taken,
    _not_our_address,
    _no_host,
    _reachable,
    _reachable_by_workers,
    _open_to_all,
    _open_to_those_with_tokens,
    _no_tokens,
    _bad_tokens,
    _bad_tokens_of_workers,
    _bad_signing_key,
    _bad_jwt_keys,
    _no_jwt_keys,
    _not_permitted,
    _nowhere,
    _a_file,
    _below_a_file,
    _foreign,
    _newer,
    _lost,
    _of_another,
    _rubbish,
    _template,
    _template_outside,
    _socket_is_a_file,
    _socket_nowhere,
    _socket_too_long,
    _socket_lives,
]


@pytest.mark.parametrize("arrange", CANNOT_START)
def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, arrange: Callable[[Path], tuple[list[str], str]]
) -> None:
    flags, complaint = arrange(tmp_path)
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    try:
        result = run("serve", "--port", "0", "--upload-dir", tmp_path / "u", *flags)
    finally:
        while _KEPT:
            _KEPT.pop().close()
    assert_refused(result, 1, complaint)
    assert {path: path.stat().st_ino for path in before} == before, "something was removed"


def test_a_failed_start_leaves_no_socket(tmp_path: Path) -> None:
    (tmp_path / "u/data/photos").mkdir(parents=True)
    flags = ("--upload-dir", tmp_path / "u", "--unix-sock", tmp_path / "sock")
    assert run("serve", *flags).exit_code == 1
    assert not (tmp_path / "sock").exists()


# A server that runs


def _max_size(server: Served) -> None:
    assert ask(server, "OPTIONS", "").headers["Tus-Max-Size"] == "1024"
    assert ask(server, "POST", "", Upload_Length="1025").status_code == 413
    create(server, 1024)


def _no_room_below_the_floor(server: Served) -> None:
    refused = ask(server, "POST", "", Upload_Length="1")
    assert refused.status_code == 507
    assert refused.text.startswith(f"ERR_STORAGE_FULL: the server keeps {2**60} bytes of its disk")


def _any_room(server: Served) -> None:
    create(server, 2**60)


def _expires(server: Served) -> None:
    headers = ask(server, "HEAD", create(server)).headers
    assert "Upload-Expires" in headers


def _never_expires(server: Served) -> None:
    assert "Upload-Expires" not in ask(server, "HEAD", create(server)).headers


def _proxy(server: Served) -> None:
    created = ask(server, "POST", "", Upload_Length="1", X_Forwarded_Host="pub.test")
    assert created.headers["Location"].startswith("http://pub.test/files/")


def _no_proxy(server: Served) -> None:
    created = ask(server, "POST", "", Upload_Length="1", X_Forwarded_Host="pub.test")
    assert created.headers["Location"].startswith(server.url)


def _cors(server: Served) -> None:
    allowed = ask(server, "OPTIONS", "", Origin="https://a.page.test").headers
    assert allowed["Access-Control-Allow-Origin"] == "https://a.page.test"
    assert allowed["Access-Control-Allow-Credentials"] == "true"
    assert "X-One" in allowed["Access-Control-Allow-Headers"]
    for origin in ("https://a.page.test.evil.test", "http://a.page.test", "https://a-page.test"):
        refused = ask(server, "OPTIONS", "", Origin=origin).headers
        assert "Access-Control-Allow-Origin" not in refused


def _any_origin(server: Served) -> None:
    allowed = ask(server, "OPTIONS", "", Origin="https://a.test").headers
    assert allowed["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in allowed
    assert "X-One" not in allowed["Access-Control-Allow-Headers"]


def _impatient(server: Served) -> None:
    url = create(server)
    begun = time.monotonic()
    with hanging_patch(url) as connection:
        answer = connection.recv(4096)
    assert b"503" in answer.partition(b"\r\n")[0]
    assert time.monotonic() - begun < 5
    assert ask(server, "HEAD", url).headers["Upload-Offset"] == "5"


def _host(server: Served) -> None:
    assert server.url.startswith("http://127.0.0.2:")
    create(server)


def _state_elsewhere(server: Served) -> None:
    create(server)
    assert not (server.upload_dir / "state").exists()
    assert (server.upload_dir.parent / "state/tusd-py.sqlite3").exists()


def _template_used(server: Served) -> None:
    name = b64encode(b"../a b.txt").decode()
    create(server, 3, b"abc", Upload_Metadata=f"filename {name}")
    assert (server.upload_dir / "files/in/a b.txt").read_bytes() == b"abc"


def _synced(server: Served) -> tuple[int, int]:
    """`synced_offset` of an upload with 5 bytes of 10, and of one that is finished."""
    half, whole = create(server), create(server, 3, b"abc")
    ask(server, "PATCH", half, b"01234", Upload_Offset="0")
    with sqlite3.connect(server.upload_dir / "state/tusd-py.sqlite3") as connection:
        found = dict(connection.execute("SELECT id, synced_offset FROM uploads"))
    connection.close()
    return found[half.rpartition("/")[2]], found[whole.rpartition("/")[2]]


def _fsync_never(server: Served) -> None:
    assert _synced(server) == (0, 0)


def _fsync_complete(server: Served) -> None:
    assert _synced(server) == (0, 3)


def _fsync_always(server: Served) -> None:
    assert _synced(server) == (5, 3)


def _base_path(server: Served) -> None:
    endpoint = httpx.URL(server.url).path
    assert endpoint == "/a/b/"
    for path in (endpoint, "/a/b"):
        assert create(server)
        assert ask(server, "POST", path, Upload_Length="1").status_code == 201
    assert ask(server, "GET", "/files/").status_code == 404
    assert "a/b/" in ask(server, "GET", "/").text


def _no_page(server: Served) -> None:
    assert ask(server, "GET", "/").text == (
        "This is tusd-py. Send uploads with a tus client to /files/\n"
    )


def _at_the_root(server: Served) -> None:
    assert httpx.URL(server.url).path == "/"
    url = create(server)
    assert re.fullmatch(re.escape(server.url) + "[0-9a-f]{32}", url)
    assert ask(server, "HEAD", url).status_code == 200
    assert ask(server, "GET", "/healthz").text == "ok\n"
    assert "tusd_uploads_created 1" in ask(server, "GET", "/metrics").text


def _metrics_elsewhere(server: Served) -> None:
    assert ask(server, "GET", "/metrics").status_code == 404
    assert "tusd_requests_total" in ask(server, "GET", "/files/m").text


def _metrics(server: Served) -> None:
    def numbers() -> dict[str, float]:
        answer = ask(server, "GET", "/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain")
        pairs = [line.rsplit(" ", 1) for line in answer.text.splitlines() if line[0] != "#"]
        return {name: float(value) for name, value in pairs}

    before = numbers()
    url = create(server, 10)
    ask(server, "PATCH", url, b"01234", Upload_Offset="0")
    ask(server, "PATCH", url, b"01234", Upload_Offset="0")
    ask(server, "PATCH", url, b"56789", Upload_Offset="5")
    ask(server, "DELETE", url)
    after = numbers()
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert moved["tusd_bytes_received"] == 10
    assert moved["tusd_uploads_created"] == 1
    assert moved["tusd_uploads_finished"] == 1
    assert moved["tusd_uploads_terminated"] == 1
    assert moved['tusd_requests_total{method="PATCH"}'] == 3
    assert moved['tusd_errors_total{code="ERR_MISMATCHED_OFFSET",status="409"}'] == 1
    assert moved['tusd_request_duration_seconds_count{method="POST"}'] == 1


def _no_metrics(server: Served) -> None:
    assert ask(server, "GET", "/metrics").status_code == 404
    assert ask(server, "GET", "/healthz").text == "ok\n"


def _quiet(server: Served) -> None:
    create(server)
    server.stop()
    assert server.log.read_text() == ""


def _chatty(server: Served) -> None:
    url = create(server, 10, X_Request_ID="my-own-id")
    assert ask(server, "HEAD", url).headers["X-Request-ID"]
    server.stop()
    lines = server.log.read_text().splitlines()
    assert any("POST '/files/' 201" in line and "request_id=my-own-id" in line for line in lines)
    assert any(f"upload_id={url.rpartition('/')[2]}" in line for line in lines)


def _log_for_programs(server: Served) -> None:
    url = create(server, 10, X_Request_ID="my-own-id")
    upload_id = url.rpartition("/")[2]
    refused = ask(server, "PATCH", url, b"x", Upload_Offset="3")
    ask(server, "GET", b'/files/a"\n\x1b[31mb'.hex())
    server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"POST '/files/' 201", f"PATCH '/files/{upload_id}' 409 ERR_MISMATCHED_OFFSET"} <= {
        line["message"].strip() for line in lines
    }
    by_request = {line["request_id"]: line for line in lines if "request_id" in line}
    assert by_request["my-own-id"]["upload_id"] == upload_id
    assert by_request[refused.headers["X-Request-ID"]]["upload_id"] == upload_id
    for line in lines:
        assert line["level"] == "info"
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line["time"])
        assert line["milliseconds"] >= 0


EFFECTS: list[tuple[str, Callable[[Served], None]]] = [
    ("--no-ui", _no_page),
    ("--max-size 1KiB", _max_size),
    ("--min-free-disk 1048576TiB", _no_room_below_the_floor),
    ("--min-free-disk 0", _any_room),
    ("--expire-after 1h", _expires),
    ("--expire-after never", _never_expires),
    ("--behind-proxy", _proxy),
    ("--port 0", _no_proxy),
    (
        r"--cors-allow-origin https://.*\.page\.test --cors-allow-credentials "
        "--cors-allow-headers X-One",
        _cors,
    ),
    ("--cors-allow-origin *", _any_origin),
    ("--network-timeout 300ms", _impatient),
    ("--host 127.0.0.2", _host),
    ("--state-dir {}/state", _state_elsewhere),
    ("--file-template in/{{filename}}", _template_used),
    ("--fsync never", _fsync_never),
    ("--fsync complete", _fsync_complete),
    ("--fsync always", _fsync_always),
    ("--base-path a/b", _base_path),
    ("--base-path /a/b/", _base_path),
    ("--base-path /", _at_the_root),
    ("--metrics-path files/m", _metrics_elsewhere),
    ("--metrics-path /metrics", _metrics),
    ("--metrics-path=", _no_metrics),
    ("--log-level warning", _quiet),
    ("--log-level info", _chatty),
    ("--log-format json", _log_for_programs),
]


@pytest.mark.parametrize(("flags", "effect"), EFFECTS, ids=[flags for flags, _ in EFFECTS])
def test_a_flag_has_its_effect(
    tmp_path: Path, flags: str, effect: Callable[[Served], None]
) -> None:
    with serving(tmp_path / "u", *flags.format(tmp_path).split()) as server:
        effect(server)


def test_the_first_line_of_output_is_the_url(tmp_path: Path) -> None:
    """Scripts wait for it; where there is a page, its URL comes second, and that is all."""
    server = Served(upload_dir=tmp_path / "u")
    server.start()
    assert server.process is not None
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/files/", server.url)
    assert ask(server, "OPTIONS", "").status_code == 204
    process = server.process
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    page = f"with a page for browsers at http://127.0.0.1:{server.port}/\n"
    assert rest in ("", page)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hangs", [True, False])
def test_the_end_is_in_order_and_in_time(
    tmp_path: Path, number: signal.Signals, hangs: bool
) -> None:
    """A supervisor kills what is late, and tells of a failure where the status is not 0."""
    with serving(tmp_path / "u", "--shutdown-timeout", "4s") as server:
        url = create(server)
        if hangs:
            with hanging_patch(url) as connection:
                eventually("no bytes came", lambda: stored(tmp_path / "u", url) == 5)
                begun = time.monotonic()
                status = server.signal(number)
                took = time.monotonic() - begun
                assert connection.recv(4096).startswith(b"HTTP/1.1 503")
        else:
            begun = time.monotonic()
            status = server.signal(number)
            took = time.monotonic() - begun
        assert status == 0
        assert took < 4
        assert "Traceback" not in server.log.read_text()
        server.start()
        offset = ask(server, "HEAD", url).headers["Upload-Offset"]
        assert offset == ("5" if hangs else "0")


@contextmanager
def on_socket(path: Path, directory: Path) -> Iterator[httpx.Client]:
    """A server on a Unix socket, and a client for it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tusd_py", "serve", "--unix-sock", str(path)),
            *("--upload-dir", str(directory), "--log-level", "warning"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "http://localhost/files/" in process.stdout.readline()
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost", headers=TUS) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    """A stale one, left by a kill, is replaced; one that lives is not; none is left behind."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with on_socket(path, tmp_path / "u") as client:
        created = client.post("/files/", headers={"Upload-Length": "5"})
        assert created.status_code == 201
        assert created.headers["Location"].startswith("http://localhost/files/")
        second = run("serve", "--unix-sock", path, "--upload-dir", tmp_path / "u")
        assert_refused(second, 1, "another server listens there")
        assert client.head(created.headers["Location"]).status_code == 200
    assert not path.exists()


# The tools beside it


def made(
    directory: Path,
    *,
    unfinished: int = 0,
    finished: int = 0,
    expired: int = 0,
    gone: int = 0,
    filename: bytes = b"a.txt",
) -> dict[str, list[str]]:
    """A deployment with uploads in it: their ids by what they are."""

    async def make() -> dict[str, list[str]]:
        timing = Timing(remember_gone=-1.0)
        ids: dict[str, list[str]] = {}
        for kind, count, expire_after in (
            ("expired", expired, -1.0),
            ("unfinished", unfinished, 3600.0),
            ("finished", finished, 3600.0),
            ("gone", gone, 3600.0),
        ):
            tus = TusApp(
                DiskStorage(directory),
                expire_after=expire_after,
                settings=Settings(timing=timing),
            )
            await tus.open()
            name = {"Upload-Metadata": f"filename {b64encode(filename).decode()}"}
            async with browser(tus) as client:
                for _ in range(count):
                    length = "3" if kind == "finished" else "10"
                    created = await client.post(
                        "/", content=b"abc", headers=TUS | BYTES | name | {"Upload-Length": length}
                    )
                    url = created.headers.get("Location", "")
                    if kind == "gone":
                        await client.delete(url, headers=TUS)
                    ids.setdefault(kind, []).append(url.rpartition("/")[2])
            await tus.stop()
        return ids

    return asyncio.run(make())


def expire(directory: Path, *upload_ids: str) -> None:
    with sqlite3.connect(directory / "state/tusd-py.sqlite3") as connection:
        for upload_id in upload_ids:
            connection.execute("UPDATE uploads SET expires_at = 1.0 WHERE id = ?", (upload_id,))
    connection.close()


def forget(directory: Path, upload_id: str) -> None:
    """A file that no record knows."""
    with sqlite3.connect(directory / "state/tusd-py.sqlite3") as connection:
        connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
    connection.close()
    (file,) = directory.glob(f"data/*/{upload_id}")
    os.utime(file, (1.0, 1.0))


def test_cleanup_says_beforehand_what_it_does(tmp_path: Path) -> None:
    ids = made(tmp_path, unfinished=4, finished=2, gone=1)
    dead, alive = ids["unfinished"][:2], ids["unfinished"][2]
    expire(tmp_path, *dead)
    stray = ids["unfinished"][3]
    forget(tmp_path, stray)

    announced = run("cleanup", "--dry-run", "--upload-dir", tmp_path)
    assert announced.exit_code == 0, announced.output
    assert len(list(tmp_path.glob("data/*/*"))) == 6, "a dry run removes nothing"
    done = run("cleanup", "--upload-dir", tmp_path)
    assert done.exit_code == 0, done.output
    assert announced.stdout.replace("would ", "") == done.stdout
    assert done.stdout.splitlines() == [
        *(f"remove {one}: expired" for one in sorted(dead)),
        f"set aside {stray}: no record knows this file",
        "free 6 B: 2 expired, 1 stray, 1 forgotten, 0 busy",
    ]
    left = {path.name for path in tmp_path.glob("data/*/*")}
    assert left == {alive, *ids["finished"]}
    assert (tmp_path / "quarantine" / stray).read_bytes() == b"abc"
    again = run("cleanup", "--upload-dir", tmp_path)
    assert again.stdout == "free 0 B: 0 expired, 0 stray, 0 forgotten, 0 busy\n"


@pytest.mark.parametrize("command", [["cleanup"], ["ls"], ["backup", "/nowhere/at/all"]])
def test_a_wrong_directory_is_refused_and_left_alone(tmp_path: Path, command: list[str]) -> None:
    """A typing mistake must not make a new deployment, or clean up somebody's photos."""
    (tmp_path / "photo.jpg").touch()
    result = run(command[0], "--upload-dir", tmp_path, *command[1:])
    assert_refused(result, 1, f"there are no uploads of tusd-py in {tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_ls_for_people(tmp_path: Path) -> None:
    ids = made(tmp_path, unfinished=1, finished=1, gone=1, filename="日本 ü.txt".encode())
    result = run("ls", "--upload-dir", tmp_path)
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    (half,), (whole,) = ids["unfinished"], ids["finished"]
    assert lines.keys() == {half, whole}, "what is gone is not shown"
    assert re.fullmatch(
        rf"{half}  receiving  3 B of 10 B  日本 ü\.txt  expires \d{{4}}-\d\d-\d\d "
        rf"\d\d:\d\d:\d\dZ  {tmp_path}/data/\w+/{half}",
        lines[half],
    )
    assert re.fullmatch(
        rf"{whole}  complete  3 B of 3 B  日本 ü\.txt  {tmp_path}/data/\w+/{whole}", lines[whole]
    )


def test_ls_for_programs(tmp_path: Path) -> None:
    ids = made(tmp_path, unfinished=1, finished=1)
    result = run("ls", "--json", "--upload-dir", tmp_path)
    found = {line["id"]: line for line in map(json.loads, result.stdout.splitlines())}
    half, whole = found[ids["unfinished"][0]], found[ids["finished"][0]]
    assert half.keys() == {
        *("id", "phase", "offset", "length", "filename", "created_at", "expires_at"),
        *("principal", "path"),
    }
    assert (half["phase"], half["offset"], half["length"]) == ("receiving", 3, 10)
    assert half["expires_at"] == pytest.approx(half["created_at"] + 3600, abs=60)
    assert (whole["phase"], whole["filename"], whole["expires_at"]) == ("complete", "a.txt", None)
    assert Path(whole["path"]).read_bytes() == b"abc"


NASTY = [
    b"\x1b]0;owned\x07\x1b[2J.txt",
    b"a\nb\rc",
    b"a\x9b31mb",
    "\u202etxt.exe".encode(),
    "a\u2028b".encode(),
    b"\xff\xfe\x1b[31m",
    b"\x00\x7f\x08",
    "\U000e0041".encode(),
]


@pytest.mark.parametrize("filename", NASTY)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_file_name_cannot_steer_the_terminal(
    tmp_path: Path, filename: bytes, flags: list[str]
) -> None:
    """Anyone who may upload chooses it; the operator's terminal obeys it."""
    made(tmp_path, unfinished=1, filename=filename)
    result = run("ls", "--upload-dir", tmp_path, *flags)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("\n")
    assert result.stdout[:-1].isprintable(), repr(result.stdout)


def test_ls_on_a_terminal_that_knows_few_characters(tmp_path: Path) -> None:
    made(tmp_path, unfinished=1, filename="日本.txt".encode())
    result = CliRunner(charset="latin-1").invoke(cli.main, ["ls", "--upload-dir", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    assert r"\u65e5\u672c.txt" in result.stdout


def test_an_upload_of_unknown_length_without_a_name(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        ask(server, "POST", "", Upload_Defer_Length="1")
        result = run("ls", "--upload-dir", tmp_path)
    assert "  receiving  0 B of ?  -  expires " in result.stdout


def test_a_backup_is_a_deployment_of_its_own(tmp_path: Path) -> None:
    """Here with a template, a state elsewhere, and one upload whose file somebody removed."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    flags = ["--state-dir", str(tmp_path / "state"), "--file-template", "{id}.bin"]
    with serving(live, *flags) as server:
        half, whole, lost = create(server), create(server, 3, b"abc"), create(server, 3, b"xyz")
        ask(server, "PATCH", half, b"01234", Upload_Offset="0")
        create(server, 7)
        gone = create(server)
        ask(server, "DELETE", gone)
        (live / "files" / f"{lost.rpartition('/')[2]}.bin").unlink()
        result = run("backup", "--upload-dir", live, *flags, copy)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"copied 3 uploads, 8 B, to {copy}; 1 ended meanwhile\n"
    with serving(copy, "--file-template", "{id}.bin") as server:
        half, whole, gone = (httpx.URL(url).path for url in (half, whole, gone))
        assert ask(server, "HEAD", half).headers["Upload-Offset"] == "5"
        assert ask(server, "PATCH", half, b"56789", Upload_Offset="5").status_code == 204
        assert ask(server, "GET", half).content == b"0123456789"
        assert ask(server, "GET", whole).content == b"abc"
        assert ask(server, "HEAD", gone).status_code == 410
        assert ask(server, "HEAD", httpx.URL(lost).path).status_code == 404


def test_a_backup_goes_to_an_empty_folder_only(tmp_path: Path) -> None:
    made(tmp_path / "u", finished=1)
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "empty"
    full.mkdir()
    (full / "photo.jpg").touch()
    file.touch()
    empty.mkdir()
    command = ("backup", "--upload-dir", tmp_path / "u")
    refused = run(*command, full)
    assert_refused(refused, 1, f"{full} is not empty; a backup needs a new folder")
    assert [path.name for path in full.iterdir()] == ["photo.jpg"]
    assert_refused(run(*command, file), 1, f"{file}: Not a directory")
    done = run(*command, empty)
    assert done.stdout == f"copied 1 uploads, 3 B, to {empty}\n"
    assert_refused(run(*command, empty), 1, "is not empty")
