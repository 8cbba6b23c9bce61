"""Hooks as programs: a file of a folder, named as the hook, is run for each, as tusd runs it.

The rules:
- A hook without a file is one that nobody takes part in.
- The program gets the call on stdin and in its environment, and answers on stdout; what it writes
  to stderr goes to ours. An exit status other than 0 is a failure; no output says nothing.
- It has a time limit, and is killed with all that it started when that is over.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tusd_py.hooks.tusd import Call, NoAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """How hooks are run.

    Attributes:
        directory: Where the programs lie; they are run there.
        timeout: Seconds that one may take.
    """

    directory: Path
    timeout: float = 60.0


class CommandCarrier:
    """Runs programs; see `tusd.Carrier`."""

    def __init__(self, settings: CommandSettings) -> None:
        self._directory = settings.directory.absolute()
        self._timeout = settings.timeout

    async def close(self) -> None:
        """See `tusd.Carrier.close`: nothing is kept open."""

    async def carry(self, call: Call) -> bytes | None:
        """See `tusd.Carrier.carry`."""
        program = self._directory / call.hook
        if not program.exists():
            return None
        # No pipe, which a program that does not read would break while it is written to.
        with os.fdopen(os.memfd_create("call"), "w+b") as stdin:
            stdin.write(call.body)
            stdin.seek(0)
            try:
                process = await asyncio.create_subprocess_exec(
                    program,
                    cwd=self._directory,
                    env=os.environ | _environment(call),
                    stdin=stdin,
                    stdout=PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise NoAnswer(f"{program} cannot be run: {error.strerror}") from error
        said = await self._output(process)
        if process.returncode:
            raise NoAnswer(f"{program} ended with status {process.returncode}")
        return said or None

    async def _output(self, process: Process) -> bytes:
        done = False
        try:
            async with asyncio.timeout(self._timeout):
                said, _ = await process.communicate()
                done = True
                return said
        except TimeoutError as error:
            raise NoAnswer(f"not done within {self._timeout:g} s, and killed") from error
        finally:
            if not done:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def _environment(call: Call) -> dict[str, str]:
    variables = {
        "TUS_ID": call.upload.id,
        "TUS_SIZE": str(call.upload.length or 0),
        "TUS_OFFSET": str(call.upload.offset),
    }
    if call.event_id:
        variables["TUSD_PY_EVENT_ID"] = call.event_id
    return variables
