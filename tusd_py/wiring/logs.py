"""How the log looks."""

import functools
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from tusd_py.asgi.request_log import Line, LineHandler


class _Formatter(logging.Formatter):
    """Makes a line of what a record says."""

    def __init__(self, build: Callable[[Line], str]) -> None:
        super().__init__()
        self.build = build

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line = Line(
            created=record.created,
            level=record.levelname,
            message=record.getMessage(),
            request_id=record.__dict__.get("request_id") or "",
            upload_id=record.__dict__.get("upload_id") or "",
            milliseconds=record.__dict__.get("milliseconds"),
            exception=self.formatException(record.exc_info) if record.exc_info else None,
        )
        return self.build(line)


def _build_json(line: Line) -> str:
    """One JSON object a line."""
    said: dict[str, object] = {
        "time": _moment("%Y-%m-%dT%H:%M:%S%z", int(line.created)),
        "level": line.level.lower(),
        "message": line.message,
    }
    if line.request_id:
        said["request_id"] = line.request_id
    if line.upload_id:
        said["upload_id"] = line.upload_id
    if line.milliseconds is not None:
        said["milliseconds"] = line.milliseconds
    if line.exception is not None:
        said["exception"] = line.exception
    return json.dumps(said)


def _build_text(line: Line) -> str:
    """One line for people; and below it what went wrong, where something did."""
    created, level, message, request_id, upload_id, _, exception = line
    second = int(created)
    moment = _moment("%Y-%m-%d %H:%M:%S", second)
    text = f"{moment},{int((created - second) * 1000):03} {level} {message}"
    if request_id:
        text += f" request_id={request_id}"
    if upload_id:
        text += f" upload_id={upload_id}"
    return text if exception is None else f"{text}\n{exception}"


@functools.lru_cache(maxsize=2)
def _moment(form: str, second: int) -> str:
    """A second of local time, since thousands of lines may have the same."""
    return time.strftime(form, time.localtime(second))


class _ToStderr(LineHandler):
    """Python writes each line of stderr when it ends, and so need not be told to."""

    def __init__(self, stream: TextIO, formatter: _Formatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._build = formatter.build

    def write(self, line: Line) -> None:
        """See `LineHandler.write`."""
        text = self._build(line) + self.terminator
        assert self.lock is not None, "it is made with the handler"
        with self.lock:
            self.stream.write(text)

    def flush(self) -> None:
        """See `logging.Handler.flush`."""


_BUILDS = {"text": _build_text, "json": _build_json}

_NOISY = ("uvicorn", "asyncio", "httpx", "httpcore", "aiobotocore", "botocore", "urllib3")
"""What others log below a warning is no help; botocore's has signatures that work for a while."""


def configure_logging(log_format: str, level: str) -> None:
    """Sends the log to stderr.

    Args:
        log_format: `text` or `json`.
        level: Such as `info`.
    """
    handler = _ToStderr(sys.stderr, _Formatter(_BUILDS[log_format]))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
