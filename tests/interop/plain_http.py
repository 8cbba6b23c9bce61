"""What anybody may ask of a tus server with an ordinary HTTP client."""

import base64
from pathlib import Path

import httpx

from tests.serving import eventually

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_STREAM = "application/offset+octet-stream"


def asked(
    method: str, url: str, headers: dict[str, str] | None = None, content: bytes | None = None
) -> httpx.Response:
    """One request on a connection of its own; no proxy, no redirect is followed."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.request(method, url, headers=headers, content=content)


def download(url: str) -> bytes:
    """The stored bytes, as a browser gets them: GET, and nothing about tus."""
    answer = asked("GET", url)
    assert answer.status_code == 200, answer.text
    return answer.content


def head(url: str) -> httpx.Response:
    """The state of an upload."""
    answer = asked("HEAD", url, TUS)
    assert answer.status_code == 200, (answer.status_code, answer.headers)
    return answer


def offset(url: str) -> int:
    """How many bytes the server says it has."""
    return int(head(url).headers["Upload-Offset"])


def metadata(url: str) -> dict[str, str]:
    """The decoded metadata that the server keeps."""
    pairs = (pair.strip().partition(" ") for pair in metadata_header(url).split(","))
    return {key: base64.b64decode(value).decode() for key, _, value in pairs if key}


def metadata_header(url: str) -> str:
    """The metadata exactly as the server echoes them."""
    found: str = head(url).headers.get("Upload-Metadata", "")
    return found


def create(endpoint: str, length: int, **headers: str) -> str:
    """A new upload's URL; `Upload_Metadata=...` stands for `Upload-Metadata: ...`."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = asked("POST", endpoint, {**TUS, "Upload-Length": str(length), **more})
    assert answer.status_code == 201, answer.text
    location: str = answer.headers["Location"]
    return location


def append(url: str, at: int, content: bytes, **headers: str) -> httpx.Response:
    """One PATCH; names of headers as in `create`."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {**TUS, "Content-Type": OFFSET_STREAM, "Upload-Offset": str(at), **more}
    return asked("PATCH", url, sent, content)


def stored_bytes(upload_dir: Path) -> int:
    """The size of the largest file of an upload: what has reached the disk by now."""
    files = (path for path in upload_dir.glob("data/*/*") if path.is_file())
    return max((path.stat().st_size for path in files), default=0)


def wait_for_stored(upload_dir: Path, count: int) -> None:
    """Waits until a file holds `count` bytes, without asking the server."""
    eventually(f"{count} bytes on the disk", lambda: stored_bytes(upload_dir) >= count, within=20)
