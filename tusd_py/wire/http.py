"""HTTP/1.1 as our own server speaks it: uvicorn's protocol class, without its surprises."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """Drops trailers: uvicorn puts those that came early among the headers of the request.

    A proxy that checks or removes headers does not look at trailers, so what comes there must not
    pass for one (RFC 9110, 6.5.1).
    """

    _head_is_complete = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_is_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """What comes from now on is the body, or a trailer."""
        self._head_is_complete = True
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if not self._head_is_complete:
            super().on_header(name, value)
