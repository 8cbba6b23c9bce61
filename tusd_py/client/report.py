"""What the user sees: URLs on stdout, everything else on stderr."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tusd_py.client.errors import Passing, SendError
from tusd_py.client.sending import Sent
from tusd_py.client.transfer import Meter


@dataclass(slots=True, kw_only=True)
class _Bar:
    """One line of progress; moved by several threads."""

    progress: Progress
    task: TaskID
    completed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def moved(self, count: int) -> None:
        with self.lock:
            self.completed += count
            self.progress.update(self.task, completed=self.completed)

    def placed(self, difference: int) -> None:
        # A step that the network did not make must not count as speed.
        with self.lock:
            self.completed += difference
            self.progress.reset(self.task, completed=self.completed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bars:
    """The bars that one file moves: its own, and that of the whole run; or none at all."""

    bars: tuple[_Bar, ...] = ()

    def moved(self, count: int) -> None:
        """See `Meter`."""
        for bar in self.bars:
            bar.moved(count)

    def placed(self, difference: int) -> None:
        """See `Meter`."""
        for bar in self.bars:
            bar.placed(difference)


class Report:
    """Writes for the user; from any thread.

    Args:
        as_json: one object a line for each finished upload, instead of its URL.
        quiet: no progress; trouble is still told.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self._progress = None if quiet or not sys.stderr.isatty() else _progress()
        self._whole: tuple[_Bar, ...] = ()

    @contextlib.contextmanager
    def shown(self, files: int, size: int) -> Iterator[None]:
        """Shows the progress while files are being sent.

        Args:
            files: how many.
            size: bytes of all of them.
        """
        if self._progress is None:
            yield
            return
        if files > 1:
            self._whole = (self._bar(self._progress, f"{files} files", size),)
        with self._progress:
            yield

    @contextlib.contextmanager
    def sending(self, name: str, size: int | None) -> Iterator[Meter]:
        """Shows one file while it is being sent.

        Args:
            name: of the file.
            size: bytes; None when nobody knows.
        """
        if self._progress is None:
            yield _Bars()
            return
        bar = self._bar(self._progress, name, size)
        try:
            yield _Bars(bars=(bar, *self._whole))
        finally:
            if self._whole:
                self._progress.remove_task(bar.task)

    @staticmethod
    def _bar(progress: Progress, name: str, size: int | None) -> _Bar:
        return _Bar(progress=progress, task=progress.add_task(name, total=size))

    def finished(self, sent: Sent) -> None:
        """An upload is complete: its line on stdout."""
        line = json.dumps(asdict(sent)) if self._as_json else sent.url
        with self._lock:
            if self._progress is not None and sys.stdout.isatty():
                self._print_above_the_bars(line)
            else:
                click.echo(line)

    def waiting(self, name: str, trouble: Passing) -> None:
        """Something went wrong that may be over soon."""
        self.say(f"{name}: {trouble}; trying again")

    def failed(self, name: str, error: SendError) -> None:
        """A file is given up."""
        self.say(f"{name}: {error}")

    def say(self, text: str) -> None:
        """A line on stderr."""
        with self._lock:
            if self._progress is not None:
                self._print_above_the_bars(text)
            else:
                click.echo(text, err=True)

    def _print_above_the_bars(self, text: str) -> None:
        assert self._progress is not None
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )
