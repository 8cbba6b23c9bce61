"""A proxy that can damage what is on its way to the server, besides cutting and holding."""

from tests.interop.proxy import CuttingProxy, Stop
from tests.serving import Served


class DamagingProxy(CuttingProxy):
    """See `CuttingProxy`.

    Attributes:
        page: The URL of the server's page, by way of this proxy.
        spoils_heads: Whether every `HEAD` asks for a version that no server has.
    """

    def __init__(self, server: Served) -> None:
        self.spoils_heads = False
        self._damaged: int | None = None
        super().__init__(server.port)
        self.page = self.url(server.url).removesuffix("files/")

    def damage_after(self, count: int) -> None:
        """Flips a bit of the byte that comes after so many from now on."""
        self._damaged = self.passed + count

    def _admit(self, data: bytes) -> tuple[bytes, bytes, Stop | None]:
        before = self.passed
        now, rest, stop = super()._admit(data)
        at = self._damaged
        if at is not None and before <= at < before + len(now):
            self._damaged = None
            flipped = bytearray(now)
            flipped[at - before] ^= 1
            now = bytes(flipped)
        if self.spoils_heads and now.startswith(b"HEAD "):
            now = now.replace(b"Resumable: 1.0.0", b"Resumable: 9.0.0")
        return now, rest, stop
