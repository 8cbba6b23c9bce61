"""Whom we are compared with: how each is installed, and what starts it.

Everything comes from the servers' own registries into one folder, once, and runs from there.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_TUSD_VERSION = "v2.9.2"
_PATIENT = "10m"
"""Connections are held open for longer than anyone's default would let them."""

_NODE_SERVER = """
const http = require('node:http')
const { Server } = require('@tus/server')
const { FileStore } = require('@tus/file-store')
const [port, directory] = process.argv.slice(2)
const server = new Server({ path: '/files', datastore: new FileStore({ directory }) })
http.createServer((q, r) => server.handle(q, r)).listen(Number(port), '127.0.0.1')
"""
_NODE_S3_SERVER = """
const http = require('node:http')
const { Server } = require('@tus/server')
const { S3Store } = require('@tus/s3-store')
const [port] = process.argv.slice(2)
const datastore = new S3Store({
  partSize: 8 << 20, maxConcurrentPartUploads: 4, useTags: false,
  s3ClientConfig: {
    bucket: process.env.TUSD_PY_S3_BUCKET, endpoint: process.env.TUSD_PY_S3_ENDPOINT,
    region: process.env.AWS_DEFAULT_REGION, forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED',
  },
})
const server = new Server({ path: '/files', datastore })
http.createServer((q, r) => server.handle(q, r)).listen(Number(port), '127.0.0.1')
"""
_TUSPYSERVER = """
import sys, uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router
app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=sys.argv[2]))
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""
_RESUMABLE_UPLOAD = """
import sys
from http.server import ThreadingHTTPServer
from resumable_upload import SQLiteStorage, TusHTTPRequestHandler, TusServer
directory = sys.argv[2]
storage = SQLiteStorage(db_path=f"{directory}/uploads.db", upload_dir=directory)
class Handler(TusHTTPRequestHandler):
    tus_server = TusServer(storage=storage, base_path="/files")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class NotHere(Exception):
    """The server cannot be installed on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server.

    Attributes:
        name: In the tables and on the command line.
        command: What starts it, from its folder, a port and a folder for uploads.
        install: Installs it into its folder, None if it is there. May raise `NotHere`, or what
            `subprocess` does.
        path: Of its upload creation URL.
    """

    name: str
    command: Callable[[Path, int, Path], list[str]]
    install: Callable[[Path], None] | None = None
    path: str = "/files/"

    def ready(self, home: Path) -> Path:
        """Installs it, unless it is there.

        Returns:
            Its folder.

        Raises:
            NotHere: That failed.
        """
        place = home / self.name.replace(" ", "-")
        done = place / ".installed"
        if self.install is not None and not done.exists():
            place.mkdir(parents=True, exist_ok=True)
            try:
                self.install(place)
            except subprocess.CalledProcessError as error:
                last = (error.stderr or "").strip().splitlines()[-1:] or [str(error)]
                raise NotHere(f"cannot be installed: {last[0]}") from error
            except OSError as error:
                raise NotHere(f"cannot be installed: {error}") from error
            done.touch()
        return place


def _call(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)


def _needs(tool: str) -> None:
    if shutil.which(tool) is None:
        raise NotHere(f"{tool} is not on this machine")


def _own(*flags: str) -> Callable[[Path, int, Path], list[str]]:
    def command(_: Path, port: int, uploads: Path) -> list[str]:
        serve = [sys.executable, "-m", "tusd_py", "serve", "--port", str(port)]
        serve += ["--upload-dir", str(uploads), "--network-timeout", _PATIENT]
        # All clients have one address here.
        serve += ["--max-open-uploads-per-client", "0", "--max-connections-per-address", "0"]
        return [*serve, *flags]

    return command


def _served(script: str) -> Callable[[Path, int, Path], list[str]]:
    def command(_: Path, port: int, uploads: Path) -> list[str]:
        return [sys.executable, str(HERE / "served" / script), str(port), str(uploads)]

    return command


def _install_node(server: str, *packages: str) -> Callable[[Path], None]:
    def install(place: Path) -> None:
        _needs("npm")
        (place / "server.cjs").write_text(server)
        (place / "package.json").write_text(json.dumps({"private": True}))
        _call("npm", "install", "--no-audit", "--no-fund", *packages, cwd=place)

    return install


def _node(place: Path, port: int, uploads: Path) -> list[str]:
    return ["node", str(place / "server.cjs"), str(port), str(uploads)]


def _install_python(server: str, *packages: str) -> Callable[[Path], None]:
    def install(place: Path) -> None:
        (place / "server.py").write_text(server)
        _call(sys.executable, "-m", "venv", place / "venv")
        _call(place / "venv" / "bin" / "pip", "install", "--quiet", *packages)

    return install


def _python(place: Path, port: int, uploads: Path) -> list[str]:
    return [str(place / "venv/bin/python"), str(place / "server.py"), str(port), str(uploads)]


def _build_tusd(place: Path) -> None:
    _needs("go")
    if not (place / "go.mod").exists():
        _call("go", "mod", "init", "peer", cwd=place)
    # By exact versions, module first: so it works with a proxy that has no lists of versions.
    module = "github.com/tus/tusd/v2"
    for path in (module, f"{module}/cmd/tusd"):
        _call("go", "get", f"{path}@{_TUSD_VERSION}", cwd=place)
    _call("go", "build", "-o", "tusd", f"{module}/cmd/tusd", cwd=place)


def _tusd(found: Path | None) -> Callable[[Path, int, Path], list[str]]:
    def command(place: Path, port: int, uploads: Path) -> list[str]:
        where = ["-host", "127.0.0.1", "-port", str(port), "-base-path", "/files/"]
        # It logs each request by default, and nobody else here does.
        calm = ["-verbose=false", "-network-timeout", _PATIENT]
        return [str(found or place / "tusd"), *where, *calm, "-upload-dir", str(uploads)]

    return command


OURS = "tusd-py"
DEFAULT = "tusd-py (default)"
BARE = "bare"
STARLETTE = "starlette"
TUSD = "tusd"
NODE = "tus-node"
NODE_S3 = "tus-node s3-store"
BOTO3 = "boto3"
"""No server: it sends a file to the store itself; see `bucket.py`."""


def catalogue(tusd: Path | None) -> dict[str, Peer]:
    """All servers by name.

    Args:
        tusd: Where a `tusd` lies, None to look for one.
    """
    uvicorn = ("fastapi", "uvicorn[standard]")
    on_path = shutil.which("tusd")
    found = tusd or (Path(on_path) if on_path else None)
    peers = (
        Peer(name=BARE, command=_served("bare.py")),
        Peer(name=OURS, command=_own("--fsync", "never", "--log-level", "warning")),
        Peer(name=DEFAULT, command=_own()),
        Peer(name=STARLETTE, command=_served("plain_starlette.py")),
        Peer(name=TUSD, command=_tusd(found), install=None if found else _build_tusd),
        Peer(
            name=NODE,
            command=_node,
            install=_install_node(_NODE_SERVER, "@tus/server", "@tus/file-store"),
            path="/files",
        ),
        Peer(
            name=NODE_S3,
            command=_node,
            install=_install_node(_NODE_S3_SERVER, "@tus/server", "@tus/s3-store"),
            path="/files",
        ),
        Peer(name=BOTO3, command=lambda *_: []),
        Peer(
            name="tuspyserver",
            command=_python,
            install=_install_python(_TUSPYSERVER, "tuspyserver", *uvicorn),
        ),
        Peer(
            name="resumable-upload",
            command=_python,
            install=_install_python(_RESUMABLE_UPLOAD, "resumable-upload"),
            path="/files",
        ),
    )
    return {peer.name: peer for peer in peers}
