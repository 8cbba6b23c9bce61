"""Whether the server answers at all; while it does not, no case begins.

One request can bring a whole server to a halt, for a while or for ever: a lock that is waited for
on an event loop, a worker that never returns. The cases beside it then get no answer either, and
say nothing about their own sentences. So the first case that meets silence closes the gate, and
it opens when the server answers OPTIONS again, or for good when the run's patience is at its end:
from then on the server is `dead`, and what is left fails without being asked.
"""

import threading
import time
from dataclasses import replace

from tus_conformance.subject import Features, Settings, Tus
from tus_conformance.verdict import Hangup, Silence, Violation
from tus_conformance.wire import Answer

PROBE_TIMEOUT = 1.0
NO_ANSWER = Answer(status=0, reason="nothing", fields=())


class Pulse:
    """The gate of one run.

    Args:
        settings: How to speak with the server.
        patience: Seconds that all waiting of the run together may take.
    """

    def __init__(self, settings: Settings, patience: float) -> None:
        self._settings = replace(settings, timeout=min(PROBE_TIMEOUT, settings.timeout))
        self._patience = patience
        self._open = threading.Event()
        self._open.set()
        self._probing = threading.Lock()
        self.dead = False

    def wait(self) -> None:
        """Returns when the gate is open."""
        self._open.wait()

    def check(self) -> None:
        """Closes the gate until the server answers, or the patience ends."""
        with self._probing:
            self._open.clear()
            stop = time.monotonic() + self._patience
            while not (self.dead or self._beats()):
                self.dead = time.monotonic() >= stop
            self._patience = stop - time.monotonic()
            self._open.set()

    def _beats(self) -> bool:
        tus = Tus(settings=self._settings, features=Features.of(NO_ANSWER))
        try:
            tus.ask("OPTIONS", tus.url, version=None)
        except Hangup:
            return True
        except Silence:
            return False
        except Violation:
            time.sleep(0.05)  # refused: it may be starting again
            return False
        finally:
            tus.clean_up()
        return True
