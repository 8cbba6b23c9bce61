"""Debian's nginx before servers of ours, with the configuration that we ship."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import tusd_py
from tests.serving import eventually

SHIPPED = Path(tusd_py.__file__).parent / "docs/nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")

AROUND = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/shipped.conf;
}}
"""


@contextlib.contextmanager
def nginx_before(ports: Sequence[int], folder: Path) -> Iterator[str]:
    """An nginx on loopback before servers on two ports: its endpoint. Skips where there is none.

    Of the configuration that we ship only the addresses are changed.
    """
    if NGINX is None:
        pytest.skip("nginx is not on this machine")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shipped = SHIPPED.read_text()
    changes = {"listen 80;": f"listen 127.0.0.1:{port};"}
    for stands, own in zip((1080, 1081), ports, strict=True):
        changes[f"server 127.0.0.1:{stands} "] = f"server 127.0.0.1:{own} "
    for old, new in changes.items():
        shipped, count = re.subn(re.escape(old), new, shipped)
        assert count == 1, old
    (folder / "shipped.conf").write_text(shipped)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            eventually("nginx listens", lambda: _answers(port))
            yield f"http://127.0.0.1:{port}/files/"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
