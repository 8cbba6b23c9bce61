"""What an operator says of a deployment: where it lies, what it takes, whom it tells."""

from dataclasses import dataclass, field
from pathlib import Path

from tusd_py.app import Settings
from tusd_py.asgi.settings import HttpSettings
from tusd_py.auth.signed import UPLOADING as UPLOADING
from tusd_py.auth.signed import VERBS as VERBS
from tusd_py.engine.services import Fsync, Timing
from tusd_py.hooks.events import TUSD_HOOKS
from tusd_py.protocol.client import PRIVATE, Proxies
from tusd_py.protocol.cors import CorsPolicy
from tusd_py.wire.limits import ConnectionLimits as ConnectionLimits
from tusd_py.wire.limits import connections_by_descriptors as connections_by_descriptors
from tusd_py.wire.server import ServerSettings as ServerSettings
from tusd_py.wiring.errors import InvalidHooks

FSYNC = tuple(mode.value for mode in Fsync)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """How a server uses a bucket; sizes in bytes, times in seconds. See `S3Settings`."""

    s3_memory: int = 256 << 20
    s3_part_size: int = 8 << 20
    s3_min_part_size: int = 5 << 20
    s3_max_parts: int = 10_000
    s3_max_object_size: int = 5 << 40
    s3_equal_parts: bool = False
    s3_concurrent_part_uploads: int = 32
    s3_concurrent_parts_per_upload: int = 4
    s3_storage_class: str | None = None
    s3_sse: str | None = None
    s3_sse_kms_key_id: str | None = None
    s3_tags: str = ""
    s3_download: str = "proxy"
    s3_download_expires: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a deployment keeps its uploads, and its state if that lies elsewhere.

    With a bucket, only the state lies in the folder, and the template is that of the keys.
    """

    upload_dir: Path
    state_dir: Path | None = None
    file_template: str | None = None
    s3_bucket: str | None = None
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_object_prefix: str = ""
    s3_owner: str | None = None
    s3_addressing_style: str | None = None
    in_bucket: BucketSettings = field(default_factory=BucketSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """Whom tusd's hooks go to, as tusd's flags say it; times are in seconds."""

    hooks_http: str | None = None
    hooks_http_retry: int = 3
    hooks_http_backoff: float = 1.0
    hooks_http_timeout: float = 15.0
    hooks_http_size_limit: int = 5 << 10
    hooks_http_forward_headers: str = ""
    hooks_http_secret_file: Path | None = None
    hooks_dir: Path | None = None
    hooks_dir_timeout: float = 60.0
    hooks_enabled_events: str = "pre-create,post-create,post-receive,post-terminate,post-finish"
    progress_hooks_interval: float = 1.0

    def enabled(self) -> frozenset[str]:
        """The hooks that are called, by tusd's names.

        Raises:
            InvalidHooks: There is no such hook.
        """
        names = listed(self.hooks_enabled_events) or TUSD_HOOKS
        for name in names:
            if name not in TUSD_HOOKS:
                raise InvalidHooks(
                    f"--hooks-enabled-events: there is no {name!r}; choose from "
                    + ", ".join(TUSD_HOOKS)
                )
        return frozenset(names)


def listed(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(filter(None, (each.strip() for each in text.split(","))))


def parse_networks(text: str) -> str:
    """A list of addresses and networks, as it came.

    Raises:
        ValueError: It has something else.
    """
    Proxies(listed(text))
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """What uploads are taken, and how requests are answered; see `TusApp` and its `Settings`."""

    base_path: str = "/files/"
    max_size: int | None = None
    min_free_disk: int = 64 << 20
    max_requests_per_client: int = 0
    max_metadata_size: int = 16 << 10
    max_open_uploads: int = 100_000
    max_open_uploads_per_client: int = 2_000
    max_speed: int | None = None
    max_speed_per_client: int | None = None
    max_speed_per_upload: int | None = None
    expire_after: float | None = 86_400.0
    fsync: str = Fsync.COMPLETE.value
    behind_proxy: bool = False
    trusted_proxies: str = ",".join(PRIVATE)
    network_timeout: float = 60.0
    slowest_speed: float = 100.0
    acquire_lock_timeout: float = 20.0
    cors_allow_origin: str = "*"
    cors_allow_credentials: bool = False
    cors_allow_headers: str = ""
    auth_tokens: str | None = None
    auth_jwt_keys: str | None = None
    auth_jwt_audience: str | None = None
    auth_jwt_issuer: str | None = None
    auth_jwt_leeway: float = 10.0
    auth_signing_key: str | None = None
    no_auth: bool = False
    hooks: HookSettings = field(default_factory=HookSettings)

    @property
    def asks(self) -> bool:
        """Whether somebody is asked who they are."""
        return bool(self.auth_tokens or self.auth_jwt_keys or self.auth_signing_key)

    def for_app(self, state_dir: Path | None) -> Settings:
        """The part that an application has in its `Settings`; its mount is the base path."""
        cors = CorsPolicy(
            allow_origin=self.cors_allow_origin,
            allow_credentials=self.cors_allow_credentials,
            allow_headers=self.cors_allow_headers,
        )
        return Settings(
            state_dir=state_dir,
            http=HttpSettings(
                cors=cors,
                behind_proxy=self.behind_proxy,
                trusted_proxies=listed(self.trusted_proxies),
                max_requests=self.max_requests_per_client or None,
                network_timeout=self.network_timeout,
                slowest_speed=self.slowest_speed,
                websockets=True,
            ),
            timing=Timing(acquire_lock=self.acquire_lock_timeout),
            min_free_disk=self.min_free_disk,
            max_metadata=self.max_metadata_size,
            max_open_uploads=self.max_open_uploads or None,
            max_open_per_client=self.max_open_uploads_per_client or None,
            max_speed=self.max_speed,
            max_speed_per_client=self.max_speed_per_client,
            max_speed_per_upload=self.max_speed_per_upload,
        )
