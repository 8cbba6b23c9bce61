"""What the server announces in its answer to OPTIONS ("Core Protocol, OPTIONS")."""

from dataclasses import dataclass

from tusd_py.client.errors import Unsuitable
from tusd_py.client.link import Answer, Link
from tusd_py.client.patience import Patience
from tusd_py.protocol.headers import TUS_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The abilities of a tus server.

    Args:
        extensions: as in `Tus-Extension`.
        algorithms: as in `Tus-Checksum-Algorithm`.
        max_size: bytes per upload; None when there is no limit, or it is not told.
    """

    extensions: frozenset[str]
    algorithms: tuple[str, ...] = ()
    max_size: int | None = None

    def require(self, extension: str, what_for: str) -> None:
        """Raises `Unsuitable` when the extension is not announced."""
        if extension not in self.extensions:
            raise Unsuitable(f"the server does not support {what_for}: it lacks {extension!r}")

    def require_algorithm(self, algorithm: str) -> None:
        """Raises `Unsuitable` when checksums, or this kind of them, are not announced."""
        self.require("checksum", "--checksum")
        if algorithm not in self.algorithms:
            offers = ", ".join(self.algorithms) or "none"
            raise Unsuitable(f"the server does not support {algorithm} checksums, only {offers}")

    def require_room_for(self, size: int) -> None:
        """Raises `Unsuitable` when an upload of this many bytes would be refused."""
        if self.max_size is not None and size > self.max_size:
            raise Unsuitable(
                f"the file has {size} bytes, and the server takes at most {self.max_size}"
            )


def discover(link: Link, endpoint: str, patience: Patience) -> Server:
    """Asks the server what it can do, for as long as it does not answer.

    Raises:
        Passing: it did not answer in time.
        Refused: it is no tus server, or does not want us.
        Unsuitable: it speaks no version that we speak.
        Stopped: the user did not want to wait.
    """
    # "The Client SHOULD NOT include the Tus-Resumable header in the request."
    return patience.through(lambda: parse_server(link.ask("OPTIONS", endpoint, {})))


def parse_server(answer: Answer) -> Server:
    """Reads the answer to OPTIONS.

    Raises:
        NotNow, Refused, Unsuitable: see `discover`.
    """
    if answer.status not in (200, 204):
        raise answer.refusal()
    versions = _items(answer, "Tus-Version") or _items(answer, "Tus-Resumable")
    if not versions:
        raise Unsuitable("there is no tus server at this URL: it announces no Tus-Version")
    if TUS_VERSION not in versions:
        raise Unsuitable(f"the server speaks tus {', '.join(versions)}, not {TUS_VERSION}")
    server = Server(
        extensions=frozenset(_items(answer, "Tus-Extension")),
        algorithms=_items(answer, "Tus-Checksum-Algorithm"),
        max_size=answer.number("Tus-Max-Size"),
    )
    server.require("creation", "new uploads")
    return server


def _items(answer: Answer, name: str) -> tuple[str, ...]:
    items = (item.strip() for item in answer.headers.get(name, "").split(","))
    return tuple(item for item in items if item)
