"""One request, and the answer to it: early, late, or none."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.client.conftest import Send
from tests.client.scripted import AUTHORITY, Cut, Kept, Say, ScriptedServer, scripted
from tusd_py.client.errors import Gone, Mismatch, NotNow, Refused, Unreachable, Unsuitable
from tusd_py.client.link import Access, Answer, Link

HUGE = 2**40
PIECE = bytes(256 * 1024)


@pytest.fixture
def link() -> Iterator[Link]:
    with Link(Access(tls=httpx.create_ssl_context(), silent_for=5.0)) as link:
        yield link


def _endless(sent: list[int]) -> Iterator[bytes]:
    while True:
        yield PIECE
        sent.append(len(PIECE))


@pytest.mark.parametrize("lasting", [False, True], ids=["closes", "reads on"])
@pytest.mark.parametrize("status", [409, 413, 423])
def test_an_answer_is_read_while_the_body_is_still_going(
    server: ScriptedServer, link: Link, status: int, lasting: bool
) -> None:
    server.fault("PATCH", Say(status=status, text="ERR_X: no", after=5_000_000, lasting=lasting))
    server.uploads["u"] = Kept(headers={}, length=HUGE)
    sent: list[int] = []
    headers = {"Content-Length": str(HUGE), "Upload-Offset": "0"}
    answer = link.ask("PATCH", f"{server.url}u", headers, _endless(sent))
    assert (answer.status, answer.sentence) == (status, "ERR_X: no")
    assert sum(sent) < 100_000_000, "a refused body is not sent to its end"
    assert link.ask("OPTIONS", server.url, {}).status == 204, "the link can be used again"


def test_an_encrypted_server(
    send: Send, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with scripted(encrypted=True) as server:
        server.fault("PATCH", Cut(after=1_000_000), Say(status=413, text="ERR_X: no", after=9))
        result = send(file, server.url)
        assert result.stderr.endswith("the server answered 413: ERR_X: no\n")
        assert send(file, server.url).exit_code == 0
        assert bytes(server.upload("x/upload1").data) == file.read_bytes()


def test_a_certificate_that_nobody_signed_is_told_at_once(send: Send, file: Path) -> None:
    with scripted(encrypted=True) as server:
        result = send(file, server.url)
    assert result.exit_code == 1
    assert result.stderr.startswith("tusd-py upload: the server's certificate is not trusted: ")
    assert "trying again" not in result.stderr


def test_an_interim_answer_is_not_the_answer(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                head, _, begun = connection.recv(65536).partition(b"\r\n\r\n")
                assert head
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.05)
                left = 20 * len(PIECE) - len(begun)
                while left > 0 and (data := connection.recv(65536)):
                    left -= len(data)
                status = b"204 All" if left == 0 else b"400 Not All"
                connection.sendall(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        body = (PIECE for _ in range(20))
        headers = {"Content-Length": str(20 * len(PIECE)), "Connection": "close"}
        assert link.ask("PATCH", url, headers, body).status == 204
        thread.join()


def test_a_reset_before_an_answer_is_no_answer(server: ScriptedServer, link: Link) -> None:
    server.uploads["u"] = Kept(headers={}, length=HUGE)
    server.fault("PATCH", Cut(after=1_000_000))
    with pytest.raises(Unreachable, match=rf"no answer from 127\.0\.0\.1:{server.port}: "):
        link.ask("PATCH", f"{server.url}u", {"Content-Length": str(HUGE)}, _endless([]))


def test_a_silent_server_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Link(Access(tls=httpx.create_ssl_context(), silent_for=0.1)) as link,
        pytest.raises(Unreachable, match="timed out"),
    ):
        link.ask("HEAD", f"http://127.0.0.1:{listener.getsockname()[1]}/", {})


def test_what_a_body_raises_comes_out(server: ScriptedServer, link: Link) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise Refused(0, "stop here")

    server.uploads["u"] = Kept(headers={}, length=HUGE)
    headers = {"Content-Length": "10", "Upload-Offset": "0"}
    with pytest.raises(Refused, match="stop here"):
        link.ask("PATCH", f"{server.url}u", headers, failing())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ERR_A: one\nmore", "ERR_A: one"),
        ("\n  \x1b[2Jcleared  ", "?[2Jcleared"),
        ("y" * 100_000, "y" * 500),
        ("", ""),
    ],
    ids=["first line", "no control characters", "not all of it", "nothing"],
)
def test_a_sentence_is_fit_for_a_terminal(
    server: ScriptedServer, link: Link, text: str, sentence: str
) -> None:
    server.fault("OPTIONS", Say(status=400, text=text))
    assert link.ask("OPTIONS", server.url, {}).sentence == sentence


def test_a_page_is_no_sentence(server: ScriptedServer, link: Link) -> None:
    html = {"Content-Type": "text/html"}
    server.fault("OPTIONS", Say(status=502, text="<html>", headers=html))
    assert link.ask("OPTIONS", server.url, {}).sentence == ""


def test_an_answer_that_breaks_off_has_its_status_nevertheless(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 100\r\n\r\nERR_B: it")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        answer = link.ask("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", {})
        thread.join()
    assert (answer.status, answer.sentence) == (413, "ERR_B: it")


@pytest.mark.parametrize("port", [0, 99999])
def test_a_port_that_cannot_be(link: Link, port: int) -> None:
    with pytest.raises((Unreachable, Unsuitable)):
        link.ask("OPTIONS", f"http://127.0.0.1:{port}/", {})


def test_a_scheme_that_is_not_spoken(link: Link) -> None:
    with pytest.raises(Unsuitable, match="protocol"):
        link.ask("OPTIONS", "gopher://127.0.0.1/", {})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, Refused),
        (403, Gone),
        (404, Gone),
        (408, NotNow),
        (409, NotNow),
        (410, Gone),
        (412, Refused),
        (413, Refused),
        (423, NotNow),
        (425, NotNow),
        (429, NotNow),
        (460, Mismatch),
        (500, NotNow),
        (501, Refused),
        (507, NotNow),
    ],
)
def test_what_a_status_means(status: int, kind: type[Exception]) -> None:
    answer = Answer(status=status, headers={}, sentence="")
    assert type(answer.error()) is kind
    assert type(answer.refusal()) is (Refused if kind is Gone else kind)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_what_takes_no_uploads_is_asked_about(status: int) -> None:
    error = Answer(status=status, headers={}, sentence="Nothing here").refusal()
    assert str(error) == (
        f"the server answered {status}: Nothing here; is this where it takes uploads? "
        "The URL of a tus server mostly ends in /files/"
    )


def test_a_server_without_tls(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as accepted:
                accepted.recv(1000)
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unsuitable, match="speaks no TLS there; is it http:// and not https://"):
            link.ask("OPTIONS", f"https://127.0.0.1:{listening.getsockname()[1]}/", {})
        thread.join()


def test_a_redirect_names_the_url_to_use() -> None:
    answer = Answer(status=301, headers={"Location": "https://b/\x1b"}, sentence="")
    assert str(answer.error()).endswith("301: Moved Permanently; use this URL instead: https://b/?")
    assert str(Answer(status=304, headers={}, sentence="").error()).endswith("304: Not Modified")
    assert str(Answer(status=460, headers={}, sentence="").error()).endswith("Checksum Mismatch")
    assert str(Answer(status=499, headers={}, sentence="").error()).endswith("no reason given")


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("", 0.0), ("-1", 0.0), ("Wed, 21 Oct 2015", 0.0)]
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    error = Answer(status=503, headers={"Retry-After": value}, sentence="").error()
    assert isinstance(error, NotNow)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("value", "number"), [("12", 12), ("", None), ("+1", None), ("1_0", None), ("٣", None)]
)
def test_a_count_of_bytes(value: str, number: int | None) -> None:
    answer = Answer(status=200, headers={"Upload-Offset": value}, sentence="")
    assert answer.number("Upload-Offset") == number
