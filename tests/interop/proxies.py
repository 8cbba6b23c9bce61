"""Debian's nginx, haproxy and Caddy before servers of ours, with the configurations we ship."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import tusd_py
from tests.serving import eventually

DOCS = Path(tusd_py.__file__).parent / "docs"
SYSTEM = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin"


class Proxy(NamedTuple):
    """How one is started. FOLDER and PORT stand for what is known only then.

    Attributes:
        shipped: Its configuration in `tusd_py/docs`.
        site: What is changed there, beside the addresses of the servers: old, new.
        checks: The command that checks the configuration.
        runs: The command that runs it in the foreground.
        around: The file `main` beside it, where it is a part of another.
    """

    shipped: str
    site: tuple[str, str]
    checks: str
    runs: str
    around: str = ""


PROXIES = {
    "nginx": Proxy(
        shipped="nginx.conf",
        site=("listen 80;", "listen 127.0.0.1:PORT;"),
        checks="nginx -t -c FOLDER/main -e FOLDER/log",
        runs="nginx -c FOLDER/main -e FOLDER/log",
        around="""
            daemon off;
            user root;
            worker_processes 1;
            pid FOLDER/nginx.pid;
            events { worker_connections 256; }
            http {
                access_log off;
                client_body_temp_path FOLDER/body;
                proxy_temp_path FOLDER/proxy;
                fastcgi_temp_path FOLDER/fastcgi;
                uwsgi_temp_path FOLDER/uwsgi;
                scgi_temp_path FOLDER/scgi;
                include FOLDER/nginx.conf;
            }
        """,
    ),
    "haproxy": Proxy(
        shipped="haproxy.cfg",
        site=("bind :80", "bind 127.0.0.1:PORT"),
        checks="haproxy -c -f FOLDER/haproxy.cfg",
        runs="haproxy -db -f FOLDER/haproxy.cfg",
    ),
    # Without a name it asks nobody for a certificate.
    "caddy": Proxy(
        shipped="Caddyfile",
        site=("uploads.example.com {", "{\n\tadmin off\n}\nhttp://:PORT {\n\tbind 127.0.0.1"),
        checks="caddy validate --adapter caddyfile --config FOLDER/Caddyfile",
        runs="caddy run --adapter caddyfile --config FOLDER/Caddyfile",
    ),
}


@contextlib.contextmanager
def proxy_before(name: str, ports: Sequence[int], folder: Path) -> Iterator[str]:
    """One of `PROXIES` on loopback before servers on two ports: its endpoint.

    Of the configuration that we ship only the addresses are changed. Skips where it is missing.
    """
    proxy, program = PROXIES[name], shutil.which(name, path=SYSTEM)
    if program is None:
        pytest.skip(f"{name} is not on this machine")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def filled(text: str) -> str:
        return text.replace("FOLDER", str(folder)).replace("PORT", str(port))

    shipped = (DOCS / proxy.shipped).read_text()
    own = zip((1080, 1081), ports, strict=True)
    servers = [(f"127.0.0.1:{old}", f"127.0.0.1:{new}") for old, new in own]
    for old, new in [*servers, proxy.site]:
        assert shipped.count(old) == 1, old
        shipped = shipped.replace(old, filled(new))
    (folder / proxy.shipped).write_text(shipped)
    (folder / "main").write_text(filled(proxy.around))
    home = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    checks, runs = ([program, *filled(each).split()[1:]] for each in (proxy.checks, proxy.runs))
    tested = subprocess.run(checks, capture_output=True, text=True, check=False, env=home)
    assert tested.returncode == 0, tested.stderr
    with (folder / "log").open("a") as log, subprocess.Popen(runs, stderr=log, env=home) as process:
        try:
            eventually(f"{name} listens", lambda: _answers(port))
            yield f"http://127.0.0.1:{port}/files/"
        finally:
            process.terminate()
            process.wait(20)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
