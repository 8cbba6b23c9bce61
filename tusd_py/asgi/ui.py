"""The page for a browser, as its build left it; see `web/`.

The rules:
- Nothing is made up here but the endpoint, and that is relative to where the page is: it holds
  behind a proxy that serves us below another path, too.
- What has a hash of its content in its name never changes, and is kept for a year. The page and the
  script for other people's pages have names that stay: they are asked for again each time, and
  answered with 304 while they are the same.
- The page loads nothing from another host, and runs nothing that is not a file of ours.
- A file is read when it is first asked for: a server that nobody looks at holds none of them.
"""

import hashlib
import html
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

FILES_PATH = "/ui/"
"""Where the files of the page are; `web/vite.config.ts` has it too."""

_PACKAGE = Path(__file__).parent.parent
_PLACES = (_PACKAGE / "page", _PACKAGE.parent / "web" / "dist")
"""In an installation, and in a checkout."""

_INDEX = "index.html"
_ENDPOINT = b"%ENDPOINT%"
"""Stands in the page for where uploads go, relative to it."""

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "connect-src 'self' blob:",  # an editor reads in a picture how it is turned
        "img-src 'self' blob: data:",  # previews, and the icons in the styles
        "media-src 'self' blob:",  # what a camera took
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
_OF_ANY = {"X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding"}
_OF_THE_PAGE = {
    **_OF_ANY,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
}
_OF_FILES = {
    **_OF_ANY,
    "Cache-Control": "no-cache",
    # A page of another host may run them: a script that imports others needs their host's consent.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_OF_HASHED = {**_OF_FILES, "Cache-Control": "public, max-age=31536000, immutable"}


def find_page() -> Path | None:
    """The folder with the page, None if it was not built."""
    return next((place for place in _PLACES if (place / _INDEX).is_file()), None)


def build_ui(folder: Path | None, endpoint: str) -> list[Route]:
    """The page at `/`, and its files at `FILES_PATH`; without it, a sentence that says so.

    Args:
        folder: See `find_page`.
        endpoint: The path of the uploads, with slashes at both ends.
    """
    if folder is None:
        return [Route("/", _say_that_it_is_missing(endpoint))]
    relative = html.escape(endpoint.removeprefix("/")).encode()
    page = _File(folder / _INDEX, _OF_THE_PAGE, relative)
    return [Route("/", page.answer), *_files(folder / FILES_PATH.strip("/"))]


def _files(folder: Path) -> list[Route]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".gz"]
    return [
        Route(
            FILES_PATH + path.relative_to(folder).as_posix(),
            _File(path, _OF_FILES if path.parent == folder else _OF_HASHED).answer,
        )
        for path in paths
    ]


def _say_that_it_is_missing(endpoint: str) -> Callable[[Request], Awaitable[Response]]:
    text = (
        f"This is tusd-py. Send uploads with a tus client to {endpoint}\n"
        "Its page for browsers is not installed: when the package was built, the npm registry "
        "could not be reached. Install it again where it can be, or use --no-ui.\n"
    )

    async def answer(_: Request) -> Response:
        return PlainTextResponse(text)

    return answer


class _File:
    """One file of the build, and its compressed form if that lies beside it."""

    def __init__(self, path: Path, headers: dict[str, str], endpoint: bytes = b"") -> None:
        self._paths = {"": path}
        compressed = path.with_name(path.name + ".gz")
        if compressed.exists():
            self._paths["gzip"] = compressed
        self._headers = headers
        self._endpoint = endpoint
        self._media_type = mimetypes.guess_type(path.name)[0]
        self._read: dict[str, bytes] = {}

    async def answer(self, request: Request) -> Response:
        """Whole, or 304."""
        accepted = (
            entry.strip() for entry in request.headers.get("accept-encoding", "").split(",")
        )
        encoding = "gzip" if "gzip" in {*accepted} & {*self._paths} else ""
        if encoding not in self._read:
            self._read[encoding] = await anyio.to_thread.run_sync(self._load, encoding)
        content = self._read[encoding]
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**self._headers, "ETag": tag}
        if encoding:
            headers["Content-Encoding"] = encoding
        known = (entry.strip() for entry in request.headers.get("if-none-match", "").split(","))
        if tag in {entry.removeprefix("W/") for entry in known}:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=self._media_type)

    def _load(self, encoding: str) -> bytes:
        return self._paths[encoding].read_bytes().replace(_ENDPOINT, self._endpoint)
