"""What somebody wants of an upload: to pause it and to let it go on, and how quick it may be.

The rules:
- The state says what is wanted of an upload; no lock is taken for it, and none is waited for.
- An append is refused while its upload is paused, and one that is under way ends with what came;
  another speed holds for it at once. Whichever process it is in is told, and looks whether it was
  told before it knew of the append.
"""

import json

from tusd_py.body import Reason
from tusd_py.engine.services import Services
from tusd_py.protocol import decide
from tusd_py.protocol.errors import NotReceiving
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Phase, Upload

_PAUSED, _RESUMED, _SPEED = "paused", "resumed", "speed"


def obey(services: Services) -> None:
    """Does what other processes say from now on."""
    services.talk.hears[_PAUSED] = lambda peer, upload_id: _note(services, upload_id, paused=True)
    services.talk.hears[_RESUMED] = lambda peer, upload_id: _note(services, upload_id, paused=False)
    services.talk.hears[_SPEED] = lambda peer, text: _note_speed(services, *json.loads(text))


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
    await _check(services, upload_id, grant)
    await services.state.set_paused(upload_id, paused=paused)
    _note(services, upload_id, paused=paused)
    _tell(services, _PAUSED if paused else _RESUMED, upload_id)
    return await _find(services, upload_id, grant)


async def set_max_speed(
    services: Services, upload_id: str, grant: Grant | None, max_speed: int | None
) -> Upload:
    """Limits the speed of an upload, also of an append that is under way; idempotent.

    Args:
        services: What to work with.
        upload_id: Whose.
        grant: Of whoever wants it.
        max_speed: Bytes per second, at least `protocol.upload.SLOWEST`; None for as many as the
            application allows it.

    Returns:
        Its record from now on.

    Raises:
        TusError: As `set_paused`.
    """
    await _check(services, upload_id, grant)
    await services.state.set_max_speed(upload_id, max_speed)
    upload = await _find(services, upload_id, grant)
    _note_speed(services, upload_id, upload.max_speed)
    _tell(services, _SPEED, json.dumps((upload_id, upload.max_speed)))
    return upload


async def _check(services: Services, upload_id: str, grant: Grant | None) -> None:
    upload = await _find(services, upload_id, grant)
    if upload.phase is not Phase.RECEIVING or upload.is_final:
        raise NotReceiving(upload_id)


async def _find(services: Services, upload_id: str, grant: Grant | None) -> Upload:
    known = await services.load(upload_id)
    return decide.find(known, upload_id, services.clock(), grant)


def _tell(services: Services, word: str, text: str) -> None:
    for peer in services.talk.all():
        peer.tell(word, text)


def _note(services: Services, upload_id: str, *, paused: bool) -> None:
    if not paused:
        services.paused.discard(upload_id)
        return
    services.paused.add(upload_id)
    live = services.live.get(upload_id)
    if live is not None:
        live.body.interrupt(Reason.PAUSED)


def _note_speed(services: Services, upload_id: str, max_speed: int | None) -> None:
    live = services.live.get(upload_id)
    body = None if live is None else live.body
    services.speeds.change(services.limits, upload_id, max_speed, body)
