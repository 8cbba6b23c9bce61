"""tusd and we, asked the same things with one hook server behind both: what it is sent is the same.

What differs is named here, and in `tusd_py/docs/from-tusd.md`.
"""

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.hooks.hook_server import Asked, HookServer, Json, Said, hook_server
from tests.interop.programs import run
from tests.serving import eventually, serving
from tests.tusd import running_tusd, tusd_program

pytestmark = pytest.mark.timeout(900)  # the first test of a session may build tusd

EVENTS = "pre-create,post-create,pre-finish,post-finish,pre-terminate,post-terminate"
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = TUS | {"Content-Type": "application/offset+octet-stream"}
NAMED = {"Upload-Metadata": "filename ZmlsbS5ta3Y=,empty,owner w7xuw68="}


def create(client: httpx.Client, url: str, **headers: str) -> str:
    given = TUS | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post(url, headers=given)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def append(client: httpx.Client, url: str, offset: int, content: bytes) -> httpx.Response:
    return client.patch(url, headers=PIECE | {"Upload-Offset": str(offset)}, content=content)


def whole(client: httpx.Client, url: str) -> None:
    upload = create(client, url + "?a=b&c=%20", Upload_Length="5", **NAMED)
    append(client, upload, 0, b"he")
    append(client, upload, 2, b"llo")


def with_content(client: httpx.Client, url: str) -> None:
    client.post(url, headers=PIECE | NAMED | {"Upload-Length": "5"}, content=b"hello")


def empty(client: httpx.Client, url: str) -> None:
    create(client, url, Upload_Length="0")


def late_length(client: httpx.Client, url: str) -> None:
    upload = create(client, url, Upload_Defer_Length="1")
    headers = PIECE | {"Upload-Offset": "0", "Upload-Length": "5"}
    client.patch(upload, headers=headers, content=b"hello")


def terminated(client: httpx.Client, url: str) -> None:
    upload = create(client, url, Upload_Length="5", **NAMED)
    append(client, upload, 0, b"he")
    assert client.delete(upload, headers=TUS).status_code == 204


def overridden(client: httpx.Client, url: str) -> None:
    upload = create(client, url, Upload_Length="2")
    headers = PIECE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    client.post(upload, headers=headers, content=b"ab")


def parts(client: httpx.Client, url: str) -> None:
    made = [create(client, url, Upload_Length="2", Upload_Concat="partial") for _ in range(2)]
    for part in made:
        append(client, part, 0, b"ab")
    create(client, url, Upload_Concat="final;" + " ".join(made), **NAMED)


@dataclass
class Beside:
    """One of the two servers, with the hook server behind it."""

    url: str
    uploads: Path
    hooks: HookServer

    def asked_by(self, act: Callable[[httpx.Client, str], None], events: int) -> list[Asked]:
        """What the hook server is asked while a client acts, in an order of its own.

        Args:
            act: What the client does.
            events: How many it is told of; that comes after the client has its answers.
        """
        self.hooks.answer = lambda _: Said()
        self.hooks.asked.clear()
        with httpx.Client(trust_env=False, headers={"X-Twice": "1"}) as client:
            act(client, self.url)
        eventually(
            f"not told: {self.hooks.hooks()}",
            lambda: sum(hook.startswith("post-") for hook in self.hooks.hooks()) == events,
            within=30,
        )
        return list(self.hooks.asked)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    program = tusd_program()
    uploads = tmp_path_factory.mktemp("theirs")
    with hook_server() as hooks:
        flags = ("-hooks-http", hooks.url, "-hooks-enabled-events", EVENTS)
        with running_tusd(program, uploads, *flags) as url:
            yield Beside(url, uploads, hooks)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    uploads = tmp_path_factory.mktemp("ours") / "uploads"
    with hook_server() as hooks:
        flags = ("--hooks-http", hooks.url, "--hooks-enabled-events", EVENTS)
        with serving(uploads, *flags) as server:
            yield Beside(server.url, uploads, hooks)


def seen(asked: list[Asked], uploads: Path) -> list[Json]:
    """The JSON of the calls, without what must differ: names in the order they came, and ports."""
    ids: dict[str, str] = {}
    for each in sorted(asked, key=lambda each: each.hook != "post-create"):
        if each.upload["ID"]:
            ids.setdefault(each.upload["ID"], f"upload {len(ids)}")
    calls = []
    for each in asked:
        event = each.call["Event"]
        request = event["HTTPRequest"]
        host, _, port = request["RemoteAddr"].rpartition(":")
        assert port.isdigit()
        request["RemoteAddr"] = f"{host}:port"
        (place,) = request["Header"]["Host"]
        storage = event["Upload"]["Storage"]
        if storage is not None:
            assert Path(storage["Path"]).is_relative_to(uploads)
            assert Path(storage["Path"]).name == each.upload["ID"]
            assert set(storage) == {"Type", "Path", "InfoPath"}
            storage["Path"] = storage["InfoPath"] = "somewhere"
        text = json.dumps(each.call, sort_keys=True).replace(place, "host")
        for upload_id, name in ids.items():
            text = text.replace(upload_id, name)
        calls.append(text)
    return [json.loads(text) for text in sorted(calls)]


ACTS: dict[Callable[[httpx.Client, str], None], int] = {
    whole: 2,
    with_content: 2,
    empty: 2,
    late_length: 2,
    terminated: 2,
    overridden: 2,
    parts: 6,
}
"""What a client does, and how many events that makes."""


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_the_same_is_sent(
    theirs: Beside, ours: Beside, act: Callable[[httpx.Client, str], None]
) -> None:
    """Field by field; with the request's headers, their names in Go's writing."""
    expected = seen(theirs.asked_by(act, ACTS[act]), theirs.uploads)
    found = seen(ours.asked_by(act, ACTS[act]), ours.uploads)
    # "The Server SHOULD NOT process these partial uploads until they are concatenated".
    expected = [
        call
        for call in expected
        if not (call["Type"] == "pre-finish" and call["Event"]["Upload"]["IsPartial"])
    ]
    assert found == expected
    assert len(found) >= 4, "nothing was compared"


ANSWERS: dict[str, tuple[str, Json]] = {
    "nothing": ("pre-create", {}),
    "refused": ("pre-create", {"RejectUpload": True}),
    "refused with words": (
        "pre-create",
        {
            "RejectUpload": True,
            "HTTPResponse": {
                "StatusCode": 422,
                "Body": '{"message":"no project with ID 1234 found"}',
                "Header": {"Content-Type": "application/json", "X-Why": "tea"},
            },
        },
    ),
    "created with a header": ("pre-create", {"HTTPResponse": {"Header": {"X-Why": "tea"}}}),
    "created with a status": (
        "pre-create",
        {"HTTPResponse": {"StatusCode": 200, "Body": "made", "Header": {"X-Why": "tea"}}},
    ),
    "an id": ("pre-create", {"ChangeFileInfo": {"ID": f"another-{secrets.token_hex(4)}"}}),
    "finished with a header": (
        "pre-finish",
        {"HTTPResponse": {"Header": {"Link": '<https://example.com/1>; rel="related"'}}},
    ),
    "finished with words": ("pre-finish", {"HTTPResponse": {"StatusCode": 200, "Body": "done"}}),
    "kept": ("pre-terminate", {"RejectTermination": True}),
    "kept with words": (
        "pre-terminate",
        {"RejectTermination": True, "HTTPResponse": {"StatusCode": 403, "Body": "mine"}},
    ),
    "terminated with a header": (
        "pre-terminate",
        {"HTTPResponse": {"Header": {"X-Why": "tea"}}},
    ),
    "written in another case": (
        "pre-create",
        {"rejectupload": True, "httpResponse": {"statuscode": 418}},
    ),
}


def told(url: str) -> list[tuple[int, str, str, str, str]]:
    """What a client is told that creates, fills, and removes an upload."""
    answers = []
    with httpx.Client(trust_env=False) as client:
        created = client.post(url, headers=TUS | {"Upload-Length": "2"})
        answers.append(created)
        if upload := created.headers.get("Location"):
            answers.append(append(client, upload, 0, b"ab"))
            answers.append(client.delete(upload, headers=TUS))
            answers.append(client.head(upload, headers=TUS))
    # The sentence behind a code is each server's own, and what is gone is 410 here.
    return [
        (
            404 if answer.status_code == 410 else answer.status_code,
            answer.text.partition(":")[0] if answer.text.startswith("ERR_") else answer.text,
            answer.headers.get("X-Why", ""),
            answer.headers.get("Link", ""),
            answer.headers.get("Location", "").rpartition("/")[2][:9],
        )
        for answer in answers
    ]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_the_same_effect(theirs: Beside, ours: Beside, name: str) -> None:
    """What its client sees is the same, whatever the hook server says."""
    hook, said = ANSWERS[name]

    def answer(asked: Asked) -> Said:
        chosen = {"ChangeFileInfo": {"ID": f"my-custom-{secrets.token_hex(4)}"}}
        more: Json = chosen if asked.hook == "pre-create" else {}
        return Said(more | (said if asked.hook == hook else {}))

    theirs.hooks.answer = ours.hooks.answer = answer
    assert told(ours.url) == told(theirs.url)


EXAMPLE = "github.com/tus/tusd/v2@v2.9.2/examples/hooks/http/server.py"


@pytest.fixture
def example() -> Path:
    """Tusd's own hook server, where Go has fetched tusd."""
    try:
        cache = run(["go", "env", "GOMODCACHE"]).lines()[0]
    except FileNotFoundError:
        pytest.skip("tusd's example: go is not on this machine")
    path = Path(cache) / EXAMPLE
    if not path.exists():
        pytest.skip(f"tusd's example: {path} is not on this machine")
    return path


AT_A_PORT = """
import http.server, runpy, sys
class HTTPServer(http.server.HTTPServer):
    def __init__(self, address, handler):
        super().__init__(("127.0.0.1", int(sys.argv[2])), handler)
http.server.HTTPServer = HTTPServer
runpy.run_path(sys.argv[1])
"""


@pytest.fixture
def running_example(example: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """As it is, but for its port: its URL, and what it printed."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    output = tmp_path / "printed"
    with output.open("w") as file:
        command = [sys.executable, "-u", "-c", AT_A_PORT, str(example), str(port)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually("the example does not start", lambda: _answers(url))
        yield url, output
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_the_example_of_tusd_works_as_it_is(
    tmp_path: Path, running_example: tuple[str, Path]
) -> None:
    """It wants a name, chooses the id and the metadata, and finds the file."""
    hooks, printed = running_example
    with (
        serving(tmp_path / "ours", "--hooks-http", hooks) as server,
        httpx.Client(trust_env=False) as client,
    ):
        refused = client.post(server.url, headers=TUS | {"Upload-Length": "5"})
        assert (refused.status_code, refused.text) == (400, "no filename provided")
        upload = create(client, server.url, Upload_Length="5", **NAMED)
        upload_id = upload.rpartition("/")[2]
        assert upload_id.startswith("prefix-")
        assert append(client, upload, 0, b"hello").status_code == 204
        says = f"Upload {upload_id} (5 bytes) is finished. Find the file at:"
        eventually("it was not told", lambda: says in printed.read_text())
        where = printed.read_text().partition(says)[2].splitlines()[1]
        assert Path(eval(where)["Path"]).read_bytes() == b"hello"
    assert "Traceback" not in printed.read_text()
