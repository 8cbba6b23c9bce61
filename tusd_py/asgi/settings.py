"""What an embedder, or the command line, says of how requests are read and answered."""

from dataclasses import dataclass, field

from tusd_py.protocol.cors import CorsPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How requests are read and answered.

    Attributes:
        cors: Which pages may call.
        behind_proxy: Whether the headers that a proxy sets are trusted.
        trusted_proxies: From which addresses then; None for all, where something before the
            application has put the client's address in its place already, as uvicorn does.
        max_requests: Requests per second of one client, ten seconds' worth of them at once, None
            for no limit. `HEAD` and `OPTIONS` are always answered.
        network_timeout: Seconds without a byte of a body after which it ends.
        slowest_speed: Bytes per second, averaged over about half a minute, below which a body ends;
            0 for no limit.
        websockets: Whether events are told, and commands taken, by WebSockets too. A middleware
            that looks at requests alone, as most do, guards none of them: `authorize` does.
    """

    cors: CorsPolicy = field(default_factory=CorsPolicy)
    behind_proxy: bool = False
    trusted_proxies: tuple[str, ...] | None = None
    max_requests: float | None = None
    network_timeout: float = 60.0
    slowest_speed: float = 100.0
    websockets: bool = False
