#!/usr/bin/env python3
"""Installs and starts tus servers that others wrote, runs the suite, and prints the table.

    python conformance/servers.py --home /tmp/peers                 # all of them
    python conformance/servers.py --home /tmp/peers tusd tus-node   # some
    python conformance/servers.py --home /tmp/peers --update        # the table goes into README.md

Everything comes from the servers' registries (npm, PyPI, the Go module proxy, crates.io) into
`--home`, listens on loopback only, and runs from there. This is no part of CI: it needs the
network, Node, Go and Rust. A server whose toolchain is missing is left out, and that is said.
"""

import argparse
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
MARKS = ("<!-- results -->", "<!-- end of results -->")
STARTS_WITHIN = 30.0
MOST_DEATHS = 200
TUSD_VERSION = "v2.9.2"

NODE_SERVER = """
const http = require('node:http')
const { Server } = require('@tus/server')
const { FileStore } = require('@tus/file-store')
const [port, directory] = process.argv.slice(2)
const server = new Server({ path: '/files', datastore: new FileStore({ directory }) })
http.createServer((q, r) => server.handle(q, r)).listen(Number(port), '127.0.0.1')
"""
TUSPYSERVER = """
import sys, uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router
app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=sys.argv[2]))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""
FASTAPI_TUSD = """
import sys, uvicorn
from fastapi import FastAPI
from fastapi_tusd import TusRouter
app = FastAPI()
app.include_router(TusRouter(store_dir=sys.argv[2], location="/files"), prefix="/files")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""
RESUMABLE_UPLOAD = """
import sys
from http.server import ThreadingHTTPServer
from resumable_upload import SQLiteStorage, TusHTTPRequestHandler, TusServer
directory = sys.argv[2]
storage = SQLiteStorage(db_path=f"{directory}/uploads.db", upload_dir=directory)
class Handler(TusHTTPRequestHandler):
    pass
Handler.tus_server = TusServer(storage=storage, base_path="/files")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server to install and judge.

    Attributes:
        name: Its name on the command line and in the table.
        tool: The program that has to be there.
        install: Installs it into a directory and gives its version.
        command: What starts it, from its directory, the port and a directory for uploads.
        path: The path of its upload creation URL.
    """

    name: str
    tool: str
    install: Callable[[Path], str]
    command: Callable[[Path, int, Path], list[str]]
    path: str


def call(*command: str | Path, cwd: Path | None = None) -> str:
    """Runs a command to its end and gives what it printed."""
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout


def install_own(home: Path) -> str:
    """The server of this repository, as the interpreter that runs this script has it."""
    return call(sys.executable, "-c", "import tusd_py; print(tusd_py.__version__)").strip()


def install_tusd(home: Path) -> str:
    """The reference, as a Go module; the version is fixed, for a proxy without version lists."""
    if not (home / "tusd").exists():
        if not (home / "go.mod").exists():
            call("go", "mod", "init", "peer", cwd=home)
        module = "github.com/tus/tusd/v2"
        for path in (module, f"{module}/cmd/tusd"):
            call("go", "get", f"{path}@{TUSD_VERSION}", cwd=home)
        call("go", "build", "-o", "tusd", f"{module}/cmd/tusd", cwd=home)
    return TUSD_VERSION.removeprefix("v")


def install_node(home: Path) -> str:
    """`@tus/server` with `@tus/file-store`, from npm."""
    (home / "server.cjs").write_text(NODE_SERVER)
    (home / "package.json").write_text('{"private": true}')
    call("npm", "install", "--no-audit", "--no-fund", "@tus/server", "@tus/file-store", cwd=home)
    manifest = home / "node_modules" / "@tus" / "server" / "package.json"
    return str(json.loads(manifest.read_text())["version"])


def install_python(package: str, server: str, *others: str) -> Callable[[Path], str]:
    """A package from PyPI in an environment of its own, with a script that starts it."""

    def install(home: Path) -> str:
        (home / "server.py").write_text(server)
        call(sys.executable, "-m", "venv", home / "venv")
        pip = home / "venv" / "bin" / "pip"
        call(pip, "install", "--quiet", package, *others)
        shown = re.search(r"^Version: (.+)$", call(pip, "show", package), re.MULTILINE)
        return shown.group(1) if shown else "unknown"

    return install


def install_rustus(home: Path) -> str:
    """The crate, built from source: several minutes.

    `hashers` is what its README's `--features=all` adds that a client can see: without it rustus
    announces `checksum` and verifies none. The rest is notifiers and databases.
    """
    if not (home / "bin" / "rustus").exists():
        flags = ["--features", "hashers", "--root", home, "--target-dir", home / "target"]
        call("cargo", "install", "rustus", *flags)
        shutil.rmtree(home / "target")
    return call(home / "bin" / "rustus", "--version").split()[-1]


def start_python(home: Path, port: int, uploads: Path) -> list[str]:
    """The script that `install_python` wrote."""
    return [str(home / "venv" / "bin" / "python"), str(home / "server.py"), str(port), str(uploads)]


def start_own(home: Path, port: int, uploads: Path) -> list[str]:
    """`tusd-py serve`."""
    flags = ["--port", str(port), "--upload-dir", str(uploads)]
    return [sys.executable, "-m", "tusd_py", "serve", *flags]


def start_tusd(home: Path, port: int, uploads: Path) -> list[str]:
    """The reference with its file store."""
    place = ["-host", "127.0.0.1", "-port", str(port), "-base-path", "/files/"]
    return [str(home / "tusd"), *place, "-upload-dir", str(uploads)]


def start_node(home: Path, port: int, uploads: Path) -> list[str]:
    """The script that `install_node` wrote."""
    return ["node", str(home / "server.cjs"), str(port), str(uploads)]


def start_rustus(home: Path, port: int, uploads: Path) -> list[str]:
    """Rustus with its file storage, as its own defaults have it."""
    place = ["--host", "127.0.0.1", "--port", str(port)]
    store = ["--data-dir", str(uploads), "--info-dir", str(uploads / "info")]
    return [str(home / "bin" / "rustus"), *place, *store]


PEERS = (
    Peer(name="tusd-py", tool="python3", install=install_own, command=start_own, path="/files/"),
    Peer(name="tusd", tool="go", install=install_tusd, command=start_tusd, path="/files/"),
    Peer(name="@tus/server", tool="npm", install=install_node, command=start_node, path="/files"),
    Peer(
        name="tuspyserver",
        tool="python3",
        install=install_python("tuspyserver", TUSPYSERVER, "fastapi", "uvicorn"),
        command=start_python,
        path="/files/",
    ),
    Peer(
        name="resumable-upload",
        tool="python3",
        install=install_python("resumable-upload", RESUMABLE_UPLOAD),
        command=start_python,
        path="/files",
    ),
    Peer(
        name="fastapi-tusd",
        tool="python3",
        install=install_python("fastapi-tusd", FASTAPI_TUSD, "fastapi", "uvicorn"),
        command=start_python,
        path="/files",
    ),
    Peer(name="rustus", tool="cargo", install=install_rustus, command=start_rustus, path="/files/"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    version: str
    found: dict[str, object]
    seconds: float
    deaths: int


class Supervised:
    """A running server that is started again when it dies, as an operator would have it.

    Args:
        command: What starts it.
        place: Its directory, with its log.
        port: Where it listens.
    """

    def __init__(self, command: list[str], place: Path, port: int) -> None:
        self.command = command
        self.place = place
        self.port = port
        self.deaths = 0
        self._stopping = threading.Event()
        self._process = self._start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with (self.place / "server.log").open("a") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.place)

    def _watch(self) -> None:
        while not self._stopping.wait(0.02):
            if self._process.poll() is not None:
                self.deaths += 1
                if self.deaths > MOST_DEATHS:
                    return
                self._process = self._start()

    def wait_until_up(self) -> None:
        """Waits until it takes connections.

        Raises:
            RuntimeError: It ended at once, or never does.
        """
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and not self.deaths:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError("it did not start; see server.log")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after a while."""
        self._stopping.set()
        self._watcher.join()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def judge(peer: Peer, home: Path) -> Row:
    """Installs, starts and judges one server, and stops it again.

    A server that dies is judged once more with one case at a time, so that its death counts for
    the case that it dies of, and not for those that happened to run beside it.
    """
    place = home / re.sub(r"\W+", "-", peer.name).strip("-")
    place.mkdir(parents=True, exist_ok=True)
    version = peer.install(place)
    row = judge_once(peer, place, version, jobs=8)
    return judge_once(peer, place, version, jobs=1) if row.deaths else row


def judge_once(peer: Peer, place: Path, version: str, *, jobs: int) -> Row:
    """One life (or several) of the server, one run of the suite."""
    uploads = place / "uploads"
    shutil.rmtree(uploads, ignore_errors=True)
    uploads.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    server = Supervised(peer.command(place, port, uploads), place, port)
    try:
        server.wait_until_up()
        began = time.monotonic()
        found = run_suite(f"http://127.0.0.1:{port}{peer.path}", place / "results.json", jobs)
        seconds = time.monotonic() - began
    finally:
        server.stop()
    return Row(name=peer.name, version=version, found=found, seconds=seconds, deaths=server.deaths)


def run_suite(url: str, results: Path, jobs: int) -> dict[str, object]:
    """Runs `tus-conformance` and gives its JSON.

    Raises:
        RuntimeError: It could not judge.
    """
    command = [sys.executable, "-m", "tus_conformance", url, "--json", str(results)]
    command += ["--jobs", str(jobs)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr.strip() or done.stdout[-500:])
    found: dict[str, object] = json.loads(results.read_text())
    return found


def table(rows: list[Row]) -> str:
    """The rows as Markdown: counts, and then every failing case."""
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with `servers.py`, one run each, on loopback.",
        "",
        "| server | version | pass | MUST fail | SHOULD fail | MAY fail | skip | died | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cases = row.found["cases"]
        assert isinstance(cases, list)
        failed = [case for case in cases if case["result"] == "FAIL"]
        counts = [str(sum(1 for case in failed if case["level"] == level)) for level in LEVELS]
        ended = [case["result"] for case in cases]
        numbers = [str(ended.count("PASS")), *counts, str(ended.count("SKIP"))]
        numbers += [str(row.deaths), f"{row.seconds:.0f}"]
        lines.append(f"| {row.name} | {row.version} | {' | '.join(numbers)} |")
    lines += ["", *(failures(row) for row in rows)]
    return "\n".join(lines)


LEVELS = ("MUST", "SHOULD", "MAY")


def failures(row: Row) -> str:
    """The failing cases of one server, in one paragraph."""
    cases = row.found["cases"]
    assert isinstance(cases, list)
    parts = []
    for level in LEVELS:
        ids = [c["id"] for c in cases if c["result"] == "FAIL" and c["level"] == level]
        if ids:
            parts.append(f"{level}: {', '.join(ids)}")
    return f"- **{row.name}**: {'; '.join(parts) or 'nothing fails'}"


def update(text: str) -> None:
    """Puts the table between the marks of README.md."""
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=", ".join(peer.name for peer in PEERS))
    parser.add_argument("--home", type=Path, required=True, help="where they are installed")
    parser.add_argument("--update", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    rows = []
    for peer in PEERS:
        if options.names and peer.name not in options.names:
            continue
        if shutil.which(peer.tool) is None:
            print(f"{peer.name}: left out, {peer.tool} is missing", file=sys.stderr)
            continue
        try:
            rows.append(judge(peer, options.home.resolve()))
        except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
            detail = getattr(error, "stderr", None) or error
            print(f"{peer.name}: left out, {detail}", file=sys.stderr)
    text = table(rows)
    print(text)
    if options.update:
        update(text)


if __name__ == "__main__":
    main()
