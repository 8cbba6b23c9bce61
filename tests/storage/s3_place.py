"""A bucket of its own for each test, and what a user would see in it."""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from uuid import uuid4

import pytest

from tests.storage.s3_servers import S3Server

# Whoever tests something else may have no client for such a store.
pytest.importorskip("aiobotocore")

from botocore.session import get_session

from tusd_py.storage.s3 import S3Settings, S3Storage
from tusd_py.storage.s3_client import Access


@dataclass
class S3Place:
    """A new bucket, seen by a client that is not ours."""

    server: S3Server
    bucket: str = field(default_factory=lambda: f"b{uuid4().hex}")

    def __post_init__(self) -> None:
        self.client.create_bucket(Bucket=self.bucket)

    @property
    def client(self) -> Any:
        return _client(self.server.endpoint, self.server.access_key, self.server.secret_key)

    @property
    def access(self) -> Access:
        return Access(endpoint=self.server.endpoint, region="us-east-1", addressing="path")

    def storage(self, settings: S3Settings | None = None) -> S3Storage:
        """A storage over it; its credentials come from the environment."""
        return S3Storage(self.bucket, replace(settings or S3Settings(), access=self.access))

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """All that lies in it but for info objects, by key."""
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        listed = found.get("Contents", [])
        keys = [each["Key"] for each in listed if not each["Key"].endswith(".info")]
        return {key: self.content(key) for key in keys}

    def content(self, key: str) -> bytes:
        """An object."""
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def multiparts(self) -> list[tuple[str, str]]:
        """Key and id of each multipart upload that is not completed."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [(each["Key"], each["UploadId"]) for each in found]


@cache
def _client(endpoint: str, access_key: str, secret_key: str) -> Any:
    return get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )
