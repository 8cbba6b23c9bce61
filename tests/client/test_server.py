"""What a server announces."""

import pytest

from tusd_py.client.errors import NotNow, Refused, Unsuitable
from tusd_py.client.link import Answer
from tusd_py.client.server import Server, parse_server


def _answer(status: int = 204, **headers: str) -> Answer:
    return Answer(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        sentence="",
    )


def test_everything_is_read() -> None:
    answer = _answer(
        Tus_Version="1.0.0,0.2.2",
        Tus_Extension="creation, checksum,",
        Tus_Checksum_Algorithm="sha1,md5",
        Tus_Max_Size="100",
    )
    server = parse_server(answer)
    assert server == Server(
        extensions=frozenset({"creation", "checksum"}), algorithms=("sha1", "md5"), max_size=100
    )
    server.require_algorithm("md5")
    server.require_room_for(100)
    with pytest.raises(Unsuitable, match="does not support crc32 checksums, only sha1, md5"):
        server.require_algorithm("crc32")
    with pytest.raises(Unsuitable, match="has 101 bytes, and the server takes at most 100"):
        server.require_room_for(101)


def test_a_server_that_tells_no_limit_has_none() -> None:
    server = parse_server(_answer(200, Tus_Resumable="1.0.0", Tus_Extension="creation"))
    server.require_room_for(2**63)


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (_answer(404), Refused, "the server answered 404: Not Found"),
        (_answer(503), NotNow, "the server answered 503: Service Unavailable"),
        (_answer(), Unsuitable, "there is no tus server at this URL"),
        (_answer(Tus_Version="0.2.2"), Unsuitable, "speaks tus 0.2.2, not 1.0.0"),
        (_answer(Tus_Version="1.0.0"), Unsuitable, "does not support new uploads"),
    ],
)
def test_a_server_that_cannot_be_used(
    answer: Answer, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        parse_server(answer)
