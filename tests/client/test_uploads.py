"""Where a new upload lies."""

import pytest

from tests.client.conftest import Send
from tests.client.scripted import Say, ScriptedServer
from tusd_py.client.errors import Refused, Unsuitable
from tusd_py.client.link import Answer
from tusd_py.client.uploads import _location


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://b/x", "https://b/x"),
        ("/files/x", "https://a:8/files/x"),
        ("x", "https://a:8/files/x"),
        ("//b/x?token=1", "https://b/x?token=1"),
    ],
)
def test_a_location_may_be_absolute_or_relative(location: str, url: str) -> None:
    answer = Answer(status=201, headers={"Location": location}, sentence="")
    assert _location(answer, "https://a:8/files/") == url


@pytest.mark.parametrize(
    "headers", [{}, {"Location": "https://[::1/"}, {"Location": "https://a/\x00"}]
)
def test_a_location_that_is_none(headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match="no usable Location"):
        _location(Answer(status=201, headers=headers, sentence=""), "https://a/")


def test_a_file_for_an_encrypted_server_is_not_sent_in_the_clear() -> None:
    answer = Answer(status=201, headers={"Location": "http://a/x"}, sentence="")
    with pytest.raises(Unsuitable, match="unencrypted to http://a/x"):
        _location(answer, "https://a/")


def test_a_relative_location_is_used(server: ScriptedServer, send: Send, file: str) -> None:
    server.location = "/files/{id}"
    result = send(file, server.url)
    assert result.stdout == f"{server.url}upload0\n"


def test_a_creation_that_is_no_creation(server: ScriptedServer, send: Send, file: str) -> None:
    server.fault("POST", Say(status=200, headers={"Location": "/files/x"}))
    result = send(file, server.url)
    assert result.exit_code == 1
    assert "the server answered 200: OK" in result.stderr
