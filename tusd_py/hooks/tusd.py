"""tusd's hooks: its events, its JSON in both directions, whatever carries them.

The rules:
- What is sent has tusd's fields, all of them, and no other; what is not known has tusd's zero.
- An answer is read as Go reads it, since hook servers were tried with that: names in any case,
  fields that are not known are passed over, `null` says nothing; a value of another kind than
  tusd's, or what is no JSON object, is no answer. One field is ours: `ChangeFileInfo.MaxSpeed`.
- A blocking hook without an answer refuses the request; nothing goes on unasked. An event is
  delivered when it was taken, whatever was said to it.
"""

import json
import logging
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from tusd_py.hooks.events import HookCalled
from tusd_py.hooks.interface import (
    Changes,
    FinishedUpload,
    Hooks,
    HookUnanswered,
    NewUpload,
    Progress,
    RequestInfo,
    UploadEvent,
    UploadInfo,
)
from tusd_py.protocol import abnf
from tusd_py.protocol.errors import Rejected, TerminationRejected, UploadStopped
from tusd_py.protocol.upload import SLOWEST, Reply

logger = logging.getLogger("tusd_py")

T = TypeVar("T")

_OURS = frozenset(
    {
        "connection",
        "content-length",
        "location",
        "transfer-encoding",
        "tus-resumable",
        "upload-offset",
    }
)
"""Headers that an application does not choose: they say how the answer, or the upload, is."""


class NoAnswer(Exception):
    """A hook could not be asked, or what came is no answer; the message is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One hook that is to be called.

    Attributes:
        hook: tusd's name for it.
        body: What to send, JSON.
        upload: Whose hook.
        event_id: The same when it is repeated; empty for what is not repeated.
    """

    hook: str
    body: bytes
    upload: UploadInfo
    event_id: str = ""


class Carrier(Protocol):
    """Brings calls to the application."""

    async def carry(self, call: Call) -> bytes | None:
        """The answer, or None where nobody takes part in this hook.

        Raises:
            NoAnswer: There is none.
        """
        ...

    async def close(self) -> None:
        """Lets go of whatever is open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """tusd's `HookResponse`; see its documentation. `max_speed`, bytes per second, is ours."""

    status: int = 0
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    reject_upload: bool = False
    reject_termination: bool = False
    stop_upload: bool = False
    id: str = ""
    metadata: Mapping[str, str] | None = None
    path: str = ""
    max_speed: int = 0

    def reply(self) -> Reply | None:
        """What it adds to a response."""
        if not (self.status or self.body or self.headers):
            return None
        return Reply(status=self.status or None, headers=self.headers, body=self.body)

    def refusal(self, kind: type[Rejected]) -> Rejected:
        """What a request is refused with."""
        return kind(self.status or 400, self.body, self.headers)


class TusdHooks:
    """Functions for an application that lets tusd's hooks decide.

    Args:
        carrier: Brings the calls there.
        enabled: tusd's names of the hooks that are called.
        progress_interval: Seconds between two `post-receive` of one upload.
        observe: Told of each call.
    """

    def __init__(
        self,
        carrier: Carrier,
        enabled: frozenset[str],
        progress_interval: float = 1.0,
        observe: Callable[[HookCalled], None] = lambda _: None,
    ) -> None:
        self._carrier = carrier
        self._enabled = enabled
        self._progress_interval = progress_interval
        self._observe = observe

    def over(self, hooks: Hooks) -> Hooks:
        """The functions of an application, with those of these hooks that are enabled."""

        def enabled(hook: str, function: T) -> T | None:
            return function if hook in self._enabled else None

        return replace(
            hooks,
            on_create=enabled("pre-create", self.on_create),
            on_created=enabled("post-create", self.on_created),
            on_progress=enabled("post-receive", self.on_progress),
            on_finish=enabled("pre-finish", self.on_finish),
            on_finished=enabled("post-finish", self.on_finished),
            on_terminating=enabled("pre-terminate", self.on_terminating),
            on_terminate=enabled("post-terminate", self.on_terminate),
            progress_interval=self._progress_interval,
            # What is not enabled is not wanted.
            drop_events=True,
        )

    async def close(self) -> None:
        """Lets go of whatever is open."""
        await self._carrier.close()

    async def on_create(self, upload: NewUpload) -> Changes:
        """`pre-create`."""
        # tusd has chosen no id yet.
        answer = await self._ask("pre-create", replace(upload, id=""))
        if answer.reject_upload:
            raise answer.refusal(Rejected)
        metadata = answer.metadata
        return Changes(
            id=answer.id or None,
            metadata=None if metadata is None else {k: v.encode() for k, v in metadata.items()},
            target=answer.path or None,
            reply=answer.reply(),
            max_speed=answer.max_speed or None,
        )

    async def on_created(self, event: UploadEvent) -> None:
        """`post-create`."""
        await self._tell("post-create", event)

    async def on_progress(self, upload: Progress) -> None:
        """`post-receive`."""
        answer = await self._ask("post-receive", upload)
        if answer.stop_upload:
            logger.info("the hook post-receive stops upload %s", upload.id)
            raise answer.refusal(UploadStopped)

    async def on_finish(self, upload: FinishedUpload) -> Reply | None:
        """`pre-finish`."""
        return (await self._ask("pre-finish", upload)).reply()

    async def on_finished(self, event: UploadEvent) -> None:
        """`post-finish`."""
        await self._tell("post-finish", event)

    async def on_terminating(self, upload: UploadInfo) -> Reply | None:
        """`pre-terminate`."""
        answer = await self._ask("pre-terminate", upload)
        if answer.reject_termination:
            raise answer.refusal(TerminationRejected)
        return answer.reply()

    async def on_terminate(self, event: UploadEvent) -> None:
        """`post-terminate`, after an expiry too."""
        await self._tell("post-terminate", event)

    async def _ask(self, hook: str, upload: UploadInfo) -> Answer:
        def read(said: bytes | None) -> Answer:
            return Answer() if said is None else parse_answer(said)

        return await self._call(hook, upload, "", read)

    async def _tell(self, hook: str, event: UploadEvent) -> None:
        await self._call(hook, event, event.event_id, lambda _: None)

    async def _call(
        self, hook: str, upload: UploadInfo, event_id: str, read: Callable[[bytes | None], T]
    ) -> T:
        call = Call(hook=hook, body=build_call(hook, upload), upload=upload, event_id=event_id)
        failed = True
        try:
            said = read(await self._carrier.carry(call))
            failed = False
        except NoAnswer as error:
            logger.error("the hook %s of upload %s failed: %s", hook, upload.id or "-", error)
            raise HookUnanswered(hook) from error
        finally:
            self._observe(HookCalled(hook=hook, failed=failed))
        return said


def build_call(hook: str, upload: UploadInfo) -> bytes:
    """The JSON of tusd's `HookRequest`."""
    is_deferred = upload.length is None and not upload.is_final
    event = {
        "Upload": {
            "ID": upload.id,
            "Size": upload.length or 0,
            "SizeIsDeferred": is_deferred,
            "Offset": upload.offset,
            "MetaData": {k: v.decode("utf-8", "replace") for k, v in upload.metadata.items()},
            "IsPartial": upload.is_partial,
            "IsFinal": upload.is_final,
            "PartialUploads": list(upload.parts) or None,
            "Storage": _storage(upload.location),
        },
        "HTTPRequest": _request(upload.request),
    }
    return json.dumps({"Type": hook, "Event": event}).encode()


def _storage(location: str) -> dict[str, str] | None:
    if not location:
        return None
    if location.startswith("s3://"):
        bucket, _, key = location.removeprefix("s3://").partition("/")
        return {"Type": "s3store", "Bucket": bucket, "Key": key}
    # There is no file beside it, but whoever looks for the name finds the field.
    return {"Type": "filestore", "Path": location, "InfoPath": ""}


def _request(request: RequestInfo) -> dict[str, object]:
    headers: dict[str, list[str]] = {}
    for name, value in request.header_lines:
        headers.setdefault(canonical(name), []).append(value)
    address = request.client
    if address and request.port:
        host = f"[{address}]" if ":" in address else address
        address = f"{host}:{request.port}"
    return {
        "Method": request.sent_method,
        "URI": request.uri,
        "RemoteAddr": address,
        "Header": headers,
    }


def canonical(name: str) -> str:
    """A header's name as Go writes it: `Upload-Length`."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def parse_answer(said: bytes) -> Answer:
    """Reads the JSON of tusd's `HookResponse`.

    Raises:
        NoAnswer: It is none; the message says where.
    """
    try:
        whole = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise NoAnswer(f"the answer is no JSON: {error}") from error
    if not isinstance(whole, dict):
        raise NoAnswer("the answer is no JSON object")
    top = _Fields("", whole)
    response = top.object("HTTPResponse")
    change = top.object("ChangeFileInfo")
    storage = change.texts("Storage") or {}
    return Answer(
        status=_checked_status(response.number("StatusCode")),
        body=response.text("Body"),
        headers=_checked_headers(response.texts("Header") or {}),
        reject_upload=top.flag("RejectUpload"),
        reject_termination=top.flag("RejectTermination"),
        stop_upload=top.flag("StopUpload"),
        id=_checked_id(change.text("ID")),
        metadata=_checked_metadata(change.texts("MetaData")),
        path=_checked_path(storage.get("Path", "")),
        max_speed=_checked_speed(change.number("MaxSpeed")),
    )


class _Fields:
    """A JSON object, whose fields are found in any case, as Go finds them."""

    def __init__(self, where: str, found: Mapping[str, object]) -> None:
        self._where = where
        self._found = {name.lower(): value for name, value in found.items()}

    def flag(self, name: str) -> bool:
        return self._take(name, bool, False, "true or false")

    def number(self, name: str) -> int:
        return self._take(name, int, 0, "a whole number")

    def text(self, name: str) -> str:
        return _whole(self._take(name, str, "", "text"))

    def object(self, name: str) -> "_Fields":
        found = self._take(name, dict, {}, "an object")
        return _Fields(f"{self._where}{name}.", found)

    def texts(self, name: str) -> dict[str, str] | None:
        """An object whose values are text; None if it is not there."""
        found = self._found.get(name.lower())
        if found is None:
            return None
        if not isinstance(found, dict):
            raise NoAnswer(f"{self._where}{name} must be an object")
        values = {key: "" if value is None else value for key, value in found.items()}
        if not all(isinstance(value, str) for value in values.values()):
            raise NoAnswer(f"the values of {self._where}{name} must be text")
        return {key: _whole(value) for key, value in values.items()}

    def _take(self, name: str, kind: type[T], nothing: T, wanted: str) -> T:
        found = self._found.get(name.lower())
        if found is None:
            return nothing
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise NoAnswer(f"{self._where}{name} must be {wanted}")
        return found


def _whole(text: str) -> str:
    """Text whose halves of surrogate pairs are replaced, as Go does; nothing could send them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _checked_status(status: int) -> int:
    if status and not 200 <= status <= 599:
        raise NoAnswer(f"HTTPResponse.StatusCode {status} is no status of an answer")
    return status


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name in headers:
        if not abnf.TOKEN.fullmatch(name):
            raise NoAnswer(f"HTTPResponse.Header has {name[:40]!r}, which is no name of a header")
    return {name: value for name, value in headers.items() if name.lower() not in _OURS}


def _checked_speed(max_speed: int) -> int:
    if max_speed and not SLOWEST <= max_speed <= abnf.LARGEST_INTEGER:
        raise NoAnswer(f"ChangeFileInfo.MaxSpeed is {max_speed}; give {SLOWEST} or more")
    return max_speed


def _checked_id(upload_id: str) -> str:
    if upload_id and not abnf.UPLOAD_ID.fullmatch(upload_id):
        raise NoAnswer(
            f"ChangeFileInfo.ID {upload_id[:200]!r} cannot be used here: at most 128 letters, "
            "digits, '-', '_', '.' and '~', and no slash"
        )
    return upload_id


def _checked_metadata(metadata: dict[str, str] | None) -> dict[str, str] | None:
    for key in metadata or ():
        if not abnf.METADATA_KEY.fullmatch(key):
            raise NoAnswer(
                f"ChangeFileInfo.MetaData has the key {key[:40]!r}; keys are printable ASCII "
                "without spaces and commas"
            )
    return metadata


def _checked_path(path: str) -> str:
    if not path:
        return ""
    normal = posixpath.normpath(path)
    if "\0" in path or posixpath.isabs(normal) or normal in (".", "..") or normal[:3] == "../":
        raise NoAnswer(
            f"ChangeFileInfo.Storage.Path {path[:200]!r} cannot be used here: give a path below "
            "the folder files/ of the upload directory"
        )
    return normal
