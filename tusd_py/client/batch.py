"""Many files at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO

import click

from tusd_py.client.errors import FileUnreadable, Passing, SendError, Stopped
from tusd_py.client.files import Found, find, total_size
from tusd_py.client.link import Access, Link
from tusd_py.client.patience import Patience
from tusd_py.client.report import Report
from tusd_py.client.sending import Manner, Sender, Sent
from tusd_py.client.server import discover
from tusd_py.client.threads import run_all
from tusd_py.client.transfer import Meter


@dataclass(slots=True, kw_only=True)
class Batch:
    """All that one command sends.

    Args:
        manner: how.
        access: to the server.
        report: to the user.
        jobs: files at once.
        stop: set upon Ctrl-C; nothing is sent after it.
    """

    manner: Manner
    access: Access
    report: Report
    jobs: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
    failed: list[str] = field(default_factory=list, init=False)  # append: from any thread

    def send(self, paths: list[Path], pipe: BinaryIO | None = None) -> bool:
        """Sends files, folders and at most one pipe; returns whether all of them arrived.

        Raises:
            SendError: the server cannot be used at all.
            KeyboardInterrupt: the user stopped it; all threads were told.
        """
        sender = self._sender(pipe)
        files = list(find(paths, self._unlisted))
        queue: SimpleQueue[Found | BinaryIO] = SimpleQueue()
        for found in files:
            queue.put(found)
        if pipe is not None:
            queue.put(pipe)
        count = min(self.jobs, queue.qsize())
        with self.report.shown(queue.qsize(), total_size(files)):
            run_all([partial(self._work, sender, queue)] * count, self.stop)
        return not self.failed

    def _sender(self, pipe: BinaryIO | None) -> Sender:
        endpoint = self.manner.endpoint
        patience = Patience(
            retry_for=self.manner.retry_for,
            stop=self.stop,
            notice=partial(self.report.waiting, endpoint),
        )
        with Link(self.access) as link:
            server = discover(link, endpoint, patience)
        self.manner.require(server, pipe=pipe is not None)
        return Sender(manner=self.manner, server=server, access=self.access, stop=self.stop)

    def _work(self, sender: Sender, queue: "SimpleQueue[Found | BinaryIO]") -> None:
        """One thread: sends what is next, over one connection, until nothing is left."""
        with Link(self.access) as link:
            while not self.stop.is_set():
                try:
                    item = queue.get_nowait()
                except Empty:
                    return
                self._send_one(sender, item, link)

    def _send_one(self, sender: Sender, item: Found | BinaryIO, link: Link) -> None:
        if isinstance(item, Found):
            name, size = click.format_filename(item.path), total_size([item])
            send: Callable[[Meter, Callable[[Passing], None]], Sent] = partial(
                sender.send_file, item, link
            )
        else:
            name, size = "-", None
            send = partial(sender.send_pipe, item, link)
        try:
            with self.report.sending(name, size) as meter:
                sent = send(meter, partial(self.report.waiting, name))
        except Stopped:
            return
        except SendError as error:
            self._failed(name, error)
        else:
            self.report.finished(sent)

    def _unlisted(self, path: Path, error: FileUnreadable) -> None:
        self._failed(click.format_filename(path), error)

    def _failed(self, name: str, error: SendError) -> None:
        self.failed.append(name)
        self.report.failed(name, error)
