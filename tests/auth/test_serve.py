"""`tusd-py serve` with its own credentials: who may do what, and what the log says of it."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.auth.samples import OTHER, RSA, SECRET, pem, written
from tests.serving import Served, serving
from tusd_py.wiring.deployment import build_app
from tusd_py.wiring.errors import NotInstalled
from tusd_py.wiring.settings import Place, UploadSettings

ALICE, BOB = "a-token-of-alice_1234", "a-token-of-bob_567890"
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def web_token(who: str, **more: Any) -> str:
    claims = {"sub": who, "exp": int(time.time()) + 600, "aud": "uploads", **more}
    return jwt.encode(claims, RSA, "RS256")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    written(folder / "tokens", f"{ALICE} alice\n{BOB} bob\n")
    written(folder / "jwt", pem(RSA))
    written(folder / "signing", f"{SECRET}\n")
    return folder


@pytest.fixture(scope="module", params=[pytest.param("text", marks=pytest.mark.long), "json"])
def server(
    request: pytest.FixtureRequest, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One that knows all kinds of credentials, and logs all it can."""
    flags: list[str | Path] = [
        "--auth-tokens",
        keys / "tokens",
        "--auth-signing-key",
        keys / "signing",
    ]
    flags += ["--auth-jwt-keys", keys / "jwt", "--auth-jwt-audience", "uploads"]
    flags += ["--log-level", "debug", "--log-format", request.param]
    with serving(tmp_path_factory.mktemp("served") / "uploads", *map(str, flags)) as served:
        yield served
    log = served.log.read_text()
    assert "Traceback" not in log, log[-4000:]
    # Whatever the tests of this module sent.
    assert "/files/" in log, "requests are logged"
    for secret in (ALICE, BOB, SECRET, OTHER, "eyJ", "tus-signed"):
        assert secret not in log


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def signed(keys: Path, *arguments: str) -> str:
    """What `tusd-py sign` prints."""
    command = [sys.executable, "-m", "tusd_py", "sign", *arguments]
    env = {**os.environ, "TUSD_PY_AUTH_SIGNING_KEY": str(keys / "signing")}
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_who_has_no_token_may_do_nothing(server: Served, client: httpx.Client) -> None:
    mine = client.post(server.url, headers=TUS | bearer(ALICE) | {"Upload-Length": "5"})
    assert mine.status_code == 201
    url = mine.headers["Location"]
    assert url.partition("?")[1:] == ("", "")
    for given in (
        {},
        bearer("wrong" * 5),
        bearer(web_token("alice", exp=1)),
        {"Authorization": "x"},
    ):
        for method, where in (("POST", server.url), *((each, url) for each in METHODS)):
            offset = {"Upload-Length": "5", "Upload-Offset": "0"}
            answer = client.request(method, where, headers=BYTES | offset | given, content=b"12345")
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="tusd-py"')
            assert "Location" not in answer.headers
            assert "Upload-Expires" not in answer.headers
            if method != "HEAD":
                assert re.fullmatch(r"ERR_NOT_AUTHENTICATED: [^\n]+\n", answer.text)
    assert client.head(url, headers=TUS | bearer(ALICE)).headers["Upload-Offset"] == "0"


METHODS = ("HEAD", "PATCH", "GET", "DELETE")


def test_what_stays_open(server: Served, client: httpx.Client) -> None:
    """A browser asks beforehand without credentials; whoever watches the server has none."""
    asked = {"Origin": "https://page.test", "Access-Control-Request-Method": "PATCH"}
    for where in (server.url, server.url + "any"):
        preflight = client.options(where, headers=asked)
        assert preflight.status_code == 204
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    root = server.url.removesuffix("files/")
    assert [client.get(root + path).status_code for path in ("healthz", "metrics", "")] == [200] * 3


@pytest.mark.parametrize("kind", ["token", "web token"])
def test_an_upload_is_its_owners(server: Served, client: httpx.Client, kind: str) -> None:
    """A principal is the same whatever kind of token tells it."""
    hers = bearer(ALICE if kind == "token" else web_token("alice"))
    his = bearer(BOB if kind == "token" else web_token("bob"))
    size = {"Upload-Length": "5"}
    url = client.post(server.url, headers=TUS | size | hers).headers["Location"]
    for method in METHODS:
        offset = {"Upload-Offset": "0"}
        answer = client.request(method, url, headers=BYTES | offset | his, content=b"12345")
        assert answer.status_code == 404
    first, then = BYTES | {"Upload-Offset": "0"}, BYTES | {"Upload-Offset": "3"}
    assert client.patch(url, headers=first | hers, content=b"123").status_code == 204
    other_kind = bearer(web_token("alice") if kind == "token" else ALICE)
    assert client.patch(url, headers=then | other_kind, content=b"45").status_code == 204
    assert client.get(url, headers=hers).content == b"12345"
    assert client.delete(url, headers=TUS | hers).status_code == 204


def test_a_signed_url_is_enough(server: Served, client: httpx.Client, keys: Path) -> None:
    """The way of a browser that gets a URL from an application."""
    limits = ("--max-size", "10", "--max-speed", "1MB")
    endpoint = signed(keys, server.url, *limits, "--principal", "alice")
    (claims,) = httpx.URL(endpoint).params.get_list("tus-signed")
    assert b'"max_speed":1000000,' in base64.urlsafe_b64decode(claims.partition(".")[0] + "==")
    refused = client.post(endpoint, headers=TUS | {"Upload-Length": "11"})
    assert refused.status_code == 413
    made = client.post(endpoint, headers=TUS | {"Upload-Length": "10"})
    assert made.status_code == 201
    url = made.headers["Location"]
    plain, _, query = url.partition("?")
    assert query.startswith("tus-signed=")
    first = BYTES | {"Upload-Offset": "0"}
    assert client.patch(plain, headers=first, content=b"12345").status_code == 401
    assert client.patch(url, headers=first, content=b"12345").status_code == 204
    assert client.head(url, headers=TUS).headers["Upload-Offset"] == "5"
    again = client.post(f"{server.url}?{query}", headers=TUS | {"Upload-Length": "1"})
    assert (again.status_code, again.headers.get("WWW-Authenticate")) == (403, None)
    assert again.text == "ERR_NOT_ALLOWED: this signed URL does not allow to create\n"
    assert client.get(url).status_code == 403
    then = BYTES | {"Upload-Offset": "5"}
    assert client.patch(url, headers=then, content=b"67890").status_code == 204
    assert client.get(plain, headers=bearer(ALICE)).content == b"1234567890"
    assert client.get(plain, headers=bearer(BOB)).status_code == 404
    to_read = signed(keys, plain, "--may", "download", "--lasts", "5m")
    assert client.get(to_read).content == b"1234567890"
    assert client.delete(to_read, headers=TUS).status_code == 403


def test_uploads_of_one_signed_url_are_not_there_for_another(
    server: Served, client: httpx.Client, keys: Path
) -> None:
    one, two = (signed(keys, server.url) for _ in range(2))
    made = client.post(one, headers=TUS | {"Upload-Length": "10"}).headers["Location"]
    plain = made.partition("?")[0]
    query = two.partition("?")[2]
    assert client.head(f"{plain}?{query}", headers=TUS).status_code == 404
    assert client.head(f"{plain}?{one.partition('?')[2]}", headers=TUS).status_code == 200


def test_a_url_that_was_changed_or_has_ended(
    server: Served, client: httpx.Client, keys: Path
) -> None:
    url = signed(keys, server.url, "--lasts", "1ms")
    ended = client.post(url, headers=TUS | {"Upload-Length": "10"})
    assert (ended.status_code, ended.text) == (
        401,
        "ERR_NOT_AUTHENTICATED: this signed URL has ended; get a new one\n",
    )
    changed = client.post(signed(keys, server.url) + "x", headers=TUS | {"Upload-Length": "10"})
    assert changed.status_code == 401


def test_our_own_sender_with_a_signed_url(server: Served, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(os.urandom(100_000))
    url = signed(keys, server.url, "--may", "create", "--may", "append", "--may", "query")
    command = [sys.executable, "-m", "tusd_py", "upload", str(tmp_path / "film"), url]
    env = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_ls_tells_whose_it_is(server: Served, client: httpx.Client) -> None:
    size = {"Upload-Length": "5"}
    url = client.post(server.url, headers=TUS | size | bearer(BOB)).headers["Location"]
    command = [sys.executable, "-m", "tusd_py", "ls", "--json", "--upload-dir"]
    listed = subprocess.run(
        [*command, str(server.upload_dir)], capture_output=True, text=True, check=True, timeout=60
    )
    lines = {line["id"]: line for line in map(json.loads, listed.stdout.splitlines())}
    assert lines[url.rpartition("/")[2]]["principal"] == "bob"


def test_tokens_that_change(tmp_path: Path, client: httpx.Client) -> None:
    """A token that is taken out of the file lets nobody in, without a restart."""
    file = written(tmp_path / "tokens", f"{ALICE} alice\n")
    size = TUS | {"Upload-Length": "5"}
    with serving(tmp_path / "u", "--auth-tokens", file, "--workers", "2") as server:
        assert client.post(server.url, headers=size | bearer(ALICE)).status_code == 201
        written(tmp_path / "tokens", f"{BOB} bob\n")
        deadline = time.monotonic() + 20
        while client.post(server.url, headers=size | bearer(ALICE)).status_code == 201:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Missing option '--auth-signing-key'"),
        (("--auth-signing-key", "env:NONE"), "env:NONE: there is no environment variable NONE"),
        (("--auth-signing-key", "/nowhere"), "/nowhere: No such file or directory"),
        (("--auth-signing-key", "env:SHORT"), "env:SHORT, line 1: a secret key needs at least 32"),
        (("--auth-signing-key", "env:KEY", "--may", "fly"), "'fly' is not one of"),
        (("--auth-signing-key", "env:KEY", "--lasts", "0s"), "that has ended already is of no use"),
        (("--auth-signing-key", "env:KEY", "--max-size", "x"), "'x' is not a size"),
        (("--auth-signing-key", "env:KEY", "--max-speed", "1000"), "'1000' is too slow"),
    ],
)
def test_what_cannot_be_signed_is_said(arguments: tuple[str, ...], complaint: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
    env |= {"SHORT": "short-key", "KEY": SECRET}
    command = [sys.executable, "-m", "tusd_py", "sign", *arguments, "https://example.com/files/"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "short-key" not in done.stderr


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "jwt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "tusd_py.auth.jwt", raising=False)
    with pytest.raises(
        NotInstalled, match=r"needs jwt; install it with: pip install 'tusd-py\[jwt\]'"
    ):
        build_app(Place(upload_dir=tmp_path), UploadSettings(auth_jwt_keys="keys"))
