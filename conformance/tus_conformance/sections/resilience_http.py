"""Resilience, continued: what HTTP/1.1 says about the messages that tus is made of."""

from tus_conformance import expect
from tus_conformance.case import MUST, SHOULD
from tus_conformance.sections.resilience import NEW_OFFSET, PATCH_SOURCE, resilience, takes_chunks
from tus_conformance.subject import Tus
from tus_conformance.wire import Answer, Url, chunk, compose, last_chunk

case = resilience.case

CONTINUE = ("Expect", "100-continue")
CHUNKED = ("Transfer-Encoding", "chunked")
FIVE = ("Content-Length", "5")
NO_WAITING = (
    "The origin server MUST NOT wait for the content before sending the 100 (Continue) response."
)
PARSE_CHUNKED = "A recipient MUST be able to parse and decode the chunked transfer coding."
IN_ORDER = (
    "A server MAY process a sequence of pipelined requests in parallel if they all have safe "
    "methods (Section 9.2.1 of [HTTP]), but it MUST send the corresponding responses in the same "
    "order that the requests were received."
)
READ_ALL = (
    "A server MUST read the entire request message body or close the connection after sending its "
    "response; otherwise, the remaining data on a persistent connection would be misinterpreted "
    "as the next request."
)
FRAMING = (
    "If the unrecoverable error is in a request message, the server MUST respond with a 400 (Bad "
    "Request) status code and then close the connection."
)
HOST = (
    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message "
    "that lacks a Host header field and to any request message that contains more than one Host "
    "header field line or a Host header field with an invalid field value."
)


@case(28, MUST, "RFC 9110 10.1.1", NO_WAITING)
def expect_continue(tus: Tus) -> None:
    """PATCH with Expect: 100-continue is answered before its body is sent."""
    url = tus.create()
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, FIVE, CONTINUE))
    final = wire.read_interim("PATCH")
    if final is not None:
        expect.refused(final, "a final answer before the body")


@case(
    29,
    MUST,
    "RFC 9110 10.1.1",
    "A server that sends a 100 (Continue) response MUST ultimately send a final status code, once "
    "it receives and processes the request content, unless the connection is closed prematurely.",
)
def final_after_continue(tus: Tus) -> None:
    """After 100 Continue and the body comes the final answer, and the bytes are stored."""
    url = tus.create()
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, FIVE, CONTINUE))
    answer = wire.read_interim("PATCH")
    if answer is None:
        wire.send(b"hello")
        answer = wire.read("PATCH")
    expect.status(answer, 204)
    tus.stays(url, 5)


@case(30, MUST, "RFC 9110 10.1.1", NO_WAITING)
def expect_continue_refused(tus: Tus) -> None:
    """PATCH at a wrong offset with Expect gets its 409, before the body or after a 100."""
    url = tus.create()
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 3, FIVE, CONTINUE))
    answer = wire.read_interim("PATCH")
    if answer is None:
        wire.send(b"hello")
        answer = wire.read("PATCH")
    expect.status(answer, 409)
    tus.stays(url, 0)


@case(
    31,
    MUST,
    "RFC 9110 10.1.1",
    "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that "
    "expectation.",
)
def expect_in_http_1_0(tus: Tus) -> None:
    """PATCH of HTTP/1.0 with Expect gets no 100."""
    url = tus.create()
    fields = tus.patch_fields(url, 0, FIVE, CONTINUE)
    wire = tus.connect(url)
    wire.send(compose("PATCH", url, fields, version="HTTP/1.0"))
    tus.pause()
    wire.send(b"hello")
    answer = wire.read("PATCH")
    expect.that(100 not in answer.interim, "no 100 (Continue)", "100 (Continue)")
    expect.status(answer, 204)


@case(32, MUST, "RFC 9112 7.1", PARSE_CHUNKED)
def chunked(tus: Tus) -> None:
    """PATCH takes a chunked body: chunks of many sizes, hex digits in any case, leading zeros."""
    url = tus.create(100)
    body = chunk(b"a") + b"00a\r\n0123456789\r\n" + b"1B\r\n" + b"x" * 27 + b"\r\n" + last_chunk()
    answer = tus.chunked(url, 0, body)
    expect.status(answer, 204)
    expect.integer(answer, "Upload-Offset", 38)
    tus.stays(url, 38)


@case(33, MUST, "RFC 9112 7.1.1", "A recipient MUST ignore unrecognized chunk extensions.")
def chunk_extensions(tus: Tus) -> None:
    """Chunk extensions are no part of the upload."""
    takes_chunks(tus)
    url = tus.create()
    body = chunk(b"hel", ";a=1") + chunk(b"lo", ';b="c d"') + b"0;end\r\n\r\n"
    expect.status(tus.chunked(url, 0, body), 204)
    tus.stays(url, 5)


@case(
    34,
    SHOULD,
    "RFC 9110 5.1",
    "Other recipients SHOULD ignore unrecognized header and trailer fields.",
)
def unknown_trailers(tus: Tus) -> None:
    """Trailers that nobody knows are ignored."""
    takes_chunks(tus)
    url = tus.create()
    body = chunk(b"hello") + last_chunk([("X-Tus-Conformance", "1"), ("Server-Timing", "a;dur=1")])
    expect.status(tus.chunked(url, 0, body), 204)
    tus.stays(url, 5)


@case(
    35,
    MUST,
    "RFC 9110 6.5.1",
    "A recipient MUST NOT merge a trailer field into a header section unless the recipient "
    "understands the corresponding header field definition and that definition explicitly permits "
    "and defines how trailer field values can be safely merged.",
)
def trailers_are_not_headers(tus: Tus) -> None:
    """Upload-Offset, Upload-Length and X-HTTP-Method-Override in a trailer have no effect."""
    url = tus.filled(b"hello", 10)
    trailers = [
        ("X-HTTP-Method-Override", "DELETE"),
        ("Upload-Length", "7"),
        ("Upload-Offset", "5"),
    ]
    body = chunk(b"HELLO") + last_chunk(trailers)
    answer = tus.chunked(url, 0, body)
    expect.that(not answer.ok, "the wrong offset of the header to be refused", answer)
    fields = [("Content-Type", "application/offset+octet-stream"), CHUNKED]
    head = compose("PATCH", url, tus.fields(url, *fields))
    answer = tus.exchange(url, head, body, "PATCH")
    expect.that(not answer.ok, "a PATCH without Upload-Offset to be refused", answer)
    tus.stays(url, 5)
    expect.integer(tus.head(url), "Upload-Length", 10)


@case(
    36,
    MUST,
    "RFC 9112 7.1",
    "Therefore, recipients MUST anticipate potentially large hexadecimal numerals and prevent "
    "parsing errors due to integer conversion overflows or precision loss due to integer "
    "representation.",
)
def huge_chunks(tus: Tus) -> None:
    """Chunk sizes of 2^32, 2^64 and more are not taken for small ones."""
    for size in ("100000005", "10000000000000005", "F" * 17):
        url = tus.create(16)
        head = tus.patch_head(url, 0, CHUNKED)
        wire = tus.connect(url)
        wire.send(head + size.encode() + b"\r\nhello\r\n0\r\n\r\n")
        wire.half_close()
        rest = wire.drain()
        acknowledged = b" 204 " in (rest or b"").split(b"\r\n")[0]
        expect.that(not acknowledged, f"no 204 for a chunk of 0x{size} bytes", "204")


@case(
    37,
    MUST,
    "RFC 9112 6.1",
    "Regardless, the server MUST close the connection after responding to such a request to avoid "
    "the potential attacks.",
)
def both_lengths(tus: Tus) -> None:
    """After a request with Content-Length and Transfer-Encoding the connection is closed."""
    url = tus.create(30)
    wire = tus.connect(url)
    body = chunk(b"hello") + last_chunk()
    wire.send(tus.patch_head(url, 0, ("Content-Length", str(len(body))), CHUNKED) + body)
    answer = wire.read("PATCH")
    expect.that(wire.ended(), "the connection to be closed", "it stays open")
    tus.stays(url, 5 if answer.ok else 0)


@case(
    38,
    SHOULD,
    "RFC 9112 6.1",
    "A server that receives a request message with a transfer coding it does not understand "
    "SHOULD respond with 501 (Not Implemented).",
)
def unknown_transfer_coding(tus: Tus) -> None:
    """A transfer coding that nobody knows is answered with 501."""
    url = tus.create()
    head = tus.patch_head(url, 0, ("Transfer-Encoding", "tus-conformance, chunked"))
    expect.status(tus.exchange(url, head, chunk(b"hello") + last_chunk(), "PATCH"), 501)


@case(39, MUST, "RFC 9112 6.3", FRAMING)
def two_lengths(tus: Tus) -> None:
    """Two different Content-Lengths are answered with 400 and the end of the connection."""
    _bad_framing(tus, FIVE, ("Content-Length", "6"))


@case(40, MUST, "RFC 9112 6.3", FRAMING)
def invalid_length(tus: Tus) -> None:
    """A Content-Length that is no number is answered with 400 and the end of the connection."""
    for text in ("five", "-5", "+5", "0x5"):
        _bad_framing(tus, ("Content-Length", text))


@case(41, MUST, "RFC 9112 9.3.2", IN_ORDER)
def pipelined_heads(tus: Tus) -> None:
    """Pipelined HEAD requests are answered in their order."""
    lengths = (11, 22, 33)
    urls = [tus.create(length) for length in lengths]
    wire = tus.connect(urls[0])
    wire.send(b"".join(compose("HEAD", url, tus.fields(url)) for url in urls))
    for length in lengths:
        expect.integer(wire.read("HEAD"), "Upload-Length", length)


@case(42, MUST, PATCH_SOURCE, NEW_OFFSET)
def pipelined_patches(tus: Tus) -> None:
    """Two PATCH requests in one segment: each upload gets its own bytes."""
    first, second = tus.create(10), tus.create(10)
    wire = tus.connect(first)
    data = tus.patch_head(first, 0, FIVE) + b"hello"
    wire.send(data + tus.patch_head(second, 0, ("Content-Length", "6")) + b" world")
    for size in (5, 6):
        answer = wire.read("PATCH")
        expect.status(answer, 204)
        expect.integer(answer, "Upload-Offset", size)
    tus.stays(first, 5)
    tus.stays(second, 6)


@case(43, MUST, "RFC 9112 9.3", READ_ALL)
def refused_body_is_no_request(tus: Tus) -> None:
    """The body of a refused PATCH is not read as the next request."""
    url = tus.create(200)
    inner = tus.patch_head(url, 0, FIVE) + b"SMUGL"
    size = ("Content-Length", str(len(inner)))
    gone = tus.nowhere()
    for target, offset, extra in ((url, 3, size), (gone, 0, size)):
        wire = tus.connect(url)
        wire.send(tus.patch_head(target, offset, extra))
        tus.pause(0.1)
        wire.send(inner)
        expect.refused(wire.read("PATCH"), "the outer PATCH")
        wire.drain(0.2 * tus.settings.pace)
        tus.stays(url, 0)


@case(
    44,
    MUST,
    "RFC 9110 9.3.2",
    "The HEAD method is identical to GET except that the server MUST NOT send content in the "
    "response.",
)
def head_has_no_content(tus: Tus) -> None:
    """Nothing follows the head of an answer to HEAD, found or not."""
    for url in (tus.filled(b"hello", 10), tus.nowhere()):
        wire = tus.connect(url)
        wire.send(compose("HEAD", url, tus.fields(url, ("Connection", "close"))))
        wire.read("HEAD")
        rest = wire.drain(0.5 * tus.settings.pace) or b""
        expect.that(not rest, "no content", f"{len(rest)} bytes: {rest[:60]!r}")


@case(
    45,
    MUST,
    "RFC 9110 8.6",
    "A server MUST NOT send a Content-Length header field in any response with a status code of "
    "1xx (Informational) or 204 (No Content).",
)
def no_content_no_length(tus: Tus) -> None:
    """A 204 has no Content-Length."""
    for answer in _no_contents(tus):
        expect.absent(answer, "Content-Length")


@case(
    46,
    MUST,
    "RFC 9112 6.1",
    "A server MUST NOT send a Transfer-Encoding header field in any response with a status code "
    "of 1xx (Informational) or 204 (No Content).",
)
def no_content_no_coding(tus: Tus) -> None:
    """A 204 has no Transfer-Encoding."""
    for answer in _no_contents(tus):
        expect.absent(answer, "Transfer-Encoding")


@case(
    47,
    MUST,
    "RFC 9112 9.6",
    'A server that receives a "close" connection option MUST initiate closure of the connection '
    '(see below) after it sends the final response to the request that contained the "close" '
    "connection option.",
)
def close_is_obeyed(tus: Tus) -> None:
    """Connection: close ends the connection after the answer."""
    url = tus.create()
    wire = tus.connect(url)
    wire.send(compose("HEAD", url, tus.fields(url, ("Connection", "close"))))
    wire.read("HEAD")
    expect.that(wire.ended(), "the connection to be closed", "it stays open")


@case(48, MUST, "RFC 9112 3.2", HOST)
def no_host(tus: Tus) -> None:
    """A request without Host is answered with 400."""
    url = tus.create()
    fields = [field for field in tus.fields(url) if field[0] != "Host"]
    expect.status(tus.exchange(url, compose("HEAD", url, fields), b"", "HEAD"), 400)


@case(49, MUST, "RFC 9112 3.2", HOST)
def two_hosts(tus: Tus) -> None:
    """A request with two Host lines is answered with 400."""
    url = tus.create()
    fields = tus.fields(url, ("Host", "other.example"))
    expect.status(tus.exchange(url, compose("HEAD", url, fields), b"", "HEAD"), 400)


@case(
    50,
    MUST,
    "RFC 9112 3.2.2",
    "A server MUST accept the absolute-form in requests even though most HTTP/1.1 clients will "
    "only send the absolute-form to a proxy.",
)
def absolute_form(tus: Tus) -> None:
    """HEAD with an absolute URL in its request line finds the upload."""
    url = tus.filled(b"hello", 10)
    head = compose("HEAD", url, tus.fields(url), target=str(url))
    expect.integer(tus.exchange(url, head, b"", "HEAD"), "Upload-Offset", 5)


@case(
    51,
    MUST,
    "RFC 9112 5.1",
    "A server MUST reject, with a response status code of 400 (Bad Request), any received request "
    "message that contains whitespace between a header field name and colon.",
)
def space_before_the_colon(tus: Tus) -> None:
    """`Upload-Offset : 0` is answered with 400 and stores nothing."""
    url = tus.create()
    fields = [
        (name + " " if name == "Upload-Offset" else name, value)
        for name, value in tus.patch_fields(url, 0, FIVE)
    ]
    answer = tus.exchange(url, compose("PATCH", url, fields), b"hello", "PATCH")
    expect.status(answer, 400)
    tus.stays(url, 0)


@case(
    52,
    MUST,
    "RFC 9112 6.3",
    "If this is a request message and none of the above are true, then the message body length is "
    "zero (no message body is present).",
    needs=("creation",),
)
def post_without_content_length(tus: Tus) -> None:
    """POST with neither Content-Length nor Transfer-Encoding creates an upload."""
    answer = tus.ask("POST", tus.url, ("Upload-Length", "10"))
    expect.status(answer, 201)


@case(53, SHOULD, "RFC 9112 9.3", "HTTP implementations SHOULD support persistent connections.")
def one_connection_for_all(tus: Tus) -> None:
    """PATCH, HEAD and PATCH go over one connection, one after the other."""
    url = tus.create(10)
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, FIVE) + b"hello")
    expect.integer(wire.read("PATCH"), "Upload-Offset", 5)
    wire.send(compose("HEAD", url, tus.fields(url)))
    expect.integer(wire.read("HEAD"), "Upload-Offset", 5)
    wire.send(tus.patch_head(url, 5, FIVE) + b"world")
    expect.integer(wire.read("PATCH"), "Upload-Offset", 10)


def _bad_framing(tus: Tus, *fields: tuple[str, str]) -> None:
    """Sends a PATCH framed like this; expects 400, the end, and nothing stored."""
    url = tus.create()
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, *fields) + b"hello")
    expect.status(wire.read("PATCH"), 400)
    expect.that(wire.ended(), "the connection to be closed", "it stays open")
    tus.stays(url, 0)


def _no_contents(tus: Tus) -> list[Answer]:
    """Answers with 204, of every method that has them here."""
    url: Url = tus.create()
    answers = [tus.features.options, tus.patch(url, 0, b"hello")]
    if "termination" in tus.features.extensions:
        answers.append(tus.ask("DELETE", url))
    return [answer for answer in answers if answer.status == 204]
