"""Power cut at each call of a run, at each call of the recovery from that, and kills in between."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.injected.disk_model import Cut, Disk
from tests.faults.injected.power import Promise, Recorded, check_reboot, cut_off, replayed
from tests.faults.injected.recording import Event, RecordedServer
from tests.faults.injected.scenarios import SCENARIOS
from tests.faults.injected.sender import Broken, Sender
from tests.faults.injected.served import WatchedServer
from tests.faults.injected.watch import Fault

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(kw_only=True)
class PowerReport:
    """What the cuts of one recording came to.

    Attributes:
        cuts: Lines of the recording at which the power was cut.
        reboots: Disks that were looked at, three for each cut.
        kills: Servers that were killed while they recovered.
    """

    scenario: str
    fsync: str
    cuts: int = 0
    reboots: int = 0
    kills: int = 0
    losses: list[str] = field(default_factory=list)


def cut_each(
    recorded: Recorded, folder: Path, most: int | None = None, *, since: int = 0
) -> PowerReport:
    """Cuts the power at each line of a recording, in each way, and looks what is left.

    Args:
        recorded: The run.
        folder: For the disks that are left.
        most: Lines, spread over the run; None for all.
        since: The first line.
    """
    report = PowerReport(scenario=recorded.scenario.name, fsync=recorded.fsync)
    lines = [line for line, _, _ in replayed(recorded) if line >= since]
    chosen = set(_spread(lines, most))
    for line, event, model in replayed(recorded):
        if line not in chosen:
            continue
        report.cuts += 1
        for cut in Cut:
            cut_off(recorded, model, folder, cut, seed=line)
            report.reboots += 1
            try:
                check_reboot(recorded, folder / "uploads", recorded.promises(line), f"boot-{line}")
            except Exception as error:  # the root of a case: it is reported, and the next one runs
                report.losses.append(f"{_told(line, event)}, {cut.name}: {error!r}")
    return report


def _told(line: int, event: Event) -> str:
    if event.answer is not None:
        return f"line {line}, {event.answer.splitlines()[0]}"
    return f"line {line}, {event.name} {event.on or event.paths[-1:]}"


def _spread(lines: list[int], most: int | None) -> list[int]:
    if most is None or len(lines) <= most:
        return lines
    return [lines[round(index * (len(lines) - 1) / max(1, most - 1))] for index in range(most)]


def recover_twice(recorded: Recorded, folder: Path, most: int, *, every: int = 1) -> PowerReport:
    """Cuts the power at some answers, and again at each call of the recovery from that; and kills
    that server at each of its calls, with another boot behind each kill.

    Args:
        recorded: The run.
        folder: For the disks that are left.
        most: Answers, spread over the run, each with another kind of cut.
        every: How many calls of a recovery lie between two that are its last.
    """
    report = PowerReport(scenario=recorded.scenario.name, fsync=recorded.fsync)
    answers = [line for line, event, _ in replayed(recorded) if event.answer is not None]
    chosen = _spread(answers, most)
    cuts = dict(zip(chosen, [*Cut] * len(chosen), strict=False))
    for line, _, model in replayed(recorded):
        if line not in cuts:
            continue
        place = folder / str(line)
        cut_off(recorded, model, place, cuts[line], seed=line)
        promised = recorded.promises(line)
        try:
            _record_recovery(recorded, place, promised, report, every)
            cut_off(recorded, model, place, cuts[line], seed=line)
            _kill_recovery(recorded, place, promised, report, every)
        except Broken as error:
            report.losses.append(f"line {line}, {cuts[line].name}: {error!r}")
    return report


def _boot(place: Path, number: int) -> dict[str, Path]:
    """Lets a process see another boot id."""
    file = place / f"boot-{number}"
    file.write_text(f"00000000-0000-0000-0000-{number:012}\n")
    return {BOOT_ID: file}


def _record_recovery(
    recorded: Recorded,
    place: Path,
    promised: dict[str, Promise],
    report: PowerReport,
    every: int,
) -> None:
    before = place.with_name(place.name + "-before")
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(place, before)
    server = RecordedServer(
        upload_dir=place / "uploads",
        flags=recorded.scenario.flags,
        fsync=recorded.fsync,
        application=recorded.scenario.application,
        instead=_boot(place, 1),
    )
    server.start()
    try:
        client = Sender(port=lambda: server.port)
        for sent in recorded.uploads:
            client.head(sent.path)
    finally:
        events = server.end()

    def begun() -> Disk:
        model = Disk(place)
        model.adopt(before)
        return model

    recovery = replace(
        recorded,
        folder=place,
        events=events,
        exchanges=client.exchanges,
        before=promised,
        begun=begun,
        _inodes=None,
    )
    lines = sum(1 for _ in replayed(recovery))
    found = cut_each(recovery, place.with_name(place.name + "-again"), max(1, lines // every))
    report.cuts += found.cuts
    report.reboots += found.reboots
    report.losses += [f"at recovery: {loss}" for loss in found.losses]


def _kill_recovery(
    recorded: Recorded,
    place: Path,
    promised: dict[str, Promise],
    report: PowerReport,
    every: int,
) -> None:
    server = WatchedServer(
        upload_dir=place / "uploads",
        flags=recorded.scenario.flags,
        fsync=recorded.fsync,
        application=recorded.scenario.application,
    )
    at, boot = 1, 2
    try:
        while True:
            server.instead = _boot(place, boot)
            server.start(Fault(at=at))
            is_killed = server.process is None or not _asks(recorded, server)
            if not is_killed:
                break
            server.bury()
            report.kills += 1
            at, boot = at + every, boot + 1
        server.watch.disarm()
        _compare(recorded, server, promised)
    finally:
        if server.process is not None:
            server.process.kill()
            server.bury()


def _asks(recorded: Recorded, server: WatchedServer) -> bool:
    """Whether the server lives when it was asked for everything."""
    client = Sender(port=lambda: server.port)
    for sent in recorded.uploads:
        while client.ask("HEAD", sent.path, {}) is None:
            if server.watch.has_killed:
                return False
    return not server.watch.has_killed


def _compare(recorded: Recorded, server: WatchedServer, promised: dict[str, Promise]) -> None:
    client = Sender(port=lambda: server.port)
    for sent in recorded.uploads:
        promise = promised.get(sent.path)
        answer = client.head(sent.path)
        if promise is not None and promise.is_gone is (answer.status == 200):
            raise Broken(f"HEAD says {answer.status} after {promise}")
        if answer.status != 200:
            continue
        offset = int(answer.headers["Upload-Offset"])
        if promise is not None and offset < promise.offset:
            raise Broken(f"it fell back to {offset} after {promise}")
        if not sent.concat:
            again = replace(sent, told=offset, stops=None, content=bytearray(sent.content))
            client.send(again, [1 << 20], declares="Upload-Defer-Length" in answer.headers)
            client.check_whole(again)


POWER = tuple(
    SCENARIOS[name]
    for name in (
        "small",
        "small-steps",
        "small-with-upload",
        "large-with-upload",
        "plain",
        "broken-off",
        "checksummed",
        "deferred",
        "concatenated",
        "terminated",
        "templated",
        "slow-steps",
    )
)
MODES = ("complete", "always")
