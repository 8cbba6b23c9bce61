"""The log of a server, at its most talkative: no token in it, no key, and no URL that is signed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.auth.samples import SECRET, written
from tests.hooks.hook_server import Asked, HookServer, Said, hook_server
from tests.interop.plain_http import OFFSET_STREAM, TUS, asked, create
from tests.serving import eventually, serving
from tusd_py.auth.signed import SignedUrls

if TYPE_CHECKING:
    from tests.storage.s3_place import S3Place

TOKEN, OTHER_TOKEN = "the-token-of-alice_1234", "a-token-of-nobody_5678"
HOOK_PASSWORD, HOOK_KEY, HOOK_SECRET = "pw-of-hooks-91", "key-of-hooks-92", "secret-of-hooks-93"
SAID = "what-a-hook-says-94"
TALKATIVE = ("--log-level", "debug", "--log-format")


@pytest.fixture
def hooks() -> Iterator[HookServer]:
    with hook_server() as hooks:
        yield hooks


ANSWERS: list[Said] = [
    Said(status=500, body=SAID.encode()),
    Said(status=400, body=SAID.encode()),
    Said(body=SAID.encode()),
    Said(body=json.dumps([SAID]).encode()),
    Said(json={"RejectUpload": SAID}),
    Said(json={"ChangeFileInfo": {"MetaData": SAID}}),
    Said(json={"ChangeFileInfo": {"MetaData": {"a b": SAID}}}),
    Said(json={"HTTPResponse": {"StatusCode": SAID}}),
    Said(
        json={"HTTPResponse": {"Header": {"Set-Cookie": f"{SAID}\r\nX: y"}}, "RejectUpload": True}
    ),
    Said(json={"RejectUpload": True, "HTTPResponse": {"StatusCode": 403, "Body": SAID}}),
]


def test_not_of_hooks(tmp_path: Path, hooks: HookServer) -> None:
    """Their address has a password, they carry a client's token, and they answer anything."""
    written(tmp_path / "tokens", f"{TOKEN} alice\n")
    written(tmp_path / "signing", f"{SECRET}\n")
    written(tmp_path / "hook-secret", HOOK_SECRET)
    address = hooks.url.replace("://", f"://app:{HOOK_PASSWORD}@") + f"?key={HOOK_KEY}"
    flags = ["--auth-tokens", tmp_path / "tokens", "--auth-signing-key", tmp_path / "signing"]
    flags += ["--hooks-http", address, "--hooks-http-secret-file", tmp_path / "hook-secret"]
    flags += ["--hooks-http-forward-headers", "Authorization,Cookie", "--hooks-http-retry", "1"]
    flags += ["--hooks-enabled-events", "", *TALKATIVE, "text"]
    bearer = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"session={TOKEN}"}
    with serving(tmp_path / "u", *map(str, flags)) as server:
        url = create(server.url, 5, **bearer)
        for answer in ANSWERS:
            hooks.answer = says(answer)
            refused = asked("POST", server.url, TUS | bearer | {"Upload-Length": "5"})
            assert refused.status_code >= 400, answer
        patch = TUS | bearer | {"Content-Type": OFFSET_STREAM, "Upload-Offset": "0"}
        hooks.answer = fails_at("pre-finish", "post-create", "post-finish")
        assert asked("PATCH", url, patch, b"hello").status_code == 500
        hooks.stop()
        assert asked("HEAD", url, TUS | bearer).status_code == 423
        for wrong in (OTHER_TOKEN, f"{TOKEN}x"):
            credentials = {"Authorization": f"Bearer {wrong}"}
            assert asked("HEAD", url, TUS | credentials).status_code == 401
        signed = [
            SignedUrls([SECRET]).sign(at, lasts=lasts, principal="alice")
            for at in (server.url, url)
            for lasts in (60.0, 0.001)
        ]
        for each in (*signed, signed[0][:-3] + "AAA", signed[2] + "&x=y"):
            for method in ("OPTIONS", "HEAD", "GET", "POST", "PATCH", "DELETE"):
                asked(method, each, TUS | {"Upload-Length": "5", "Upload-Offset": "3"})
        eventually("events fail, too", lambda: "telling that upload" in server.log.read_text())
        server.stop()
    log = server.log.read_text()
    signatures = [parse_qs(urlsplit(each).query)["tus-signed"][0] for each in signed]
    secrets = (TOKEN, OTHER_TOKEN, SECRET, HOOK_PASSWORD, HOOK_KEY, HOOK_SECRET, "tus-signed", SAID)
    assert [each for each in (*secrets, *signatures) if each in log] == []
    for what in ("the hook pre-create of", "the hook pre-finish of", "401 ERR_", "'/files/' 500"):
        assert what in log, "it was talked about"


def says(answer: Said) -> Callable[[Asked], Said]:
    return lambda _: answer


def fails_at(*names: str) -> Callable[[Asked], Said]:
    return lambda asked: Said(status=500) if asked.hook in names else Said()


def test_not_of_a_bucket(s3_place: "S3Place", tmp_path: Path) -> None:
    """Whoever has a link that is signed has the file, and whoever has the key the bucket."""
    store, env = s3_place.server, s3_place.server.environment
    flags = ("--s3-bucket", s3_place.bucket, "--s3-endpoint", store.endpoint, *TALKATIVE, "json")
    with serving(tmp_path / "u", *flags, "--s3-download", "redirect", env=env) as server:
        url = create(server.url, 5)
        patch = TUS | {"Content-Type": OFFSET_STREAM, "Upload-Offset": "0"}
        assert asked("PATCH", url, patch, b"hello").status_code == 204
        link = asked("GET", url).headers["Location"]
        assert "X-Amz-Signature=" in link
        for key in s3_place.objects():
            s3_place.client.delete_object(Bucket=s3_place.bucket, Key=key)
        assert asked("GET", url).status_code == 404
        server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    log = server.log.read_text()
    query = parse_qs(urlsplit(link).query)
    secrets = (store.secret_key, store.access_key, "X-Amz-", "Signature", *query["X-Amz-Signature"])
    assert [each for each in secrets if each in log] == []
    assert any("GET" in line["message"] and "307" in line["message"] for line in lines)
