"""The command: what it prints, what it writes, and what it exits with."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from mutant_messages import Reply, Request
from mutant_server import MutantServer
from rewrites import drop, put

from tus_conformance import run as runner
from tus_conformance.case import Case, Level
from tus_conformance.cli import main
from tus_conformance.sections import all_cases, select
from tus_conformance.subject import Tus


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def server() -> Iterator[MutantServer]:
    with MutantServer() as running:
        yield running


def test_a_good_server_exits_with_0_and_the_sections_are_shown(server: MutantServer) -> None:
    result = command(server.url, "--strict", "--select", "creation,termination/2")
    assert result.exit_code == 0, result.output
    assert "No case at MUST and SHOULD fails." in result.output
    assert result.output.index("creation/18") < result.output.index("termination/2")
    assert "core/1 " not in result.output


def test_a_must_that_fails_exits_with_1_and_says_all_about_it() -> None:
    with MutantServer(rewrite=put("Cache-Control", "private", "HEAD", 200)) as server:
        result = command(server.url, "--select", "core/23")
    assert result.exit_code == 1
    for part in (
        "core/23 FAIL (MUST)",
        "expected: Cache-Control: no-store",
        "came:     private",
        'sentence: Core Protocol, HEAD: "The Server MUST prevent',
        "> HEAD /base/files/",
        "< Cache-Control: private",
        "1 cases at MUST fail.",
    ):
        assert part in result.output


@pytest.mark.parametrize(("flags", "status"), [((), 0), (("--strict",), 1)])
def test_a_should_that_fails_counts_when_strict(flags: tuple[str, ...], status: int) -> None:
    with MutantServer("wrong-type-taken") as server:
        result = command(server.url, "--select", "core/32", *flags)
    assert (result.exit_code, "core/32 FAIL (SHOULD)" in result.output) == (status, True)


def test_a_may_that_fails_never_counts() -> None:
    with MutantServer("mismatch-400") as server:
        result = command(server.url, "--select", "checksum/7", "--strict")
    assert (result.exit_code, "checksum/7 FAIL (MAY)" in result.output) == (0, True)


def test_a_fault_of_the_suite_is_an_error_not_a_failure(
    server: MutantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tus: Tus) -> None:
        """Divides by zero."""
        raise ZeroDivisionError(tus.url)

    case = Case(
        section="core",
        number=1,
        level=Level.MAY,
        source="x",
        sentence="y",
        needs=(),
        check=broken,
    )
    monkeypatch.setattr("tus_conformance.cli.select", lambda _: [case])
    result = command(server.url)
    assert result.exit_code == 2
    assert "core/1 ERROR" in result.output
    assert "ZeroDivisionError" in result.output


def test_an_extension_that_is_not_announced_is_skipped() -> None:
    with MutantServer(extensions=("creation",)) as server:
        result = command(server.url, "--select", "termination/2")
    assert result.exit_code == 0
    assert "skipped 1: termination is not announced" in result.output


def test_nobody_there_is_a_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = command(f"http://127.0.0.1:{port}/files")
    assert result.exit_code == 2
    assert f"http://127.0.0.1:{port}/files does not answer: " in result.output


def _no_tus(_: Request, reply: Reply) -> None:
    reply.fields = [one for one in reply.fields if not one[0].startswith("Tus-")]


def test_another_web_server_is_a_clear_sentence() -> None:
    with MutantServer(rewrite=_no_tus) as server:
        result = command(server.url)
    assert result.exit_code == 2
    assert f"{server.url} is not a tus server" in result.output


def test_a_tus_server_without_options_is_judged_all_the_same() -> None:
    def rewrite(request: Request, reply: Reply) -> None:
        if request.method == "OPTIONS":
            _no_tus(request, reply)

    with MutantServer(rewrite=rewrite) as server:
        result = command(server.url, "--select", "core/1")
    assert (result.exit_code, "core/1 FAIL" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Missing argument 'URL'"),
        (("files",), "is not an absolute http or https URL"),
        (("http://127.0.0.1/", "--select", "nothing/1"), "no case or section 'nothing/1'"),
        (("http://127.0.0.1/", "--select", ""), "an empty selection"),
        (("http://127.0.0.1/", "--header", "nonsense"), "is not of the form 'Name: value'"),
        (("http://127.0.0.1/", "--header", "Two words: x"), "is not of the form 'Name: value'"),
        (("http://127.0.0.1/", "--header", "X: a\nY: b"), "is not of the form 'Name: value'"),
        (("http://127.0.0.1/", "--header", "X: \u65e5"), "is not of the form 'Name: value'"),
        (("http://127.0.0.1/", "--origin", "\u65e5"), "is no origin"),
        (("http://127.0.0.1/fi les",), "only have percent-encoded"),
        (("http://127.0.0.1:99999/",), "Port out of range"),
        (("http://127.0.0.1/", "--json", "missing/out.json"), "cannot write missing/out.json"),
    ],
)
def test_usage_errors_exit_with_2(arguments: tuple[str, ...], sentence: str) -> None:
    result = command(*arguments)
    assert (result.exit_code, sentence in result.output) == (2, True), result.output


def test_the_list_has_every_case_and_asks_nobody() -> None:
    result = command("--list")
    assert result.exit_code == 0
    assert all(case.id in result.output and case.title in result.output for case in all_cases())


def test_headers_go_with_every_request() -> None:
    seen: list[str | None] = []
    guarded = MutantServer(rewrite=lambda request, _: seen.append(request.get("Authorization")))
    with guarded as server:
        arguments = ("--select", "core/18,core/43", "--header", "Authorization: Bearer x")
        assert command(server.url, *arguments).exit_code == 0
    assert set(seen) == {"Bearer x"}


def test_uploads_are_cleaned_up(server: MutantServer) -> None:
    assert command(server.url).exit_code == 0
    left = [one for one in server.uploads.values() if not one.deleted]
    assert left == []
    assert len(server.uploads) > 100


def test_the_files_say_what_the_terminal_says(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "junit", "html")}
    flags = [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    with MutantServer(rewrite=drop("Upload-Length", "HEAD")) as server:
        result = command(server.url, "--select", "core/20,core/21,expiration/7", *flags)
    assert result.exit_code == 1
    found = json.loads(files["json"].read_text())
    assert found["summary"] == {"PASS": 1, "FAIL": 1, "SKIP": 1, "ERROR": 0}
    failed = found["cases"][1]
    assert (failed["id"], failed["result"], failed["level"]) == ("core/21", "FAIL", "MUST")
    assert failed["sentence"] == select(("core/21",))[0].sentence
    assert any("HEAD /base/files/" in entry for entry in failed["log"])
    suites = ElementTree.parse(files["junit"]).getroot()
    core = suites.find("testsuite[@name='core']")
    assert core is not None
    assert (core.get("tests"), core.get("failures")) == ("2", "1")
    failure = core.find("testcase/failure")
    assert failure is not None
    assert "one Upload-Length header" in (failure.get("message") or "")
    page = files["html"].read_text()
    assert 'class="FAIL">FAIL' in page
    assert "<script" not in page
    assert "one Upload-Length header" in page


def test_a_file_that_cannot_be_written_is_a_clear_sentence(
    server: MutantServer, tmp_path: Path
) -> None:
    missing = tmp_path / "missing" / "out.json"
    result = command(server.url, "--select", "core/1", "--json", str(missing))
    assert result.exit_code == 2
    assert f"cannot write {missing}" in result.output


def test_a_server_that_never_answers_costs_a_failure_not_the_run() -> None:
    def hang(request: Request, _: Reply) -> None:
        if request.method == "PATCH":
            threading.Event().wait(2)

    with MutantServer(rewrite=hang) as server:
        result = command(server.url, "--select", "core/26,core/18", "--timeout", "0.3")
    assert result.exit_code == 1
    assert "core/26 FAIL" in result.output
    assert "an answer within 0.3 s" in result.output
    assert "core/18 FAIL" not in result.output


def test_a_server_at_a_halt_for_a_while_fails_only_the_case_that_halts_it() -> None:
    with MutantServer(rewrite=Halting(seconds=1.5)) as server:
        result = command(server.url, "--select", "core,creation", "--timeout", "0.4")
    assert result.exit_code == 1
    assert "1 cases at MUST fail." in result.output
    assert "core/42 FAIL" in result.output


def test_a_server_at_a_halt_for_ever_is_not_asked_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_HALT", 0.5)
    began = time.monotonic()
    with MutantServer(rewrite=Halting(seconds=20)) as server:
        result = command(server.url, "--jobs", "1", "--timeout", "0.3")
    assert result.exit_code == 1
    assert "creation/1 FAIL" in result.output
    assert "the server does not answer anything any more" in result.output
    assert time.monotonic() - began < 15


class Halting:
    """Answers nothing for a while after a PUT, as a server that waits on its event loop."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        self.until = 0.0

    def __call__(self, request: Request, _: Reply) -> None:
        if request.actual == "PUT":
            self.until = time.monotonic() + self.seconds
        time.sleep(max(0.0, self.until - time.monotonic()))


def test_a_server_without_a_file_name_finds_no_upload_and_is_judged_with_one() -> None:
    with MutantServer("head-needs-metadata") as server:
        result = command(server.url, "--select", "core,creation")
    assert result.exit_code == 1
    assert "1 cases at MUST fail." in result.output
    assert "every upload was made with Upload-Metadata: filename " in result.output


def test_https_is_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with MutantServer(tls=tls) as server:
        result = command(server.url, "--strict", "--select", "core,resilience")
    assert result.exit_code == 0, result.output
    assert "a TLS connection cannot be half-closed" in result.output


def test_errors_outrank_failures() -> None:
    case = all_cases()[0]
    outcomes = [
        runner.Outcome(case=case, result=result)
        for result in (runner.Result.FAIL, runner.Result.ERROR)
    ]
    assert runner.exit_status(outcomes, strict=False) == 2
