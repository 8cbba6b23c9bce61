"""What goes back over the wire, and what came behind a body."""

from pathlib import Path
from typing import Any

import pytest

from tests.wire.loopback import OPTIONS, Exchange, Handler, serving
from tusd_py.wire import head

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def responding(*headers: tuple[bytes, bytes], body: bytes = b"") -> Handler:
    async def respond(exchange: Exchange) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": list(headers)}
        await exchange.send(head)
        await exchange.send({"type": "http.response.body", "body": body})

    return respond


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"upload-offset", b"Upload-Offset"),
        (b"location", b"Location"),
        (b"etag", b"ETag"),
        (b"www-authenticate", b"WWW-Authenticate"),
        (b"x-request-id", b"X-Request-Id"),
        (b"X-Request-ID", b"X-Request-ID"),
        (b"x_under", b"X_Under"),
    ],
)
async def test_names_have_their_canonical_case(tmp_path: Path, given: bytes, sent: bytes) -> None:
    """Some clients look headers up by it."""
    async with serving(tmp_path, responding((given, b"1"), (b"content-length", b"0"))) as server:
        client = await server.client()
        await client.send(GET)
        assert b"\r\n" + sent + b": 1\r\n" in await client.answer()


@pytest.mark.parametrize(
    "header",
    [
        (b"x-bad", b"1\r\nSet-Cookie: evil"),
        (b"x-bad", b"1\n"),
        (b"x-bad", b"\x00"),
        (b"x-bad\r\nset-cookie", b"1"),
        (b"x bad", b"1"),
        (b"", b"1"),
    ],
)
async def test_a_header_of_an_application_ends_where_it_ends(
    tmp_path: Path, header: tuple[bytes, bytes]
) -> None:
    """Or whoever may choose a value chooses other headers too. The client hears of a failure."""
    length = (b"content-length", b"0")
    async with serving(tmp_path, responding(length, header)) as server:
        client = await server.client()
        await client.send(GET)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 500 "), answer
        assert b"evil" not in answer
        assert b"et-cookie" not in answer.lower()


@pytest.mark.parametrize(
    ("headers", "body"), [([], b"hello"), ([(b"content-length", b"5")], b"hello")]
)
async def test_a_body_of_any_framing(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """With no length it goes out in chunks, and the connection goes on."""
    async with serving(tmp_path, responding(*headers, body=body)) as server:
        client = await server.client()
        await client.send(GET + OPTIONS)
        answer = await client.answer()
        if headers:
            assert answer.endswith(b"\r\n\r\nhello")
        else:
            assert b"Transfer-Encoding: chunked" in answer
            await client.send(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await client.rest()).startswith(b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 204 ")


@pytest.mark.parametrize(("length", "body"), [(b"5", b"hell"), (b"5", b"hello!")])
async def test_a_body_of_another_length_ends_the_connection(
    tmp_path: Path, length: bytes, body: bytes
) -> None:
    """The client would take the next answer for the rest of this one, or the other way round."""
    async with serving(tmp_path, responding((b"content-length", length), body=body)) as server:
        client = await server.client()
        await client.send(GET + OPTIONS)
        assert b"204" not in await client.rest()


INTERIM = {
    "type": "http.response.informational",
    "status": 104,
    "headers": [(b"upload-resumption-supported", b"5")],
}


@pytest.mark.parametrize(("version", "count"), [(b"1.1", 2), (b"1.0", 0)])
async def test_interim_responses(tmp_path: Path, version: bytes, count: int) -> None:
    """RFC 9110, 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client"."""

    async def progress(exchange: Exchange) -> None:
        assert "http.response.informational" in exchange.scope["extensions"]
        for _ in range(2):
            await exchange.send(dict(INTERIM))
        await exchange.answer(200, b"done")

    async with serving(tmp_path, progress) as server:
        client = await server.client()
        await client.send(GET.replace(b"1.1", version))
        for _ in range(count):
            interim = await client.answer()
            assert interim.startswith(b"HTTP/1.1 104 ")
            assert b"\r\nUpload-Resumption-Supported: 5\r\n" in interim
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"done")


async def test_an_interim_response_behind_the_answer_is_a_fault(tmp_path: Path) -> None:
    """It would land within the body of the answer."""

    async def late(exchange: Exchange) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": []}
        await exchange.send(head)
        with pytest.raises(RuntimeError, match="unexpected ASGI message"):
            await exchange.send(dict(INTERIM))
        await exchange.send({"type": "http.response.body"})

    async with serving(tmp_path, late) as server:
        client = await server.client()
        await client.send(GET)
        assert b"104" not in await client.answer()


async def test_an_old_client_is_let_go_behind_its_answer(tmp_path: Path) -> None:
    """HTTP/1.0 knows of no chunks: the end of the connection is that of the body."""
    async with serving(tmp_path, responding(body=b"hello")) as server:
        client = await server.client()
        await client.send(GET.replace(b"1.1", b"1.0"))
        answer = await client.rest()
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nhello")


async def reads(exchange: Exchange) -> None:
    while (await exchange.receive()).get("more_body"):
        continue
    await exchange.answer()


CHUNKED = b"PATCH / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"


def trailers_of(exchange: Exchange) -> Any:
    return exchange.scope["extensions"]["tusd_py.trailers"]


@pytest.mark.parametrize("name", ["Authorization", "X-HTTP-Method-Override", "X-Forwarded-Host"])
@pytest.mark.parametrize("cut", [0, 20, len(CHUNKED) + 5])
async def test_a_trailer_is_no_header(tmp_path: Path, name: str, cut: int) -> None:
    """They arrived in `scope["headers"]` before the application ran (seen)."""
    sent = CHUNKED + f"{name}: evil\r\n\r\n".encode() + OPTIONS
    async with serving(tmp_path, reads) as server:
        client = await server.client()
        await client.send(sent[:cut])
        await client.send(sent[cut:])
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        first, second = server.exchanges
        assert [key for key, _ in first.scope["headers"]] == [b"host", b"transfer-encoding"]
        assert trailers_of(first) == [(name.lower().encode(), b"evil")]
        assert trailers_of(second) == []


async def test_trailers_have_a_bound(tmp_path: Path) -> None:
    """And whoever sends more is missing some: nothing is half a trailer."""
    lines = b"".join(b"X-%03d: %0100d\r\n" % (number, number) for number in range(200))
    async with serving(tmp_path, reads) as server:
        client = await server.client()
        await client.send(CHUNKED + lines + b"\r\n" + OPTIONS)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        kept = trailers_of(server.exchanges[0])
        assert 50 < len(kept) < 200
        assert sum(len(name) + len(value) for name, value in kept) <= head.MAX_TRAILERS
        assert all(len(value) == 100 for _, value in kept)
