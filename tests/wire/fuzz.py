"""Fuzzes the wire: `python -m tests.wire.fuzz --minutes 5 [--seed N] [--loop ...] [--body ...]`.

Several clients upload at random, see `fuzzing`, to one server, which is killed now and then. In the
end every file is compared byte for byte. Stops at the first failure, and prints what that client
did. A seed repeats what the clients do, not how the kernel cuts it.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving import Served, serving
from tests.wire.fuzz_connection import Server
from tests.wire.fuzzing import Upload

CLIENTS = 4
SCRIPT = 60
"""Lines of the script that are kept of each client."""


@dataclass
class Run:
    """What all clients of a run share.

    Attributes:
        server: Where they upload.
        until: In `time.monotonic()`.
        most: Uploads of each client.
        done: Uploads that were compared.
        failed: What went wrong, and the script before it.
    """

    server: Server
    until: float
    most: int
    done: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return bool(self.failed) or time.monotonic() > self.until

    def client(self, seed: str) -> None:
        """Uploads one file after the other."""
        for number in range(self.most):
            if self.is_over:
                return
            script: deque[str] = deque(maxlen=SCRIPT)
            upload = Upload(self.server, random.Random(f"{seed} {number}"), script.append)
            try:
                upload.run()
            except Exception as error:
                what = "\n".join([*script, f"{type(error).__name__}: {error}"])
                self.failed.append(f"client {seed}, upload {number}:\n{what}")
                if not isinstance(error, AssertionError):
                    raise
                return
            self.done.append(upload.size)


def fuzz(
    directory: Path, *, seed: int, seconds: float, most: int, kill_every: float, env: dict[str, str]
) -> Run:
    """One run: what came of it.

    Args:
        directory: For the server.
        seed: Of all that is random.
        seconds: After which no upload is begun.
        most: Uploads of each of the clients.
        kill_every: Seconds, about, between two kills of the server.
        env: For the server, see `tests.launch`.
    """
    with serving(directory / "uploads", env=env) as served:
        server = Server(port=served.port)
        server.is_up.set()
        run = Run(server=server, until=time.monotonic() + seconds, most=most)
        clients = [
            threading.Thread(target=run.client, args=(f"{seed} {number}",))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        _kill_now_and_then(served, run, clients, random.Random(seed), kill_every)
        for client in clients:
            client.join()
        if (ended := served.stop()) != 0:
            run.failed.append(f"the server ended with {ended}")
    log = served.log.read_text()
    if "Traceback" in log:
        run.failed.append("a traceback: " + log[log.index("Traceback") :][:4000])
    return run


def _kill_now_and_then(
    served: Served,
    run: Run,
    clients: list[threading.Thread],
    source: random.Random,
    kill_every: float,
) -> None:
    due = time.monotonic() + kill_every
    while any(client.is_alive() for client in clients):
        time.sleep(0.02)
        if time.monotonic() > due and not run.is_over:
            run.server.is_up.clear()
            run.server.lives += 1
            served.restart()
            run.server.is_up.set()
            due = time.monotonic() + kill_every * source.uniform(0.5, 1.5)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--body", choices=["socket", "receive"], default="socket")
    given = parser.parse_args()
    print(f"--seed {given.seed} --loop {given.loop} --body {given.body}", flush=True)
    env = {"TUSD_PY_TEST_LOOP": given.loop, "TUSD_PY_TEST_BODY": given.body}
    with tempfile.TemporaryDirectory() as directory:
        run = fuzz(
            Path(directory),
            seed=given.seed,
            seconds=given.minutes * 60,
            most=100_000,
            kill_every=10.0,
            env=env,
        )
    print(
        f"{len(run.done)} uploads with {sum(run.done):,} bytes were whole; "
        f"the server was killed {run.server.lives} times"
    )
    for failure in run.failed:
        print(failure)
    sys.exit(bool(run.failed))


if __name__ == "__main__":
    main()
