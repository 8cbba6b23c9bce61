"""Resilience: what the specification implies about broken, slow and simultaneous requests.

Here are the connections that break and the requests that meet; `resilience_bounds` has the
numbers at the ends of integer types, and `resilience_http` what HTTP/1.1 says about the messages.
"""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tus_conformance import expect
from tus_conformance.case import MUST, SHOULD, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import Hangup, NotApplicable, Silence
from tus_conformance.wire import Answer, Url, Wire, chunk, last_chunk

resilience = Section("resilience", "Resilience")
case = resilience.case

PATCH_SOURCE = "Core Protocol, PATCH"
STORE = "The Server SHOULD always attempt to store as much of the received data as possible."
NEW_OFFSET = (
    "The new offset MUST be the sum of the offset before the `PATCH` request and the number of "
    "bytes received and processed or stored during the current `PATCH` request."
)
MISMATCH = (
    "If the offsets do not match, the Server MUST respond with the `409 Conflict` status without "
    "modifying the upload resource."
)
ACKNOWLEDGE = (
    "The Server MUST acknowledge successful `PATCH` requests with the `204 No Content` status."
)
NETWORK = "Both Client and Server, SHOULD attempt to detect and handle network errors predictably."
INCOMPLETE = (
    "If the sender closes the connection or the recipient times out before the indicated number "
    "of octets are received, the recipient MUST consider the message to be incomplete and close "
    "the connection."
)
DEFINED_LENGTH = (
    "If a valid Content-Length header field is present without Transfer-Encoding, its decimal "
    "value defines the expected message body length in octets."
)
SIZE = (
    "The `Upload-Length` request and response header indicates the size of the entire upload in "
    "bytes."
)
DATA = b"0123456789abcdef"
T = TypeVar("T")


@case(1, SHOULD, PATCH_SOURCE, NETWORK)
def head_cut_anywhere(tus: Tus) -> None:
    """A PATCH cut within its head, at any byte, changes nothing."""
    url = tus.create(16)
    head = tus.patch_head(url, 0, _length(DATA))
    for cut in _spread(len(head), 24):
        _cut(tus, url, head[:cut], Wire.close)
    tus.pause()
    tus.stays(url, 0)
    expect.status(tus.patch(url, 0, DATA), 204)


@case(2, MUST, PATCH_SOURCE, NEW_OFFSET)
def body_cut_anywhere(tus: Tus) -> None:
    """A PATCH cut within its body, at any byte, counts no byte that did not come."""
    head_of = {cut: tus.create(16) for cut in (0, 1, 5, 15)}
    for cut, url in head_of.items():
        _cut(tus, url, tus.patch_head(url, 0, _length(DATA)) + DATA[:cut], Wire.close)
    tus.pause()
    for cut, url in head_of.items():
        offset = _settled(tus, url)
        expect.that(offset <= cut, f"at most {cut} bytes", f"Upload-Offset: {offset}")
        expect.integer(tus.patch(url, offset, DATA[offset:]), "Upload-Offset", 16)
        tus.stays(url, 16)


@case(3, SHOULD, PATCH_SOURCE, STORE)
def body_cut_is_stored(tus: Tus) -> None:
    """What came of a PATCH whose connection was closed is stored."""
    for cut in (1, 7, 15):
        url = tus.create(16)
        _cut(tus, url, tus.patch_head(url, 0, _length(DATA)) + DATA[:cut], Wire.close)
        tus.reaches(url, cut)


@case(4, SHOULD, PATCH_SOURCE, STORE)
def reset_is_stored(tus: Tus) -> None:
    """What came of a PATCH before its connection was reset is stored."""
    url = tus.create(16)
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, _length(DATA)) + DATA[:7])
    tus.pause(0.5)
    wire.reset()
    tus.reaches(url, 7)


@case(5, MUST, "RFC 9112 6.3", INCOMPLETE)
def half_closed_within_the_body(tus: Tus) -> None:
    """A PATCH half-closed within its body gets no 204, and its connection ends."""
    url = tus.create(16)
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, _length(DATA)) + DATA[:7])
    wire.half_close()
    rest = wire.drain()
    expect.that(rest is not None, "the connection to be closed", "it stays open")
    acknowledged = b" 204 " in (rest or b"").split(b"\r\n")[0]
    expect.that(not acknowledged, "no 204 for half a body", "204")


@case(6, SHOULD, PATCH_SOURCE, STORE)
def half_closed_after_the_body(tus: Tus) -> None:
    """A PATCH half-closed after its last byte is stored."""
    url = tus.create(16)
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, _length(DATA)) + DATA)
    wire.half_close()
    tus.reaches(url, 16)


@case(7, SHOULD, PATCH_SOURCE, STORE)
def chunked_body_cut(tus: Tus) -> None:
    """What came of a chunked PATCH without its last chunk is stored."""
    takes_chunks(tus)
    url = tus.create(16)
    head = tus.patch_head(url, 0, ("Transfer-Encoding", "chunked"))
    _cut(tus, url, head + chunk(DATA[:5]) + chunk(DATA[5:9]), Wire.close)
    tus.reaches(url, 9)


@case(8, MUST, PATCH_SOURCE, NEW_OFFSET)
def goes_on_after_cuts(tus: Tus) -> None:
    """An upload that is cut three times and resumed each time has every byte in its place."""
    url = tus.create(16)
    for _ in range(3):
        offset = tus.offset(url)
        body = DATA[offset:]
        _cut(tus, url, tus.patch_head(url, offset, _length(body)) + body[:4], Wire.close)
        tus.pause()
    offset = _settled(tus, url)
    expect.success(tus.patch(url, offset, DATA[offset:]), "the last PATCH")
    tus.stays(url, 16)
    tus.holds(url, DATA)


@case(
    9,
    MUST,
    "Core Protocol, HEAD",
    "The Server MUST always include the `Upload-Offset` header in the response for a `HEAD` "
    "request, even if the offset is `0`, or the upload is already considered completed.",
)
def head_while_patch_hangs(tus: Tus) -> None:
    """HEAD is answered with an offset while a PATCH hangs."""
    url = tus.create(16)
    _hanging(tus, url, DATA[:7])
    offset = tus.offset(url)
    expect.that(offset <= 7, "an offset of at most 7", offset)


@case(10, MUST, PATCH_SOURCE, NEW_OFFSET)
def takes_over_from_a_hung_patch(tus: Tus) -> None:
    """A PATCH at the offset that HEAD gave while another hangs: no byte counts twice."""
    url = tus.create(16)
    wire = _hanging(tus, url, DATA[:7])
    offset = tus.offset(url)
    second = tus.patch(url, offset, DATA[offset:])
    if second.ok:
        expect.integer(second, "Upload-Offset", 16)
    wire.send(b"XXXXXXXXX")
    wire.close()
    tus.pause()
    end = _settled(tus, url)
    expect.that(end <= 16, "no offset above the length of 16", end)
    if second.ok:
        expect.that(end == 16, "the acknowledged Upload-Offset: 16", end)
        tus.holds(url, DATA)


@case(11, MUST, PATCH_SOURCE, MISMATCH)
def two_patches_at_once(tus: Tus) -> None:
    """Of two PATCH requests at the same offset at once, at most one is acknowledged."""
    for _ in range(12):
        url = tus.create(8)
        bodies = (b"A" * 8, b"B" * 8)
        answers = _at_once([functools.partial(tus.patch, url, 0, body) for body in bodies])
        winners = [body for body, one in zip(bodies, answers, strict=True) if one and one.ok]
        expect.that(len(winners) <= 1, "one PATCH to be acknowledged", "both were")
        if winners:
            tus.stays(url, 8)


@case(12, MUST, PATCH_SOURCE, MISMATCH)
def patch_repeated(tus: Tus) -> None:
    """A PATCH that is sent again, as after a lost answer, is answered with 409 and adds nothing."""
    url = tus.create(16)
    head = tus.patch_head(url, 0, _length(b"hello"))
    wire = tus.connect(url)
    wire.send(head + b"hello")
    expect.success(wire.read("PATCH"), "the first PATCH")
    wire.close()
    expect.status(tus.exchange(url, head, b"hello", "PATCH"), 409)
    tus.stays(url, 5)


@case(
    13,
    MUST,
    "Termination, DELETE",
    "When receiving a `DELETE` request for an existing upload the Server SHOULD free associated "
    "resources and MUST respond with the `204 No Content` status confirming that the upload was "
    "terminated.",
    needs=("termination",),
)
def delete_during_patch(tus: Tus) -> None:
    """DELETE while a PATCH hangs is answered with 204."""
    url = tus.create(16)
    _hanging(tus, url, DATA[:7])
    expect.status(tus.ask("DELETE", url), 204)


@case(
    14,
    SHOULD,
    "Termination, DELETE",
    "For all future requests to this URL, the Server SHOULD respond with the `404 Not Found` or "
    "`410 Gone` status.",
    needs=("termination",),
)
def delete_is_final(tus: Tus) -> None:
    """What a PATCH still sends after DELETE does not bring the upload back."""
    url = tus.create(16)
    wire = _hanging(tus, url, DATA[:7])
    expect.success(tus.ask("DELETE", url), "DELETE")
    wire.send(DATA[7:])
    tus.pause()
    expect.status(tus.head(url), 404, 410)
    wire.close()
    tus.pause()
    expect.status(tus.head(url), 404, 410)


@case(
    15,
    MUST,
    "Creation, POST",
    "The Server MUST set the `Location` header to the URL of the created resource.",
    needs=("creation",),
)
def creations_at_once(tus: Tus) -> None:
    """Eight POST requests at once make eight uploads."""
    urls = _at_once([lambda: tus.create(10)] * 8)
    expect.that(len({str(url) for url in urls}) == 8, "eight URLs", len(set(map(str, urls))))


@case(16, MUST, PATCH_SOURCE, ACKNOWLEDGE)
def slow_body(tus: Tus) -> None:
    """A body that comes byte by byte, with pauses, is taken."""
    url = tus.create(16)
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, _length(DATA)))
    for at in range(16):
        wire.send(DATA[at : at + 1])
        tus.pause(0.08)
    expect.status(wire.read("PATCH"), 204)
    tus.stays(url, 16)


@case(17, MUST, PATCH_SOURCE, ACKNOWLEDGE)
def slow_head(tus: Tus) -> None:
    """A request whose every byte is a segment of its own is taken."""
    url = tus.create(16)
    wire = tus.connect(url)
    for byte in tus.patch_head(url, 0, _length(DATA)) + DATA:
        wire.send(bytes([byte]))
        time.sleep(0.0005)
    expect.status(wire.read("PATCH"), 204)
    tus.stays(url, 16)


@case(18, MUST, "Core Protocol, Upload-Length", SIZE)
def longer_than_the_upload(tus: Tus) -> None:
    """A body that goes beyond Upload-Length is refused, or stored up to it."""
    url = tus.filled(b"hello", 8)
    _not_beyond(tus, url, tus.patch(url, 5, b"0123456789"))


@case(19, MUST, "Core Protocol, Upload-Length", SIZE)
def chunked_longer_than_the_upload(tus: Tus) -> None:
    """A chunked body that goes beyond Upload-Length is refused, or stored up to it."""
    url = tus.filled(b"hello", 8)
    body = chunk(b"01") + chunk(b"23456") + last_chunk()
    _not_beyond(tus, url, tus.chunked(url, 5, body))


@case(20, MUST, "RFC 9112 6.3", DEFINED_LENGTH)
def bytes_after_the_body(tus: Tus) -> None:
    """Bytes after the announced length do not belong to the upload."""
    url = tus.create(16)
    answer = tus.exchange(url, tus.patch_head(url, 0, _length(b"hello")), b"hello+more", "PATCH")
    if answer.ok:
        expect.integer(answer, "Upload-Offset", 5)
    tus.pause()
    offset = tus.offset(url)
    expect.that(offset <= 5, "an offset of at most 5", offset)


@case(27, MUST, PATCH_SOURCE, MISMATCH)
def refused_while_the_body_comes(tus: Tus) -> None:
    """The 409 to a large body at a wrong offset arrives, instead of a reset."""
    data = bytes(512 * 1024)
    url = tus.create(2 * len(data))
    expect.status(tus.patch(url, 7, data), 409, 413)  # 413: a server may limit its requests
    tus.stays(url, 0)


def takes_chunks(tus: Tus) -> None:
    """Ends the case where no chunked body is taken at all, which is for another case to say."""
    answer = tus.chunked(tus.create(), 0, chunk(b"hello") + last_chunk())
    if not answer.ok:
        raise NotApplicable("chunked bodies are not taken: see resilience/32")


def _length(body: bytes) -> tuple[str, str]:
    return "Content-Length", str(len(body))


def _spread(size: int, count: int) -> list[int]:
    """Positions from 1 to `size - 1`, the last ones (within the empty line) among them."""
    step = max(1, size // count)
    return sorted({*range(1, size, step), size - 3, size - 2, size - 1})


def _cut(tus: Tus, url: Url, data: bytes, end: Callable[[Wire], None]) -> None:
    """Sends part of a request and ends the connection."""
    wire = tus.connect(url)
    wire.send(data)
    end(wire)


def _settled(tus: Tus, url: Url) -> int:
    """The offset once it no longer moves."""
    last = tus.offset(url)
    while True:
        tus.pause(0.1)
        offset = tus.offset(url)
        if offset == last:
            return offset
        last = offset


def _hanging(tus: Tus, url: Url, data: bytes) -> Wire:
    """A PATCH of 16 bytes that has sent these and then sends no more.

    A server may take its time to learn from the hanging request that another one waits.
    """
    tus.patience = 2.0
    wire = tus.connect(url)
    wire.send(tus.patch_head(url, 0, _length(DATA)) + data)
    tus.pause()
    return wire


def _at_once(calls: Sequence[Callable[[], T]]) -> list[T | None]:
    """What each gives, all begun together; None for one whose connection just ended."""

    def one(call: Callable[[], T]) -> T | None:
        try:
            return call()
        except (Hangup, Silence):
            return None

    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        return list(pool.map(one, calls))


def _not_beyond(tus: Tus, url: Url, answer: Answer) -> None:
    offset = tus.offset(url)
    expect.that(offset <= 8, "no offset above the length of 8", offset)
    if answer.ok:
        expect.integer(answer, "Upload-Offset", offset)
