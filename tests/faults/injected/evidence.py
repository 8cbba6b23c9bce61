"""What had been synced when an answer was sent that promises something: from a recording."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.injected.calls import place
from tests.faults.injected.disk_model import Disk
from tests.faults.injected.power import DATABASE, WAL, Promise, Recorded, replayed
from tests.faults.injected.recording import Event
from tests.faults.injected.sender import Broken, Sent


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One answer that promises something, and the syncs between the answer before and it.

    Attributes:
        answer: What was asked, and what was told.
        syncs: In the order in which they ended, with milliseconds before the answer.
    """

    answer: str
    syncs: tuple[str, ...]


def evidence(recorded: Recorded) -> list[Evidence]:
    """Of each answer of a run that promises what the one before it did not.

    Raises:
        Broken: An answer began to be sent before what it promises was synced.
    """
    found = []
    uploads = {sent.path: sent for sent in recorded.uploads}
    told_of = {event.begun: told for event, told in recorded.answers()}
    promised: dict[str, Promise] = {}
    for line, event, syncs, model in _answers(recorded):
        told = told_of.get(line)
        if told is None or told.path not in uploads:
            continue
        now = recorded.promises(line)
        if now.get(told.path) == promised.get(told.path) or told.path not in now:
            continue
        promised = now
        _check(model, uploads[told.path], now[told.path], syncs)
        shown = "" if told.offset is None else f", Upload-Offset {told.offset}"
        found.append(
            Evidence(
                answer=f"{told.method} {told.status}{shown}",
                syncs=tuple(_told(sync, event.at, recorded.folder) for sync in syncs),
            )
        )
    return found


def _answers(recorded: Recorded) -> Iterator[tuple[int, Event, list[Event], Disk]]:
    syncs: list[Event] = []
    for line, event, model in replayed(recorded):
        if event.answer is not None:
            yield line, event, syncs, model
            syncs = []
        elif event.name in ("fsync", "fdatasync"):
            syncs.append(event)


def _check(model: Disk, sent: Sent, promise: Promise, syncs: list[Event]) -> None:
    for path in (DATABASE, WAL):
        if model.file(path, synced=True) is None:
            raise Broken(f"the name of {path} was not synced")
    is_synced = model.file(WAL, synced=True) == model.file(WAL, synced=False)
    if promise.is_gone:
        # That its bytes were let go is noted behind that, and need not last.
        is_synced = any(sync.on.endswith(WAL) for sync in syncs)
    if not is_synced:
        raise Broken(f"the commit of {promise} was not synced when it was told")
    if promise.is_gone or promise.offset == 0:
        return
    wanted = bytes(sent.content[: promise.offset])
    paths = [path for path in model.files() if path.startswith(("uploads/data", "uploads/files"))]
    kept = [model.file(path, synced=True) or b"" for path in paths]
    if not any(data[: promise.offset] == wanted for data in kept):
        raise Broken(f"the bytes of {promise}, or their name, were not synced when it was told")


def _told(sync: Event, at: float, folder: Path) -> str:
    where = place(sync.on, folder)
    return f"{sync.name} {where} ({(at - sync.at) * 1000:.1f} ms before)"
