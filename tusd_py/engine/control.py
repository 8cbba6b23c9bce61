"""What somebody wants of an upload that is under way: to pause it, and to let it go on.

The rules:
- The state says whether an upload is paused; no lock is taken for it, and none is waited for.
- An append is refused while it is, and one that is under way ends with what came: whichever process
  it is in is told, and looks whether it was told before it knew of the append.
"""

from tusd_py.body import Reason
from tusd_py.engine.services import Services
from tusd_py.protocol import decide
from tusd_py.protocol.errors import NotReceiving
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Phase, Upload

_PAUSED, _RESUMED = "paused", "resumed"


def obey(services: Services) -> None:
    """Does what other processes say from now on."""
    services.talk.hears[_PAUSED] = lambda peer, upload_id: _note(services, upload_id, paused=True)
    services.talk.hears[_RESUMED] = lambda peer, upload_id: _note(services, upload_id, paused=False)


async def set_paused(
    services: Services, upload_id: str, grant: Grant | None, *, paused: bool
) -> Upload:
    """Pauses an upload, or lets it go on; idempotent.

    Returns:
        Its record from now on.

    Raises:
        NotReceiving: It takes no bytes any more, or never did.
        TusError: See `decide.find`, and the errors of the state.
    """
    known = await services.load(upload_id)
    upload = decide.find(known, upload_id, services.clock(), grant)
    if upload.phase is not Phase.RECEIVING or upload.is_final:
        raise NotReceiving(upload_id)
    await services.state.set_paused(upload_id, paused=paused)
    _note(services, upload_id, paused=paused)
    for peer in services.talk.all():
        peer.tell(_PAUSED if paused else _RESUMED, upload_id)
    known = await services.load(upload_id)
    return decide.find(known, upload_id, services.clock(), grant)


def _note(services: Services, upload_id: str, *, paused: bool) -> None:
    if not paused:
        services.paused.discard(upload_id)
        return
    services.paused.add(upload_id)
    live = services.live.get(upload_id)
    if live is not None:
        live.body.interrupt(Reason.PAUSED)
