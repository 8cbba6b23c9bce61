"""Which uploads there are for somebody: no lock is taken, and no upload disturbed."""

import enum
from collections.abc import Collection

from tusd_py.engine.services import Services
from tusd_py.protocol import decide
from tusd_py.protocol.commands import Query
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Phase, Upload
from tusd_py.state.interface import Owners, Page


class State(enum.StrEnum):
    """Where an upload stands, as people are told."""

    RECEIVING = "receiving"
    PAUSED = "paused"
    FINISHING = "finishing"
    COMPLETE = "complete"
    FAILED = "failed"
    TERMINATED = "terminated"
    EXPIRED = "expired"


THERE = frozenset(State) - {State.TERMINATED, State.EXPIRED}
"""All but the tombstones."""


def state_of(upload: Upload, now: float) -> State:
    """Where an upload stands: one whose time has passed has expired, swept or not."""
    if upload.has_expired(now):
        return State.EXPIRED
    if upload.paused and upload.phase is Phase.RECEIVING:
        return State.PAUSED
    return State(upload.phase.value)


async def find_all(
    services: Services,
    grant: Grant | None,
    states: Collection[State] = THERE,
    *,
    parts: bool = False,
    after: tuple[float, str] | None = None,
    limit: int = 50,
) -> Page:
    """Uploads, the newest first.

    Args:
        services: What to work with.
        grant: Of whoever asks; None where nobody is asked.
        states: Where they stand.
        parts: Whether those that are parts of others are wanted too.
        after: `Page.next` of the page before, None for the first.
        limit: Most of a page, which may have fewer.
    """
    now = services.clock()

    def wanted(upload: Upload) -> bool:
        return state_of(upload, now) in states and (parts or not upload.is_partial)

    return await services.state.newest(owners_for(grant), wanted, after, limit)


def owners_for(grant: Grant | None) -> Owners:
    """Whose uploads are there for somebody."""
    if grant is None:
        return Owners(has_all=True)
    return Owners(principal=grant.principal, has_all=grant.has_all)


async def find_one(services: Services, command: Query) -> Upload:
    """An upload, as it was last committed, however it ended.

    Raises:
        UploadNotFound: There is none, or it is another's.
    """
    upload = await services.load(command.upload_id)
    return decide.look(upload, command.upload_id, command.grant)
