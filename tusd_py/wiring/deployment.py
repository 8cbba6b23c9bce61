"""Names the implementations: a deployment, for a server or a tool, from what was said of it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tusd_py.app import TusApp
from tusd_py.auth.credentials import Credentials
from tusd_py.auth.interface import Bearers
from tusd_py.auth.signed import SignedUrls
from tusd_py.auth.source import Source, parse_secrets
from tusd_py.auth.tokens import Tokens
from tusd_py.engine.rebuild import make_all_anew
from tusd_py.hooks.command import CommandCarrier, CommandSettings
from tusd_py.hooks.tusd import Carrier, TusdHooks
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import Storage, WrongInstance
from tusd_py.storage.template import InvalidTemplate
from tusd_py.wiring.errors import InvalidHooks, InvalidPlace, NotInstalled
from tusd_py.wiring.settings import BucketSettings, HookSettings, Place, UploadSettings, listed

if TYPE_CHECKING:
    from tusd_py.storage.s3 import S3Settings, S3Storage


def build_app(place: Place, uploads: UploadSettings) -> TusApp:
    """The application of a deployment.

    Raises:
        InvalidTemplate: The file template cannot be used.
        InvalidPlace: Something else of the place cannot be.
        InvalidHooks: The hooks cannot be.
        InvalidKeys: Nobody can be known by what was given for that.
        NotInstalled: It needs an extra.
    """
    carrier = _build_carrier(uploads.hooks)
    if place.s3_bucket is None:
        storage: Storage = DiskStorage(place.upload_dir, file_template=place.file_template)
        max_size, state_dir = uploads.max_size, place.state_dir
    else:
        bucket = _build_bucket(place, place.s3_bucket)
        sizes = [size for size in (uploads.max_size, bucket.largest_upload) if size is not None]
        storage, max_size = bucket, min(sizes)
        state_dir = place.state_dir or place.upload_dir / "state"
    tus = TusApp(
        storage,
        max_size=max_size,
        expire_after=uploads.expire_after,
        fsync=uploads.fsync,
        settings=uploads.for_app(state_dir),
        authorize=_build_credentials(uploads) if uploads.asks else None,
    )
    if carrier is not None:
        services, interval = tus.services, uploads.hooks.progress_hooks_interval
        hooks = TusdHooks(carrier, uploads.hooks.enabled(), interval, services.observe)
        services.hooks = hooks.over(services.hooks)
        tus.at_stop.append(hooks.close)
    return tus


def _build_carrier(settings: HookSettings) -> Carrier | None:
    if settings.hooks_http is not None and settings.hooks_dir is not None:
        raise InvalidHooks("give either --hooks-http or --hooks-dir, not both")
    if settings.hooks_dir is not None:
        if not settings.hooks_dir.is_dir():
            raise InvalidHooks(f"--hooks-dir: {settings.hooks_dir} is no folder")
        return CommandCarrier(
            CommandSettings(directory=settings.hooks_dir, timeout=settings.hooks_dir_timeout)
        )
    if settings.hooks_http is None:
        return None
    if not re.match(r"https?://[^/?#]", settings.hooks_http):
        raise InvalidHooks("--hooks-http needs a URL that begins with http:// or https://")
    # Here, since its HTTP client takes a third of the time in which a server starts.
    from tusd_py.hooks.http import HttpCarrier
    from tusd_py.hooks.http import HttpSettings as HttpHookSettings

    return HttpCarrier(
        HttpHookSettings(
            url=settings.hooks_http,
            attempts=settings.hooks_http_retry,
            backoff=settings.hooks_http_backoff,
            timeout=settings.hooks_http_timeout,
            size_limit=settings.hooks_http_size_limit,
            forward_headers=listed(settings.hooks_http_forward_headers),
            secret=_read_secret(settings.hooks_http_secret_file),
        )
    )


def _read_secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    secret = path.read_bytes().rstrip(b"\r\n")
    if not secret:
        raise InvalidHooks(f"--hooks-http-secret-file: {path} is empty")
    return secret


def _build_credentials(uploads: UploadSettings) -> Credentials:
    bearers: list[Bearers] = []
    if uploads.auth_tokens:
        bearers.append(Tokens(uploads.auth_tokens))
    if uploads.auth_jwt_keys:
        bearers.append(_build_jwt(uploads, uploads.auth_jwt_keys))
    key = uploads.auth_signing_key
    return Credentials(bearers, build_signer(key) if key else None)


def _build_jwt(uploads: UploadSettings, keys: str) -> Bearers:
    try:
        from tusd_py.auth.jwt import JsonWebTokens, JwtSettings
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"--auth-jwt-keys needs {error.name}; install it with: pip install 'tusd-py[jwt]'"
        ) from error
    return JsonWebTokens(
        JwtSettings(
            keys=keys,
            audience=uploads.auth_jwt_audience,
            issuer=uploads.auth_jwt_issuer,
            leeway=uploads.auth_jwt_leeway,
        )
    )


def build_signer(signing_key: str) -> SignedUrls:
    """What signs URLs for a server that was given the same `--auth-signing-key`.

    Raises:
        InvalidKeys: It holds no key that can be used.
        OSError: It cannot be read.
    """
    return SignedUrls(Source(signing_key, parse_secrets))


def _build_bucket(place: Place, name: str) -> "S3Storage":
    try:
        from tusd_py.storage.s3 import S3Storage
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"--s3-bucket needs {error.name}; install it with: pip install 'tusd-py[s3]'"
        ) from error
    try:
        return S3Storage(name, _build_s3_settings(place, place.in_bucket))
    except InvalidTemplate:
        raise
    except ValueError as error:
        raise InvalidPlace(f"the flags --s3-... cannot be used: {error}") from error


def _build_s3_settings(place: Place, bucket: BucketSettings) -> "S3Settings":
    from tusd_py.storage.s3 import S3Settings
    from tusd_py.storage.s3_client import Access
    from tusd_py.storage.s3_objects import ObjectSettings, parse_tags
    from tusd_py.storage.s3_parts import PartRules

    # The name of a bucket is seldom part of a host's name where the host is not AWS.
    usual = "auto" if place.s3_endpoint is None else "path"
    return S3Settings(
        access=Access(
            endpoint=place.s3_endpoint,
            region=place.s3_region,
            addressing=place.s3_addressing_style or usual,
        ),
        object_prefix=place.s3_object_prefix,
        template=place.file_template or "{id}",
        objects=ObjectSettings(
            storage_class=bucket.s3_storage_class,
            encryption=bucket.s3_sse,
            kms_key=bucket.s3_sse_kms_key_id,
            tags=parse_tags(bucket.s3_tags),
        ),
        rules=PartRules(
            preferred=bucket.s3_part_size,
            smallest=bucket.s3_min_part_size,
            most_parts=bucket.s3_max_parts,
            largest_object=bucket.s3_max_object_size,
            equal=bucket.s3_equal_parts,
        ),
        memory=bucket.s3_memory,
        parallel=bucket.s3_concurrent_parts_per_upload,
        at_once=bucket.s3_concurrent_part_uploads,
        owner=place.s3_owner,
        links_for=bucket.s3_download_expires if bucket.s3_download == "redirect" else None,
    )


@asynccontextmanager
async def opened(
    place: Place, uploads: UploadSettings | None = None, *, is_new: bool = False
) -> AsyncIterator[TusApp]:
    """A deployment for a tool beside its servers; nothing runs by itself.

    Args:
        place: Where it lies.
        uploads: What it takes, if that matters.
        is_new: Whether it may be made; otherwise it must be there already.

    Raises:
        WrongInstance: There is none, or its bytes and its state do not belong together.
        NewerDatabase: The state was made by a newer release.
    """
    tus = build_app(place, uploads or UploadSettings())
    if not is_new and not tus.state.path.exists():
        raise WrongInstance(
            f"there are no uploads of tusd-py in {place.upload_dir}: "
            f"{tus.state.path} does not exist; give --upload-dir as for the server"
            + _or_start_it(place)
        )
    await tus.open()
    try:
        await make_all_anew(tus.services)
        yield tus
    finally:
        await tus.stop()


def _or_start_it(place: Place) -> str:
    if place.s3_bucket is None:
        return ""
    return ", or start that: it knows from the bucket what was there"
