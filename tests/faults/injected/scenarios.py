"""What is done to a server while faults are injected: a few hundred milliseconds each.

A scenario is written as its client sees it: `Sender` deals with answers that are lost or refused.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.asgi.raw import Raw
from tests.faults.injected.application import EXPIRES_AFTER
from tests.faults.injected.sender import TRIES, Broken, Sender, Sent
from tests.faults.injected.served import WatchedServer
from tests.serving import eventually

KIB = 1024
SMALL = 16 * KIB
LARGE = 700 * KIB
ROOMY = 3 << 20
NAME = "filename cmVwb3J0LnBkZg=="  # report.pdf


@dataclass(frozen=True, kw_only=True)
class Run:
    """One time through a scenario."""

    server: WatchedServer
    client: Sender


Work = Callable[[Run], None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A way to use the server.

    Attributes:
        work: What the client does, and checks in the end.
        flags: For `tusd-py serve`.
        application: See `WatchedServer`.
        since_start: Whether the calls count from the process's first one on.
    """

    name: str
    work: Work
    flags: tuple[str, ...] = ()
    application: str | None = None
    since_start: bool = False

    @property
    def template(self) -> str | None:
        """Where finished files lie, if the server is told."""
        return self.flags[1] if self.flags[:1] == ("--file-template",) else None

    def server(self, directory: Path, fsync: str) -> WatchedServer:
        """Not started yet."""
        return WatchedServer(
            upload_dir=directory, flags=self.flags, fsync=fsync, application=self.application
        )


def plain(run: Run) -> None:
    sent = run.client.create(LARGE)
    run.client.send(sent, [300 * KIB])
    run.client.check_whole(sent)


def small(run: Run) -> None:
    sent = run.client.create(SMALL)
    run.client.send(sent, [SMALL])
    run.client.check_whole(sent)


def small_steps(run: Run) -> None:
    sent = run.client.create(SMALL)
    run.client.send(sent, [5000])
    run.client.check_whole(sent)


def slow_steps(run: Run) -> None:
    sent = run.client.create(LARGE)
    for end in (200 * KIB, 400 * KIB):
        run.client.ask("PATCH", sent.path, *_piece(sent, end))
        run.client.where(sent)
        time.sleep(1.2)  # the server looks once a second for what it has not synced
    run.client.send(sent, [LARGE])
    run.client.check_whole(sent)


def _piece(sent: Sent, end: int) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(sent.told)}
    return headers, bytes(sent.content[sent.told : end])


def broken_off(run: Run) -> None:
    """On ext4 room is made for all of it, and most of that is given back."""
    sent = run.client.create(ROOMY)
    with suppress(OSError):  # the server was killed
        raw = Raw(run.server.port)
        raw.patch(sent.path, 0, ROOMY)
        raw.offer(bytes(sent.content[:LARGE]))
        raw.socket.close()
    run.client.where(sent)
    run.client.send(sent, [ROOMY])
    run.client.check_whole(sent)


def _with_upload(size: int) -> Work:
    def work(run: Run) -> None:
        content = hashlib.shake_256(str(time.monotonic_ns()).encode()).digest(size)
        sent = run.client.create(size, content=content)
        run.client.send(sent, [size])
        run.client.check_whole(sent)

    return work


def checksummed(run: Run) -> None:
    for size, piece in ((SMALL, 9000), (LARGE, 400 * KIB)):
        sent = run.client.create(size)
        run.client.send(sent, [piece], checksum=True)
        run.client.check_whole(sent)


def deferred(run: Run) -> None:
    sent = run.client.create(LARGE, defer=True)
    run.client.send(sent, [400 * KIB], declares=True)
    run.client.check_whole(sent)


def _final(run: Run, parts: list[Sent]) -> Sent:
    urls = " ".join(part.path for part in parts)
    length = sum(part.length for part in parts)
    return run.client.create(length, Upload_Concat=f"final;{urls}")


def concatenated(run: Run) -> None:
    parts = [run.client.create(size, Upload_Concat="partial") for size in (SMALL, LARGE)]
    for part in parts:
        run.client.send(part, [500 * KIB])
    final = _final(run, parts)
    final.content = parts[0].content + parts[1].content
    run.client.check_whole(final)


def unfinished_final(run: Run) -> None:
    parts = [run.client.create(size, Upload_Concat="partial") for size in (SMALL, LARGE)]
    final = _final(run, parts)
    for part in parts:
        run.client.send(part, [500 * KIB])
    final.content = parts[0].content + parts[1].content
    final.stops = {0, final.length}
    eventually("the final is assembled", lambda: run.client.where(final) == final.length)
    run.client.check_whole(final)


def terminated(run: Run) -> None:
    unfinished, finished = (run.client.create(LARGE) for _ in range(2))
    run.client.send(finished, [LARGE])
    run.client.ask("PATCH", unfinished.path, *_piece(unfinished, 999))
    for sent in (unfinished, finished):
        run.client.delete(sent)
        _check_gone(run, sent)


def _check_gone(run: Run, sent: Sent) -> None:
    status = run.client.head(sent.path).status
    if status not in (404, 410):
        raise Broken(f"what was removed answers {status}")
    was_told = any(told.method == "DELETE" and told.status >= 500 for told in run.client.exchanges)
    if not run.server.revive() and was_told and files_of(run.server.upload_dir, sent.id):
        # The next sweep removes it, in ten minutes or at the next start.
        run.server.restart()
    eventually("the file is removed", lambda: not files_of(run.server.upload_dir, sent.id))


def files_of(directory: Path, upload_id: str) -> list[Path]:
    """Files that are named after an upload."""
    return [path for path in directory.glob("data/*/*") if path.name == upload_id]


def expired(run: Run) -> None:
    sent = run.client.create(LARGE)
    run.client.ask("PATCH", sent.path, *_piece(sent, 5000))
    time.sleep(EXPIRES_AFTER + 0.05)
    for _ in range(TRIES):
        answer = run.client.ask("POST", "/sweep", {})
        if answer is not None and answer.status == 200:
            break
    _check_gone(run, sent)
    _check_told(run, sent, "expired")


def _check_told(run: Run, sent: Sent, what: str) -> None:
    def is_told() -> bool:
        run.server.revive()
        return any(line[:2] == [what, sent.id] for line in told_lines(run.server))

    eventually(f"the application is told that {sent.id} is {what}", is_told)


def told_lines(server: WatchedServer) -> list[list[str]]:
    """What the application was told, in order."""
    return [line.split() for line in server.told.read_text().splitlines()]


def _check_finish_told(run: Run, sent: Sent) -> None:
    lines = [line for line in told_lines(run.server) if line[1] == sent.id]
    digest = hashlib.sha256(sent.content).hexdigest()
    if not lines or {line[0] for line in lines} != {"finish"}:
        raise Broken(f"the application was told {lines} of a finished upload")
    if lines[0][2] != digest or not {line[2] for line in lines} <= {digest, "taken"}:
        raise Broken("on_finish saw other bytes than were sent")


def with_hook(run: Run) -> None:
    for size in (SMALL, LARGE):
        sent = run.client.create(size)
        run.client.send(sent, [size])
        run.client.check_whole(sent)
        _check_finish_told(run, sent)
    run.client.delete(sent)
    _check_told(run, sent, "terminated")
    whats = [line[0] for line in told_lines(run.server) if line[1] == sent.id]
    if "finish" in whats[whats.index("terminated") :]:
        raise Broken(f"told out of order: {whats}")


def taken(run: Run) -> None:
    for size in (SMALL, LARGE):
        sent = run.client.create(size)
        run.client.send(sent, [size])
        if run.client.where(sent) != sent.length:
            raise Broken(f"it was finished, and stands at {sent.told}")
        _check_finish_told(run, sent)
        if (run.server.taken / sent.id).read_bytes() != sent.content:
            raise Broken("what the application took differs from what was sent")
        if files_of(run.server.upload_dir, sent.id):
            raise Broken("what was taken is still there")


def templated(run: Run) -> None:
    for size in (SMALL, LARGE):
        sent = run.client.create(size, Upload_Metadata=NAME)
        run.client.send(sent, [size])
        run.client.check_whole(sent)
        found = [path.read_bytes() for path in run.server.upload_dir.glob("files/*/*/*")]
        if found.count(bytes(sent.content)) != 1:
            raise Broken("the finished file does not lie once where the template says")
        if files_of(run.server.upload_dir, sent.id):
            raise Broken("the finished file still lies where it was written")


_LISTED = (
    Scenario(name="plain", work=plain),
    Scenario(name="small", work=small),
    Scenario(name="small-steps", work=small_steps),
    Scenario(name="small-with-upload", work=_with_upload(SMALL)),
    Scenario(name="large-with-upload", work=_with_upload(LARGE)),
    Scenario(name="checksummed", work=checksummed),
    Scenario(name="deferred", work=deferred),
    Scenario(name="concatenated", work=concatenated),
    Scenario(name="unfinished-final", work=unfinished_final),
    Scenario(name="terminated", work=terminated),
    Scenario(name="expired", work=expired, application="expire"),
    Scenario(name="templated", work=templated, flags=("--file-template", "{yyyy}/{mm}/{filename}")),
    Scenario(name="broken-off", work=broken_off),
    Scenario(name="hooked", work=with_hook, application="finish"),
    Scenario(name="taken", work=taken, application="take"),
    Scenario(name="slow-steps", work=slow_steps, application="sync"),
    Scenario(name="first-start", work=small, since_start=True),
)
SCENARIOS = {scenario.name: scenario for scenario in _LISTED}
MODES = ("never", "complete", "always")
