"""The server under test, as one case sees it: requests to make, uploads to clean up."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tus_conformance import expect
from tus_conformance.verdict import NotApplicable, Violation
from tus_conformance.wire import Answer, Fields, Url, Wire, compose

VERSION = "1.0.0"
OFFSET_TYPE = "application/offset+octet-stream"
ORIGIN = "https://tus-conformance.example"
NAMED = (
    "Upload-Metadata",
    "filename dHVzLWNvbmZvcm1hbmNlLmJpbg==,filetype YXBwbGljYXRpb24vb2N0ZXQtc3RyZWFt",
)
"""A file name and type, for servers that find no upload without."""

Field = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to speak with the server.

    Attributes:
        url: The upload creation URL.
        headers: Fields that go with every request, such as Authorization.
        timeout: How long one answer may take, in seconds.
        limit: How long one case may take, in seconds.
        pace: Factor for the pauses that give the server time to read; less is faster.
        origin: What a browser would send as Origin.
    """

    url: Url
    headers: tuple[Field, ...] = ()
    timeout: float = 5.0
    limit: float = 15.0
    pace: float = 1.0
    origin: str = ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the server announced in its answer to OPTIONS, and what it needs unannounced.

    Attributes:
        options: That answer.
        extensions: The elements of Tus-Extension.
        max_size: Tus-Max-Size in bytes; None when absent or malformed.
        algorithms: The elements of Tus-Checksum-Algorithm.
        metadata: What POST has to carry for HEAD to find the upload; nothing at most servers.
    """

    options: Answer
    extensions: frozenset[str] = frozenset()
    max_size: int | None = None
    algorithms: tuple[str, ...] = ()
    metadata: tuple[Field, ...] = ()

    @classmethod
    def of(cls, options: Answer) -> "Features":
        """Reads the announcement leniently: what is wrong with it is for cases to say."""
        size = (options.get("Tus-Max-Size") or "").strip()
        return cls(
            options=options,
            extensions=frozenset(_split(options.get("Tus-Extension"))),
            max_size=int(size) if expect.INTEGER.match(size) else None,
            algorithms=_split(options.get("Tus-Checksum-Algorithm")),
        )


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


@dataclass(slots=True, kw_only=True)
class Tus:
    """One case's view of the server.

    Attributes:
        settings: How to speak with it.
        features: What it announced.
        log: What was sent and what came, for the report.
        patience: Factor for the time an answer may take, where a server may have to wait itself.
    """

    settings: Settings
    features: Features
    log: list[str] = field(default_factory=list)
    deadline: float = 0.0
    patience: float = 1.0
    _wires: list[Wire] = field(default_factory=list)
    _uploads: list[Url] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.settings.limit

    @property
    def url(self) -> Url:
        """The upload creation URL."""
        return self.settings.url

    # -- requests ---------------------------------------------------------------------------

    def fields(self, url: Url, *extra: Field, version: str | None = VERSION) -> list[Field]:
        """The header fields of an ordinary request, and then these."""
        always: list[Field] = [("Host", url.authority), *self.settings.headers]
        return [*always, *([("Tus-Resumable", version)] if version else []), *extra]

    def connect(self, url: Url | None = None) -> Wire:
        """A new connection, closed at the end of the case."""
        wire = Wire(
            url or self.url,
            timeout=self.settings.timeout * self.patience,
            deadline=self.deadline,
            record=self.log.append,
        )
        self._wires.append(wire)
        return wire

    def exchange(self, url: Url, head: bytes, body: bytes, method: str) -> Answer:
        """Sends bytes on a connection of their own and reads the answer."""
        wire = self.connect(url)
        try:
            wire.send(head + body)
            return wire.read(method)
        finally:
            wire.close()

    def ask(
        self,
        method: str,
        url: Url,
        *extra: Field,
        body: bytes | None = None,
        version: str | None = VERSION,
    ) -> Answer:
        """One request on a connection of its own; Content-Length only when there is a body."""
        fields = self.fields(url, *extra, version=version)
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        answer = self.exchange(url, compose(method, url, fields), body or b"", method)
        self.remember(answer)
        return answer

    def remember(self, answer: Answer) -> None:
        """Notes the upload that an answer to POST made, to remove it at the end."""
        location = answer.get("Location")
        if answer.status == 201 and location:
            with contextlib.suppress(ValueError):
                self._uploads.append(self.url.resolve(location))

    def post(self, *extra: Field, body: bytes = b"", version: str | None = VERSION) -> Answer:
        """A POST to the creation URL, with the metadata that the server cannot do without."""
        own = any(name == "Upload-Metadata" for name, _ in extra)
        fields = extra if own else (*extra, *self.features.metadata)
        return self.ask("POST", self.url, *fields, body=body, version=version)

    def head(self, url: Url) -> Answer:
        """A HEAD of an upload."""
        return self.ask("HEAD", url)

    def patch_fields(self, url: Url, offset: int | str, *extra: Field) -> list[Field]:
        """The header fields of a PATCH, without those that frame its body."""
        own = [("Upload-Offset", str(offset)), ("Content-Type", OFFSET_TYPE)]
        return self.fields(url, *own, *extra)

    def patch_head(self, url: Url, offset: int | str, *extra: Field) -> bytes:
        """The head of a PATCH; what frames its body is among `extra`."""
        return compose("PATCH", url, self.patch_fields(url, offset, *extra))

    def patch(self, url: Url, offset: int | str, data: bytes, *extra: Field) -> Answer:
        """A PATCH with Content-Length."""
        head = self.patch_head(url, offset, *extra, ("Content-Length", str(len(data))))
        return self.exchange(url, head, data, "PATCH")

    def chunked(self, url: Url, offset: int, body: bytes, *extra: Field) -> Answer:
        """A PATCH whose body is given in its chunked form."""
        head = self.patch_head(url, offset, ("Transfer-Encoding", "chunked"), *extra)
        return self.exchange(url, head, body, "PATCH")

    # -- uploads ----------------------------------------------------------------------------

    def create(self, length: int | None = 10, *extra: Field) -> Url:
        """A new upload; how well its creation was answered is for the creation cases to say.

        Raises:
            NotApplicable: There is none, and the server does not announce creation.
            Violation: There is none, although it does.
        """
        own = [] if length is None else [("Upload-Length", str(length))]
        answer = self.post(*own, *extra)
        location = answer.get("Location")
        if answer.ok and location:
            return self.located(location)
        if "creation" not in self.features.extensions:
            raise NotApplicable("no upload can be made: creation is not announced")
        wanted = ", ".join(f"{name}: {text}" for name, text in [*own, *extra])
        raise Violation(f"an upload to be created for this case ({wanted})", str(answer))

    def located(self, location: str) -> Url:
        """The upload that a Location names."""
        try:
            url = self.url.resolve(location)
        except ValueError as error:
            raise Violation("a Location that is a URL", repr(location)) from error
        self._uploads.append(url)
        return url

    def filled(self, data: bytes, length: int, *extra: Field) -> Url:
        """A new upload that has these bytes already."""
        url = self.create(length, *extra)
        expect.success(self.patch(url, 0, data), f"PATCH of {len(data)} bytes")
        return url

    def offset(self, url: Url) -> int:
        """What HEAD says that the server has."""
        answer = self.head(url)
        expect.success(answer, "HEAD")
        return expect.number(answer, "Upload-Offset")

    def stays(self, url: Url, offset: int) -> None:
        """Fails unless HEAD gives this offset."""
        came = self.offset(url)
        expect.that(came == offset, f"HEAD to give Upload-Offset: {offset}", f"{came}")

    def reaches(self, url: Url, offset: int, within: float = 3.0) -> None:
        """Waits for HEAD to give this offset, and then to keep it."""
        self.pause()
        self.until(lambda: self.offset(url) == offset, within)
        self.pause(0.1)
        self.stays(url, offset)

    def nowhere(self) -> Url:
        """A URL of the server's own making, changed so that no upload is there."""
        url = self.create(10)
        path, _, query = url.target.partition("?")
        stem, _, name = path.rpartition("/")
        other = "".join(
            _other(letter) if i >= len(name) - 8 else letter for i, letter in enumerate(name)
        )
        target = f"{stem}/{other}" + (f"?{query}" if query else "")
        return Url(scheme=url.scheme, host=url.host, port=url.port, target=target)

    def content(self, url: Url) -> bytes:
        """The upload's bytes, from a server that gives them out.

        Raises:
            NotApplicable: It does not; the protocol does not ask for GET.
        """
        answer = self.ask("GET", url)
        if answer.status != 200:
            raise NotApplicable(f"the bytes cannot be seen: GET of the upload answers {answer}")
        return answer.body

    def holds(self, url: Url, data: bytes) -> None:
        """Fails unless the upload's bytes are these."""
        came = self.content(url)
        expect.that(came == data, f"GET to give {data[:60]!r}", f"{came[:60]!r}")

    # -- time -------------------------------------------------------------------------------

    def pause(self, seconds: float = 0.3) -> None:
        """Gives the server time to read what was sent."""
        time.sleep(seconds * self.settings.pace)

    def until(self, holds: Callable[[], bool], within: float = 3.0) -> bool:
        """Asks again and again until it holds or the time is over."""
        stop = min(time.monotonic() + within * self.settings.pace, self.deadline)
        while not holds():
            if time.monotonic() >= stop:
                return False
            time.sleep(0.02)
        return True

    # -- the end ----------------------------------------------------------------------------

    def clean_up(self) -> None:
        """Closes the connections and removes the uploads, where the server lets us."""
        for wire in self._wires:
            wire.close()
        if "termination" not in self.features.extensions:
            return
        self.log = []
        self.deadline = time.monotonic() + self.settings.timeout
        for url in dict.fromkeys(self._uploads):
            with contextlib.suppress(Violation):
                self.ask("DELETE", url)


def _other(letter: str) -> str:
    """Another letter of the same kind, so that a made-up id is well formed."""
    for kind in ("0123456789", "abcdef", "ABCDEF", "ghijklmnopqrstuvwxyz", "GHIJKLMNOPQRSTUVWXYZ"):
        if letter in kind:
            return kind[(kind.index(letter) + 1) % len(kind)]
    return letter


__all__ = ["OFFSET_TYPE", "ORIGIN", "VERSION", "Features", "Fields", "Settings", "Tus"]
