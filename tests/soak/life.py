"""One upload at a time, from its creation to its comparison, as networks and people have it."""

import email.utils
import http.client
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.soak.oracle import Counts, Known, differs_at
from tests.soak.patching import HEAD, TYPE, Framing, Request, Sending
from tests.soak.place import Place
from tests.wire.fuzz_connection import WITHIN, Answer, Connection, Gone, Wrong

KIB, MIB = 1 << 10, 1 << 20
AROUND = (0, 0, 1, 16 * KIB, 64 * KIB, 256 * KIB, 512 * KIB, MIB)
"""The sizes at which the server changes its mind; two of them make an upload."""

ATTEMPTS = 60

T = TypeVar("T")


class Expired(Exception):
    """The upload's time ran out, as the server had told."""


class Life:
    """One upload.

    Args:
        place: Where the server is, and what all clients share.
        source: Of all that is random.
        name: Of this upload, and of no other.
        note: Takes a line of the script.
        concat: The `Upload-Concat` to create it with.
    """

    def __init__(
        self,
        place: Place,
        source: random.Random,
        name: str,
        note: Callable[[str], None],
        concat: str = "",
    ) -> None:
        self._place, self._random, self._note = place, source, note
        self._concat = concat
        self._tally = place.tally
        self.known = Known(name, place.stream)
        self._framing = Framing(source, self.known)
        self.length = self._some_length()
        self._is_deferred = source.random() < 0.2
        self._is_done = False
        self._expires: float | None = None
        self._tries = 0
        self._must_ask = False
        self.path = ""

    # What is done with it

    def fill(self) -> None:
        """Brings it to its end.

        Raises:
            Wrong: The server failed.
            Expired: It took too long.
        """
        self._begin()
        while not self._is_done:
            self._advance()

    def fill_somewhat(self) -> None:
        """Brings it somewhere, perhaps to its end."""
        self._begin()
        for _ in range(self._random.randrange(4)):
            if not self._is_done:
                self._advance()

    def compare(self) -> None:
        """What is given back is what was sent, also when somebody tries to add to it."""
        if self._random.random() < 0.2:
            self.survive(self._add_to_it)
        self.survive(lambda: self.download(self.length, self.known.pieces))
        if self._random.random() < 0.1 and self.length > MIB:
            self.survive(self._stop_reading)

    def terminate(self, *, while_sending: bool = False) -> None:
        """`DELETE`, perhaps while bytes come; nothing is left of it."""
        sending = None
        if while_sending and not self._is_done:
            request = self._some_request(self._rest())
            sending = self._started(request)
            if sending is not None:
                sending.send(self._random.randrange(request.size + 1))
                sending.send_beside()
        try:
            self.survive(self._delete)
        finally:
            if sending is not None:
                self._let_go(sending)
        self._tally.count("uploads terminated")

    def abandon(self) -> None:
        """Nobody comes back to it."""
        if self._is_done:
            self.compare()
            self.terminate()
            return
        self.survive(self.ask)
        self._tally.count("uploads abandoned")
        self._place.abandoned.append((self.path, self._expires or 0.0))

    # One step

    def _begin(self) -> None:
        while not self.path:
            self.survive(self._create, tries=1)

    def _advance(self) -> None:
        self._tries += 1
        if self._tries > ATTEMPTS:
            raise Wrong(f"{ATTEMPTS} attempts were not enough: {self.known}")
        self._must_ask = True
        self.survive(self._attempt, tries=1)
        if self._must_ask:
            self.survive(self.ask)

    def survive(self, act: Callable[[], None], *, tries: int = 20) -> None:
        """Does it, again and again as long as the server is disturbed meanwhile."""
        for _ in range(tries):
            self._place.server.is_up.wait(WITHIN)
            lives = self._place.server.lives
            try:
                act()
            except Gone as error:
                if lives == self._place.server.lives and not lives % 2:
                    raise Wrong("the connection ended without an answer") from error
                self._note("  the server was disturbed")
            else:
                return

    def _some_length(self) -> int:
        if self._random.random() < self._place.share_of_large and not self._concat:
            return 64 * MIB + self._random.randrange(-2, 3)
        if self._random.random() < 0.2:
            return self._random.randrange(6 * MIB)
        near = self._random.choice(AROUND) + self._random.choice(AROUND)
        return max(0, near + self._random.randrange(-2, 3))

    def _rest(self) -> int:
        return self.length - self.known.told

    # Requests

    def _create(self) -> None:
        self._note(f"POST of {self.length}{', deferred' if self._is_deferred else ''}")
        length = "Upload-Defer-Length: 1" if self._is_deferred else f"Upload-Length: {self.length}"
        line = f"POST /files/ HTTP/1.1\r\n{HEAD}{length}\r\n"
        line += f"Upload-Concat: {self._concat}\r\n" if self._concat else ""
        if self.length and self._random.random() < 0.3:
            count = self._some_count()
            request = self._choose(line + TYPE, count, "")
            sending = self._started(request, "POST")
            if sending is None:
                raise Gone
            self._tally.count(f"POST with {request.kind}")
            sending.send(pause=self._some_pauses())
            answer = sending.answer()
            sending.connection.leave("close")
            self._created(answer, request)
            return
        answer = self._place.ask("POST", "/files/", line.partition(HEAD)[2])
        self._created(answer, None)

    def _created(self, answer: Answer | None, request: Request | None) -> None:
        attempt = None if request is None else request.attempt
        if answer is None or answer.status != 201:
            # Nobody knows its URL, if there is one: the next is another upload.
            before = self.known
            self.known = Known(f"{before.name}+", self._place.stream)
            self._framing = Framing(self._random, self.known)
            if answer is None:
                raise Gone
            is_wrong_sum = attempt is not None and attempt.counts is Counts.NOT
            if answer.status == 460 and is_wrong_sum:
                self._tally.count("460")
            elif answer.status != 503 or not self._place.server.lives:
                raise Wrong(f"POST was answered with {answer}: {before}")
            return
        self.path = "/" + answer.headers["location"].partition("://")[2].partition("/")[2]
        self._note(f"  {self.path}: {answer.headers.get('upload-offset')}")
        self.learn(answer)
        if attempt is not None:
            self.known.acknowledged(attempt, int(answer.headers["upload-offset"]))
            self._tally.add("bytes acknowledged", attempt.length)
        self._is_done = not self._is_deferred and self.known.told == self.length

    def ask(self) -> None:
        """`HEAD`: what is told holds from now on."""
        answer = self._request("HEAD", {200, 410})
        if answer.status == 410:
            self.check_expired(answer)
        self.learn(answer)
        offset = int(answer.headers["upload-offset"])
        self._note(f"  HEAD says {offset}")
        before = self.known.told
        self.known.found(offset, self._stored)
        self._tally.add("bytes adopted", self.known.told - before)
        told_length = answer.headers.get("upload-length")
        if told_length not in (None, str(self.length)):
            raise Wrong(f"the length is {self.length} and not as in {answer}")
        if self._is_done and (offset != self.length or told_length is None):
            raise Wrong(f"it was complete, and is not any more: {answer}")
        self._is_done = offset == self.length and told_length is not None

    def _delete(self) -> None:
        answer = self._request("DELETE", {204, 410})
        self._note(f"  DELETE: {answer.status}")
        self._request("HEAD", {410})
        self._request("GET", {404})
        if answer.status == 204 and list(self._place.files(self.path)):
            raise Wrong(f"{self.path} was terminated, and its file is there")

    def _request(self, method: str, wants: set[int]) -> Answer:
        return self._place.ask_until(method, self.path, wants)

    def learn(self, answer: Answer) -> None:
        """Until when the upload is there, as far as that was told."""
        if (told := answer.headers.get("upload-expires")) is not None:
            expires = email.utils.parsedate_to_datetime(told).timestamp()
            self._expires = max(expires, self._expires or 0.0)

    def check_expired(self, answer: Answer) -> None:
        """A 410 is right when the time is over that was told.

        Raises:
            Expired: It is.
        """
        if self._expires is None or time.time() < self._expires - 1:
            raise Wrong(f"expired before its time, {self._expires}: {answer}; {self.known}")
        raise Expired

    def _stored(self, start: int, end: int) -> Iterator[bytes]:
        (path,) = self._place.files(self.path)
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(MIB, end - start))):
                start += len(piece)
                yield piece

    # Attempts

    def _attempt(self) -> None:
        # In the end it has to come through.
        is_calm = self._tries > ATTEMPTS // 2 or self._place.is_over
        ways: dict[Callable[[Request], None], int] = {
            self._whole: 8,
            self._cut: 6,
            self._stall: 1,
            self._deaf: 1,
            self._overtaken: 5,
            self._twins: 2,
            self._misplaced: 1,
        }
        act = self._whole if is_calm else _one_of(self._random, ways)
        request = self._some_request(self._rest() if is_calm else self._some_count())
        attempt = request.attempt
        self._note(f"{act.__name__} {request.kind} {attempt.number}: {attempt.length}")
        act(request)

    def _some_count(self) -> int:
        rest = self._rest()
        return rest if self._random.random() < 0.5 else self._random.randrange(rest + 1)

    def _some_request(self, count: int) -> Request:
        line = f"PATCH {self.path} HTTP/1.1\r\n{HEAD}{TYPE}"
        extra = f"Upload-Offset: {self.known.told}\r\n"
        is_last = count == self._rest()
        if self._is_deferred and (is_last or self._random.random() < 0.3):
            extra += f"Upload-Length: {self.length}\r\n"
        return self._choose(line, count, extra)

    def _choose(self, line: str, count: int, extra: str) -> Request:
        framing = self._framing
        kinds = {framing.plain: 6, framing.summed: 2, framing.chunked: 1, framing.trailed: 1}
        made = _one_of(self._random, kinds)(line, count, extra)
        self._tally.add("bytes to be sent", count)
        return made

    def _started(self, request: Request, method: str = "PATCH") -> Sending | None:
        """A connection for it; None if there is none to be had."""
        if method == "PATCH":
            self._tally.count(f"PATCH {request.kind}")
        try:
            connection = Connection(self._place.server)
        except Gone:
            return None
        connection.expect(method)
        return Sending(request, connection)

    def _some_pauses(self) -> Callable[[], float]:
        """Between two pieces: none, or some, which makes a slow client."""
        if self._random.random() < 0.8:
            return lambda: 0.0
        left = [20]

        def pause() -> float:
            left[0] -= 1
            return self._random.choice([0.0, 0.003, 0.02, 0.05]) if left[0] > 0 else 0.0

        return pause

    def _whole(self, request: Request) -> None:
        sending = self._started(request)
        if sending is None:
            raise Gone
        try:
            for _ in range(self._random.choice([0, 0, 0, 3, 30])):
                sending.send(self._random.choice([1, 100, 1460, 70_000]), self._some_pauses())
            sending.send(pause=self._some_pauses())
            self._settle(sending, sending.answer(), is_alone=True)
        finally:
            sending.connection.leave("close")

    def _cut(self, request: Request) -> None:
        """The connection ends somewhere."""
        sending = self._started(request)
        if sending is None:
            raise Gone
        how = self._random.choice(["close", "reset", "half-close"])
        at = self._random.randrange(request.size + 1)
        self._note(f"  {how} after {at} of {request.size}")
        self._tally.count(f"cuts: {how}")
        sending.send(at, self._some_pauses())
        sending.connection.leave(how)
        if how == "half-close":
            sending.connection.wait(1)
            sending.connection.leave("close")

    def _stall(self, request: Request) -> None:
        """It sends nothing more, and does not go away."""
        if (sending := self._started(request)) is not None:
            sending.send(self._random.randrange(request.size + 1))
            self._tally.count("cuts: stall")
            self._place.park(sending.connection)

    def _deaf(self, request: Request) -> None:
        """It sends everything, and reads nothing."""
        if (sending := self._started(request)) is not None:
            sending.send()
            self._tally.count("cuts: deaf")
            self._place.park(sending.connection)

    def _overtaken(self, request: Request) -> None:
        """Somebody else asks and goes on, while it still sends."""
        sending = self._started(request)
        if sending is None:
            raise Gone
        self._tally.count("overtaken")
        sending.goes_on = self._random.random() < 0.5
        sending.send(self._random.randrange(request.size + 1))
        sending.send_beside()
        try:
            for _ in range(self._random.randrange(1, 3)):
                self.ask()
                if self._is_done:
                    break
                self._send_another()
        finally:
            self._let_go(sending)

    def _twins(self, request: Request) -> None:
        """Two clients at once, at the same offset."""
        sending = self._started(request)
        if sending is None:
            raise Gone
        self._tally.count("twins")
        sending.send_beside()
        try:
            self._send_another()
        finally:
            self._let_go(sending, wait=True)

    def _send_another(self) -> None:
        request = self._some_request(self._some_count())
        self._note(f"  beside it {request.kind} {request.attempt.number}: {request.attempt.length}")
        sending = self._started(request)
        if sending is None:
            raise Gone
        try:
            sending.send()
            self._settle(sending, sending.answer(), is_alone=False)
        finally:
            sending.connection.leave("close")

    def _let_go(self, sending: Sending, *, wait: bool = False) -> None:
        """The one who was overtaken leaves, with or without an answer."""
        try:
            sending.join()
            if wait:
                sending.answer()
            if sending.connection.answers:
                answer = sending.connection.answers[0]
                self._note(f"  {answer.status} to {sending.request.attempt.number}")
                self._tally.count(f"overtaken: {answer.status}")
                sending.request.attempt.is_answered = True
                if answer.status == 204:
                    offset = int(answer.headers["upload-offset"])
                    self.known.acknowledged(sending.request.attempt, offset)
        finally:
            sending.connection.leave("close")

    def _misplaced(self, request: Request) -> None:
        """At an offset that never was one."""
        told = self.known.told
        wrong = self._random.randrange(told) if told else self.length + 1
        old, new = f"Upload-Offset: {told}\r\n", f"Upload-Offset: {wrong}\r\n"
        request.head = request.head.replace(old.encode(), new.encode())
        request.attempt.counts = Counts.NOT
        sending = self._started(request)
        if sending is None:
            raise Gone
        try:
            sending.send()
            answer = sending.answer()
        finally:
            sending.connection.leave("close")
        if answer is None:
            raise Gone
        self.known.refused(request.attempt)
        if answer.status == 410:
            self.check_expired(answer)
        if answer.status not in (409, 413, 423, 503):
            raise Wrong(f"a PATCH at {wrong} was answered with {answer}: {self.known}")

    def _settle(self, sending: Sending, answer: Answer | None, *, is_alone: bool) -> None:
        """What the answer to a PATCH says."""
        if answer is None:
            raise Gone
        attempt = sending.request.attempt
        self._note(f"  {answer.status} to {attempt.number}")
        self._tally.count(f"PATCH: {answer.status}")
        self.learn(answer)
        if answer.status == 204:
            self.known.acknowledged(attempt, int(answer.headers["upload-offset"]))
            self._tally.add("bytes acknowledged", attempt.length)
            if not self._is_deferred:
                self._is_done = self.known.told == self.length
                self._must_ask = not is_alone or self._random.random() < 0.5
        elif answer.status == 460:
            if attempt.counts is not Counts.NOT or not attempt.is_whole:
                raise Wrong(f"460: {attempt}; {self.known}")
            self._tally.count("460")
            self.known.refused(attempt)
        elif answer.status == 409:
            self.known.refused(attempt)
            self._check_moved(attempt.start)
        elif answer.status == 410:
            self.check_expired(answer)
        elif answer.status in (423, 503):
            attempt.is_answered = True
            if answer.status == 503 and not self._place.server.lives:
                raise Wrong(f"503, and nobody has ended the server: {answer}")
            if answer.status == 423 and is_alone:
                time.sleep(0.05)
        else:
            raise Wrong(f"PATCH was answered with {answer}: {self.known}")

    def _check_moved(self, start: int) -> None:
        """A 409 is right only where another attempt has moved the offset."""
        if self.known.told == start:
            self.ask()
        if self.known.told == start:
            raise Wrong(f"409 at the offset that is told: {self.known}")

    # When it is done

    def _add_to_it(self) -> None:
        head = f"Upload-Offset: {self.length}\r\n{TYPE}Content-Length: 5\r\n"
        answer = self._place.ask("PATCH", self.path, head, b"other")
        if answer is None:
            raise Gone
        if answer.status not in (400, 403, 409, 410, 413, 423, 503):
            raise Wrong(f"what was added was answered with {answer}")
        self.ask()

    def download(self, length: int, pieces: Callable[[], Iterator[memoryview]]) -> None:
        """`GET`, and compares."""
        self._tally.count("GET")
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._place.server.port, timeout=WITHIN
        )

        def found() -> Iterator[bytes]:
            connection.request("GET", self.path)
            answer = connection.getresponse()
            if answer.status != 200 or answer.length != length:
                raise Wrong(f"{self.path}: {answer.status}, {answer.length} bytes: {self.known}")
            while piece := answer.read(1 << 18):
                yield piece
            if answer.length:
                raise Gone

        try:
            at = differs_at(pieces(), found())
        except (OSError, http.client.HTTPException) as error:
            raise Gone from error
        finally:
            connection.close()
        if at is not None:
            raise Wrong(
                f"{self.path}: byte {at} of {length} is not that of {self.known.holder(at)}: "
                f"{self.known}"
            )
        self._tally.add("bytes compared", length)

    def _stop_reading(self) -> None:
        """It asks for all of it, and does not take it."""
        connection = Connection(self._place.server)
        connection.expect("GET")
        connection.send(f"GET {self.path} HTTP/1.1\r\n{HEAD}\r\n".encode(), until=1)
        self._tally.count("GET: stalled")
        self._place.park(connection)


class Pieced:
    """An upload that is made of others, which are sent at the same time.

    Args:
        place: See `Life`.
        source: See `Life`.
        name: See `Life`.
        note: See `Life`.
    """

    def __init__(
        self, place: Place, source: random.Random, name: str, note: Callable[[str], None]
    ) -> None:
        self._place, self._random, self._note = place, source, note
        self._parts = [
            Life(place, random.Random(f"{name} {n}"), f"{name}, part {n}", note, "partial")
            for n in range(source.randrange(2, 5))
        ]
        # It has no bytes but those of its parts.
        self._final = Life(place, source, f"{name}, final", note)

    def run(self) -> None:
        """All of it, to the comparison; and lets it go."""
        with ThreadPoolExecutor(len(self._parts)) as threads:
            begin = [threads.submit(part.fill_somewhat) for part in self._parts]
            for each in begin:
                each.result()
            if is_early := self._random.random() < 0.3:
                self._make_final()
            for each in [threads.submit(part.fill) for part in self._parts]:
                each.result()
        if not is_early:
            self._make_final()
        length = sum(part.length for part in self._parts)
        self._final.survive(lambda: self._wait(length))
        self._final.survive(lambda: self._final.download(length, self._pieces))
        for life in (self._final, *self._parts):
            life.terminate()

    def _pieces(self) -> Iterator[memoryview]:
        for part in self._parts:
            yield from part.known.pieces()

    def _make_final(self) -> None:
        self._final.survive(self._post_final)

    def _post_final(self) -> None:
        urls = " ".join(part.path for part in self._parts)
        answer = self._place.ask("POST", "/files/", f"Upload-Concat: final;{urls}\r\n")
        if answer is None or (answer.status == 503 and self._place.server.lives):
            raise Gone
        if answer.status in (400, 404, 410):
            for part in self._parts:
                part.survive(part.ask)  # raises Expired if that is why
        if answer.status != 201:
            raise Wrong(f"a final upload was answered with {answer}")
        self._final.learn(answer)
        self._final.path = "/" + answer.headers["location"].partition("://")[2].partition("/")[2]

    def _wait(self, length: int) -> None:
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            answer = self._place.ask_until("HEAD", self._final.path, {200, 410})
            if answer.status == 410:
                self._final.check_expired(answer)
            if answer.headers.get("upload-offset") == str(length):
                return
            time.sleep(0.05)
        raise Wrong(f"{self._final.path} was never assembled: {answer}")


def _one_of(source: random.Random, weights: Mapping[T, int]) -> T:
    return source.choices(list(weights), list(weights.values()))[0]
