"""tus-js-client on Node: 4 is what Uppy uses, 5 sends chunked bodies without Content-Length."""

import json
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.interop import plain_http
from tests.interop.conftest import MIB, watched
from tests.interop.programs import Ended, Started, run, started
from tests.interop.proxy import CuttingProxy
from tests.interop.toolchains import NODE, built
from tests.serving import Served, eventually
from tusd_py.auth.signed import UPLOADING, SignedUrls

pytestmark = pytest.mark.timeout(400)  # the first test of a session may install the clients

METADATA = {"filename": "ünï.bin", "filetype": "application/octet-stream", "empty": "", "n": "42"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request of the client that was answered."""

    method: str
    override: str | None
    url: str
    status: int
    offset: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `send.mjs` tells at its end."""

    outcome: str
    url: str
    found: int
    requests: tuple[Answered, ...]

    def methods(self) -> list[str]:
        """The methods of the answered requests, in order."""
        return [request.method for request in self.requests]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One version of tus-js-client."""

    folder: Path
    version: int

    def command(self, endpoint: str, file: Path, job: dict[str, object]) -> list[str | Path]:
        """The command line for a job; see send.mjs for what a job holds."""
        whole = {"version": self.version, "endpoint": endpoint, "file": str(file), **job}
        return ["node", self.folder / "send.mjs", json.dumps(whole)]

    def send(self, endpoint: str, file: Path, **job: object) -> Report:
        """Sends a file to its end."""
        report = reported(run(self.command(endpoint, file, job)))
        assert report.outcome == "success"
        return report


def reported(ended: Ended) -> Report:
    """The report that a run of `send.mjs` printed; fails when the client met an error."""
    found = ended.report()
    assert isinstance(found, dict)
    assert found.pop("error") is None, ended.tail()
    requests = tuple(Answered(**request) for request in found.pop("requests"))
    return Report(requests=requests, **found)


@pytest.fixture(scope="session")
def node_folder() -> Path:
    return built(NODE)


@pytest.fixture(params=[4, 5], ids=["v4", "v5"])
def client(request: pytest.FixtureRequest, node_folder: Path) -> Client:
    return Client(folder=node_folder, version=request.param)


@pytest.mark.parametrize("source", ["file", "buffer"])
def test_single(server: Served, client: Client, small: Path, source: str) -> None:
    sent = client.send(server.url, small, source=source, options={"metadata": METADATA})
    assert sent.methods() == ["POST", "PATCH"]
    assert plain_http.download(sent.url) == small.read_bytes()
    assert plain_http.metadata(sent.url) == METADATA


def test_empty_file(server: Served, client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    sent = client.send(server.url, tmp_path / "empty", source="buffer")
    assert plain_http.download(sent.url) == b""


def test_in_chunks(server: Served, client: Client, small: Path) -> None:
    sent = client.send(server.url, small, options={"chunkSize": MIB})
    assert sent.methods() == ["POST", "PATCH", "PATCH", "PATCH", "PATCH"]
    assert plain_http.download(sent.url) == small.read_bytes()


def test_four_in_parallel(server: Served, client: Client, make_file: Callable[[int], Path]) -> None:
    # The final's list holds absolute URLs; Upload-Concat goes along on every PATCH.
    file = make_file(20 * MIB + 3)
    options = {"parallelUploads": 4, "metadata": METADATA}
    sent = client.send(server.url, file, options=options)
    assert sorted(sent.methods()) == ["PATCH"] * 4 + ["POST"] * 5
    assert plain_http.download(sent.url) == file.read_bytes()
    assert plain_http.metadata(sent.url) == METADATA


def test_length_told_at_the_end(server: Served, client: Client, small: Path) -> None:
    options = {"uploadLengthDeferred": True, "chunkSize": MIB}
    sent = client.send(server.url, small, source="stream", options=options)
    assert plain_http.download(sent.url) == small.read_bytes()
    assert plain_http.head(sent.url).headers["Upload-Length"] == str(small.stat().st_size)


def test_data_in_the_creation(server: Served, client: Client, small: Path) -> None:
    sent = client.send(server.url, small, options={"uploadDataDuringCreation": True})
    assert sent.methods() == ["POST"]
    assert plain_http.download(sent.url) == small.read_bytes()


def test_first_chunk_in_the_creation(server: Served, client: Client, small: Path) -> None:
    options = {"uploadDataDuringCreation": True, "chunkSize": MIB}
    sent = client.send(server.url, small, options=options)
    assert sent.methods() == ["POST", "PATCH", "PATCH", "PATCH"]
    assert plain_http.download(sent.url) == small.read_bytes()


def test_patch_as_post(server: Served, client: Client, small: Path) -> None:
    options = {"overridePatchMethod": True, "chunkSize": 2 * MIB}
    sent = client.send(server.url, small, options=options)
    assert [request.override for request in sent.requests] == [None, "PATCH", "PATCH"]
    assert sent.methods() == ["POST"] * 3
    assert plain_http.download(sent.url) == small.read_bytes()


def content_of(file: Path) -> bytes:
    """Nothing while it is not there."""
    return file.read_bytes() if file.exists() else b""


def stopped_when_held(proxy: CuttingProxy, program: Started, command: str) -> Report:
    """Waits until the proxy holds the upload, and then stops the client with a command."""
    eventually("the proxy holds the upload", proxy.held.is_set, within=30)
    program.tell(command)
    return reported(program.end())


def test_abort_and_resume_from_the_stored_url(
    server: Served, proxy: CuttingProxy, client: Client, small: Path, tmp_path: Path
) -> None:
    endpoint = proxy.url(server.url)
    job: dict[str, object] = {"storage": str(tmp_path / "urls.json")}
    proxy.hold_after(2 * MIB)
    with started(client.command(endpoint, small, job)) as program:
        first = stopped_when_held(proxy, program, "abort")
    assert first.outcome == "aborted"
    proxy.lose()
    second = client.send(endpoint, small, resume=True, **job)
    assert (second.found, second.url) == (1, first.url)
    assert second.methods()[-2:] == ["HEAD", "PATCH"]
    assert "POST" not in second.methods()
    went_on_from = int(second.requests[-2].offset or 0)
    assert MIB < went_on_from < 2 * MIB
    assert plain_http.download(second.url) == small.read_bytes()


def test_abort_and_resume_by_url(
    server: Served, proxy: CuttingProxy, client: Client, small: Path
) -> None:
    proxy.hold_after(2 * MIB)
    with started(client.command(proxy.url(server.url), small, {})) as program:
        first = stopped_when_held(proxy, program, "abort")
    proxy.lose()
    second = client.send(server.url, small, options={"uploadUrl": first.url})
    assert second.methods()[-2:] == ["HEAD", "PATCH"]
    assert plain_http.download(first.url) == small.read_bytes()


def test_abort_and_resume_in_parallel(
    server: Served,
    proxy: CuttingProxy,
    client: Client,
    make_file: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    file, stored = make_file(20 * MIB + 3), tmp_path / "urls.json"
    job: dict[str, object] = {"storage": str(stored)}
    job["options"] = {"parallelUploads": 4, "metadata": METADATA}
    endpoint = proxy.url(server.url)
    proxy.hold_after(6 * MIB)
    with started(client.command(endpoint, file, job)) as program:
        # It does so when all four parts have a URL, and one of them can be fast.
        eventually("the client has stored its URLs", lambda: b"files/" in content_of(stored))
        stopped_when_held(proxy, program, "abort")
    proxy.lose()
    second = client.send(endpoint, file, resume=True, **job)
    assert second.found == 1
    assert second.methods().count("POST") == 1, "parts were created again"
    assert plain_http.download(second.url) == file.read_bytes()


def test_resume_when_it_was_complete(server: Served, client: Client, small: Path) -> None:
    first = client.send(server.url, small)
    again = client.send(server.url, small, options={"uploadUrl": first.url})
    assert again.methods() == ["HEAD"]


def test_resume_after_deletion_starts_anew(
    server: Served, client: Client, small: Path, tmp_path: Path
) -> None:
    storage = str(tmp_path / "urls.json")
    first = client.send(server.url, small, storage=storage)
    assert plain_http.asked("DELETE", first.url, plain_http.TUS).status_code == 204
    second = client.send(server.url, small, storage=storage, resume=True)
    assert second.found == 1
    assert second.methods() == ["HEAD", "POST", "PATCH"]
    assert plain_http.download(second.url) == small.read_bytes()


def test_terminate_while_sending(
    server: Served, proxy: CuttingProxy, client: Client, small: Path
) -> None:
    proxy.hold_after(MIB)
    with started(client.command(proxy.url(server.url), small, {})) as program:
        # The DELETE comes on a connection of its own, while the server still waits for the rest.
        ended = stopped_when_held(proxy, program, "terminate")
    assert ended.outcome == "terminated"
    assert plain_http.asked("GET", ended.url).status_code == 404
    assert plain_http.asked("HEAD", ended.url, plain_http.TUS).status_code in (404, 410)


def test_terminate_when_done(server: Served, client: Client, small: Path) -> None:
    job: dict[str, object] = {"terminateWhenDone": True}
    ended = reported(run(client.command(server.url, small, job)))
    assert ended.outcome == "terminated"
    assert ended.requests[-1].method == "DELETE"
    assert plain_http.asked("GET", ended.url).status_code == 404


def test_goes_on_after_a_cut(
    server: Served, proxy: CuttingProxy, client: Client, small: Path
) -> None:
    proxy.cut_after(MIB + 17)
    sent = client.send(proxy.url(server.url), small)
    assert plain_http.download(sent.url) == small.read_bytes()
    size = small.stat().st_size
    assert size < proxy.passed < size + 16 * 1024, "bytes that the server had were sent again"
    assert sent.methods().count("POST") == 1


def test_goes_on_after_a_cut_in_the_creation(
    server: Served, proxy: CuttingProxy, client: Client, small: Path
) -> None:
    # The answer with the Location is lost, so the client has to make a new upload.
    proxy.cut_after(MIB)
    options = {"uploadDataDuringCreation": True}
    sent = client.send(proxy.url(server.url), small, source="buffer", options=options)
    assert plain_http.download(sent.url) == small.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_goes_on_after_the_server_was_restarted(
    tmp_path: Path, client: Client, make_file: Callable[[int], Path], number: signal.Signals
) -> None:
    file = make_file(8 * MIB + 1)
    upload_dir = tmp_path / "uploads"
    with watched(upload_dir) as server, CuttingProxy(server.port) as proxy:
        proxy.hold_after(3 * MIB)
        with started(client.command(proxy.url(server.url), file, {})) as program:
            eventually("the proxy holds the upload", proxy.held.is_set, within=30)
            plain_http.wait_for_stored(upload_dir, 3 * MIB - 64 * 1024)
            stored = plain_http.stored_bytes(upload_dir)
            server.signal(number)
            proxy.lose()
            server.start()
            ended = reported(program.end())
        assert ended.outcome == "success"
        assert ended.methods().count("POST") == 1, "the client had to start a new upload"
        assert plain_http.download(ended.url) == file.read_bytes()
    heads = [int(each.offset) for each in ended.requests if each.method == "HEAD" and each.offset]
    assert heads, "the client did not ask for the offset"
    assert min(heads) >= stored, "bytes that were on the disk are sent again"


def test_parts_go_on_after_the_server_was_killed(
    tmp_path: Path, client: Client, make_file: Callable[[int], Path]
) -> None:
    file = make_file(20 * MIB + 3)
    job: dict[str, object] = {"options": {"parallelUploads": 4, "metadata": METADATA}}
    with watched(tmp_path / "uploads") as server, CuttingProxy(server.port) as proxy:
        proxy.hold_after(8 * MIB)
        with started(client.command(proxy.url(server.url), file, job)) as program:
            eventually("the proxy holds a part", proxy.held.is_set, within=30)
            server.kill()
            proxy.lose()
            server.start()
            ended = reported(program.end())
        assert ended.outcome == "success"
        assert ended.methods().count("POST") == 5, "a part had to start anew"
        assert plain_http.download(ended.url) == file.read_bytes()
        assert plain_http.metadata(ended.url) == METADATA


@pytest.fixture(scope="module")
def signed_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that lets in nobody without a signed URL."""
    folder = tmp_path_factory.mktemp("signed")
    key = secrets.token_hex(32)
    (folder / "key").write_text(key)
    (folder / "key").chmod(0o600)
    with watched(folder / "uploads", "--auth-signing-key", str(folder / "key")) as server:
        may = (*UPLOADING, "download")
        yield SignedUrls([key]).sign(server.url, lasts=600, max_size=32 * MIB, may=may)


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_signed_url(
    signed_endpoint: str, client: Client, make_file: Callable[[int], Path], parallel: int
) -> None:
    """A browser has nothing but the URL that an application's backend gave to it."""
    file = make_file(20 * MIB + 3)
    options = {"parallelUploads": parallel, "chunkSize": 2 * MIB}
    sent = client.send(signed_endpoint, file, options=options)
    assert plain_http.download(sent.url) == file.read_bytes()
    assert plain_http.asked("GET", sent.url.partition("?")[0]).status_code == 401


def test_a_signed_url_is_resumed(
    signed_endpoint: str, client: Client, small: Path, tmp_path: Path
) -> None:
    """The stored URL has all that is needed to go on."""
    job: dict[str, object] = {"storage": str(tmp_path / "urls.json"), "options": {"chunkSize": MIB}}
    port = httpx.URL(signed_endpoint).port
    assert port is not None
    with CuttingProxy(port) as proxy:
        proxy.hold_after(2 * MIB)
        endpoint = proxy.url(signed_endpoint)
        with started(client.command(endpoint, small, job)) as program:
            stopped_when_held(proxy, program, "abort")
        proxy.lose()
        second = client.send(endpoint, small, resume=True, **job)
        assert second.methods().count("POST") == 0
        assert plain_http.download(second.url) == small.read_bytes()


def test_an_upload_that_a_backend_created(
    signed_endpoint: str, client: Client, small: Path
) -> None:
    """Its URL lets the browser do nothing else."""
    size = {"Upload-Length": str(small.stat().st_size)}
    made = plain_http.asked("POST", signed_endpoint, plain_http.TUS | size)
    url = made.headers["Location"]
    sent = client.send("", small, options={"uploadUrl": url})
    assert (sent.url, sent.methods()) == (url, ["HEAD", "PATCH"])
    assert plain_http.asked("POST", url, plain_http.TUS | size).status_code == 405


def test_get_head_and_delete_as_its_own_tests_expect(
    server: Served, client: Client, small: Path
) -> None:
    sent = client.send(server.url, small, options={"metadata": METADATA})
    answer = plain_http.asked("GET", sent.url)
    assert (answer.status_code, answer.content) == (200, small.read_bytes())
    state = plain_http.head(sent.url).headers
    assert state["Upload-Length"] == state["Upload-Offset"] == str(small.stat().st_size)
    assert plain_http.metadata(sent.url) == METADATA
    assert plain_http.asked("DELETE", sent.url, plain_http.TUS).status_code == 204
    assert plain_http.asked("GET", sent.url).status_code == 404
