"""What is done to a server over a bucket while its calls fail; see `injected.scenarios`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.injected.sender import TRIES, Broken, Sender, Sent, first_difference
from tests.faults.s3.served import S3Served
from tests.serving import eventually

KIB = 1024
SMALL = 16 * KIB
LARGE = 700 * KIB
EXPIRES_AFTER = 2.0
"""Seconds, in which the beginning of an upload must have come in."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One time through a scenario."""

    server: S3Served
    client: Sender

    def check_whole(self, sent: Sent) -> None:
        """As `Sender.check_whole`, and so it lies in the bucket."""
        self.client.check_whole(sent)
        found = self.server.place.content(sent.id)
        if found != sent.content:
            at = first_difference(found, bytes(sent.content))
            raise Broken(
                f"the object differs at byte {at} of {sent.length} ({len(found)} lie there)"
            )


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A way to use the server.

    Attributes:
        work: What the client does, and checks in the end.
        flags: For `tusd-py serve`.
    """

    name: str
    work: Callable[[Run], None]
    flags: tuple[str, ...] = ()


def plain(run: Run) -> None:
    sent = run.client.create(LARGE)
    run.client.send(sent, [300 * KIB])
    run.check_whole(sent)


def in_one(run: Run) -> None:
    sent = run.client.create(LARGE)
    run.client.send(sent, [LARGE])
    run.check_whole(sent)


def small(run: Run) -> None:
    sent = run.client.create(SMALL)
    run.client.send(sent, [5000])
    run.check_whole(sent)
    empty = run.client.create(0)
    run.check_whole(empty)


def checksummed(run: Run) -> None:
    sent = run.client.create(LARGE)
    run.client.send(sent, [400 * KIB], checksum=True)
    run.check_whole(sent)


def deferred(run: Run) -> None:
    sent = run.client.create(LARGE, defer=True)
    run.client.send(sent, [400 * KIB], declares=True)
    run.check_whole(sent)


def concatenated(run: Run) -> None:
    parts = [run.client.create(size, Upload_Concat="partial") for size in (SMALL, LARGE)]
    for part in parts:
        run.client.send(part, [LARGE])
    urls = " ".join(part.path for part in parts)
    final = run.client.create(SMALL + LARGE, Upload_Concat=f"final;{urls}")
    final.content = parts[0].content + parts[1].content
    run.check_whole(final)


def terminated(run: Run) -> None:
    unfinished, finished = (run.client.create(LARGE) for _ in range(2))
    run.client.send(finished, [LARGE])
    run.client.ask("PATCH", unfinished.path, *_beginning(unfinished))
    for sent in (unfinished, finished):
        run.client.delete(sent)
        _check_gone(run, sent)


def expired(run: Run) -> None:
    sent = run.client.create(LARGE)
    run.client.ask("PATCH", sent.path, *_beginning(sent))
    time.sleep(EXPIRES_AFTER + 0.1)
    for _ in range(TRIES):
        if run.server.clean_up() == 0:
            break
        run.client.on_refused()
    else:
        raise Broken("tusd-py cleanup does not come to its end")
    _check_gone(run, sent)


def _beginning(sent: Sent) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(sent.told)}
    return headers, bytes(sent.content[sent.told : 300 * KIB])


def _check_gone(run: Run, sent: Sent) -> None:
    def is_gone() -> bool:
        return run.client.head(sent.path).status in (404, 410)

    eventually("what was removed is gone", is_gone)


_LISTED = (
    Scenario(name="plain", work=plain),
    Scenario(name="in-one", work=in_one),
    Scenario(name="small", work=small),
    Scenario(name="checksummed", work=checksummed),
    Scenario(name="deferred", work=deferred),
    Scenario(name="concatenated", work=concatenated),
    Scenario(name="terminated", work=terminated),
    Scenario(name="expired", work=expired, flags=("--expire-after", f"{EXPIRES_AFTER:g}s")),
)
SCENARIOS = {scenario.name: scenario for scenario in _LISTED}
