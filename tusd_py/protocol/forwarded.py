"""Where the client believes this server to be: the base of every absolute `Location`."""

from functools import lru_cache
from typing import NamedTuple

from tusd_py.protocol import abnf
from tusd_py.protocol.headers import Headers


class Origin(NamedTuple):
    """`scheme` and `host` (with its port) of a URL, and a path `prefix` that a proxy removed."""

    scheme: str
    host: str
    prefix: str = ""

    def url(self, path: str) -> str:
        """The absolute URL of a path on this server."""
        return f"{self.scheme}://{self.host}{self.prefix}{path}"


def parse_origin(headers: Headers, scheme: str, host: str, *, behind_proxy: bool) -> Origin:
    """The origin as the client sees it.

    Args:
        headers: Of the request.
        scheme: Of the connection that reached us.
        host: Of the socket that reached us, for a client that sent no usable `Host`.
        behind_proxy: Whether `Forwarded` (RFC 7239) and `X-Forwarded-Host`, `-Proto`, `-Port` and
            `-Prefix` are trusted; anyone can send them.
    """
    own = Origin(scheme, _host(headers.first("Host")) or host)
    return _forwarded(headers, own) if behind_proxy else own


def _forwarded(headers: Headers, own: Origin) -> Origin:
    standard = _parse_forwarded(headers.joined("Forwarded"))
    port = _first(headers, "X-Forwarded-Port")
    scheme = (standard.get("proto") or _first(headers, "X-Forwarded-Proto")).lower()
    forwarded = _host(standard.get("host")) or _host(_first(headers, "X-Forwarded-Host"))
    host = forwarded or own.host
    if port.isascii() and port.isdigit() and len(port) <= 5 and not _has_port(host):
        host = host if port in ("80", "443") else f"{host}:{port}"
    prefix = _first(headers, "X-Forwarded-Prefix").rstrip("/")
    segments = prefix.split("/")[1:]
    usable = prefix.startswith("/") and all(abnf.TOKEN.fullmatch(part) for part in segments)
    return Origin(
        scheme=scheme if scheme in ("http", "https") else own.scheme,
        host=host,
        prefix=prefix if usable else "",
    )


@lru_cache(maxsize=256)
def _host(value: str | None) -> str:
    return value if value and abnf.HOST.fullmatch(value) else ""


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _first(headers: Headers, name: str) -> str:
    """The entry that the outermost proxy made."""
    return (headers.first(name) or "").partition(",")[0].strip()


def _parse_forwarded(value: str) -> dict[str, str]:
    """The parameters of the first element of `Forwarded`, by lower-case name."""
    pairs = (pair.partition("=") for pair in value.partition(",")[0].split(";"))
    return {name.strip().lower(): text.strip().strip('"') for name, _, text in pairs}
