"""How the log looks."""

import json
import logging
import sys


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for name in ("request_id", "upload_id", "milliseconds"):
            if (value := getattr(record, name, None)) not in (None, ""):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _TextLines(logging.Formatter):
    """One line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        found = ((name, getattr(record, name, None)) for name in ("request_id", "upload_id"))
        return super().format(record) + "".join(f" {name}={text}" for name, text in found if text)


_NOISY = ("uvicorn", "asyncio", "httpx", "httpcore", "aiobotocore", "botocore", "urllib3")
"""What others log below a warning is no help; botocore's has signatures that work for a while."""


def configure_logging(log_format: str, level: str) -> None:
    """Sends the log to stderr.

    Args:
        log_format: `text` or `json`.
        level: Such as `info`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
