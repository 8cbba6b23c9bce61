"""The connection to a store: its client, how that sends and signs, and who is told of its calls."""

import base64
import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from tusd_py.hooks.events import Observer, StoreCalled
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.s3_sending import Session, choose_signer

_ANSWERS_WITHIN = 60.0
"""Seconds of silence until a call is tried again."""

_CALL = "tusd-py-call"
"""The operation of a call and its beginning, in what botocore keeps of the call."""

ADDRESSINGS = ("auto", "path", "virtual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a store is reached; credentials come by the standard chain of AWS's tools.

    Attributes:
        endpoint: Its URL, None for AWS.
        region: None for what the chain says.
        addressing: Where the bucket stands: in the `path` of the URL, in the host's name
            (`virtual`), or as AWS's tools find it (`auto`).
        attempts: Tries of each call.

    Raises:
        ValueError: There is no such addressing.
    """

    endpoint: str | None = None
    region: str | None = None
    addressing: str = "auto"
    attempts: int = 5

    def __post_init__(self) -> None:
        if self.addressing not in ADDRESSINGS:
            raise ValueError(f"{self.addressing!r} is no addressing of {', '.join(ADDRESSINGS)}")


class Connection:
    """A client of a store.

    Args:
        access: How the store is reached.
        given: A client of aiobotocore's that stays the caller's, None for one of our own; the
            access does not count then.

    Attributes:
        client: None while it is closed.
        observe: Told of each call when it has ended.

    Raises:
        ValueError: The client computes checksums that would forbid gaps.
    """

    def __init__(self, access: Access, given: Any = None) -> None:
        if given is not None:
            _check(given)
        self.client: Any = None
        self.observe: Observer | None = None
        self._access = access
        self._given = given
        self._stack = AsyncExitStack()

    async def open(self, bucket: str) -> None:
        """Connects, and looks whether a bucket is there; once.

        Raises:
            WrongInstance: It is not, or may not be used; the sentence says which.
        """
        if self.client is not None:
            return
        try:
            self.client = self._given or await self._stack.enter_async_context(self._connected())
            for operation in ("DeleteObjects", "PutObjectTagging"):
                self._at(f"before-call.s3.{operation}", _add_md5)
            self._at("choose-signer.s3.UploadPart", choose_signer)
            self._at("before-call.s3", _begin_call)
            self._at("after-call.s3", self._end_call)
            self._at("after-call-error.s3", self._end_call)
            await self.client.head_bucket(Bucket=bucket)
        except (ClientError, BotoCoreError, ValueError) as error:
            await self.close()
            raise WrongInstance(f"the bucket {bucket!r} cannot be used: {error}") from error

    async def close(self) -> None:
        """Ends the connections, if they are ours."""
        self.client = None
        await self._stack.aclose()

    def _at(self, event: str, do: Callable[..., object]) -> None:
        """Has something done at each of the client's events whose names begin so."""
        events, name = self.client.meta.events, f"tusd-py-{id(self)}-{event}"
        events.register(event, do, unique_id=name)
        self._stack.callback(events.unregister, event, unique_id=name)

    def _end_call(
        self, context: dict[str, Any], parsed: dict[str, Any] | None = None, **_: object
    ) -> None:
        begun = context.get(_CALL)
        if self.observe is None or begun is None:
            return
        operation, at = begun
        told = {} if parsed is None else parsed["ResponseMetadata"]
        self.observe(
            StoreCalled(
                operation=operation,
                status=told.get("HTTPStatusCode", 0),
                retries=told.get("RetryAttempts", 0),
                seconds=time.perf_counter() - at,
            )
        )

    def _connected(self) -> AbstractAsyncContextManager[Any]:
        access = self._access
        config = AioConfig(
            retries={"mode": "standard", "total_max_attempts": access.attempts},
            # What is on its way is bounded elsewhere; no silent store may keep others from theirs.
            max_pool_connections=0,
            s3={"addressing_style": access.addressing},
            # Links too; an older one is made otherwise, which newer regions do not take.
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=_ANSWERS_WITHIN,
            # Of stores other than AWS's, few know what is more than that.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            http_session_cls=Session,
        )
        session = get_session()
        session.register_component("data_loader", _loader())
        made: AbstractAsyncContextManager[Any] = session.create_client(
            "s3", endpoint_url=access.endpoint, region_name=access.region, config=config
        )
        return made


def _check(client: Any) -> None:
    if client.meta.config.request_checksum_calculation != "when_required":
        raise ValueError(
            "the S3 client computes checksums of its own, which forbid gaps in the numbers of "
            "parts; make it with AioConfig(request_checksum_calculation='when_required')"
        )


@cache
def _loader() -> Any:
    """The description of the service, which takes a while to read."""
    return get_session().get_component("data_loader")


def _begin_call(model: Any, context: dict[str, Any], **_: object) -> None:
    context[_CALL] = (model.name, time.perf_counter())


def _add_md5(params: dict[str, Any], **_: object) -> None:
    # Many stores still want the header that AWS has given up for a CRC.
    body = params["body"]
    data = body if isinstance(body, bytes) else body.encode()
    params["headers"]["Content-MD5"] = build_md5(memoryview(data))


def build_md5(data: memoryview) -> str:
    """As `Content-MD5` has it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode("ascii")
