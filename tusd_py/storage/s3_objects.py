"""What an object has beside its bytes, and the keys it may have; nothing here talks to a store.

The rules:
- The object of an upload has the upload's id in its metadata, and no client can say another one.
- What a client told is metadata too, as far as a header can have it and the store has room. None of
  it is cut: what does not fit is left out, and is in the info object all the same.
- A value that is not plain ASCII is an encoded word (RFC 2047), which is how S3 tells such values.
- No key of a finished upload is the key of what is kept beside uploads.
"""

import base64
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from tusd_py.protocol.content import build_content_disposition, declared_type
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Upload
from tusd_py.storage.s3_info import Names
from tusd_py.storage.template import LONGEST_NAME, InvalidTemplate, check_template, render

ID = "tusd-py-id"
"""The metadata of an object that has the id of the upload that it was."""

_MOST_METADATA = 2_048
"""Bytes of names and values that S3 takes."""

_LONGEST_KEY = 1_024
"""Bytes of a key that S3 takes."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PLAIN = re.compile(r"(?:[!-~]+(?: [!-~]+)*)?")
_MOST_TAGS, _LONGEST_TAG, _LONGEST_TAG_VALUE = 10, 128, 256

ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")


class InvalidKey(ValueError):
    """No object can have this key, or must not; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSettings:
    """How a store keeps what it gets, in S3's words.

    Attributes:
        storage_class: Of finished uploads; None for the bucket's. What lies there only until an
            upload is finished has the bucket's in any case.
        encryption: Of all objects, of `ENCRYPTIONS`; None for the bucket's.
        kms_key: The id of the key to encrypt with, None for the account's.
        tags: Of finished uploads; set once the object is there, since not every store takes
            them with a multipart upload or a copy.

    Raises:
        ValueError: S3 would refuse them.
    """

    storage_class: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.encryption not in (None, *ENCRYPTIONS):
            known = ", ".join(ENCRYPTIONS)
            raise ValueError(f"{self.encryption!r} is no encryption of S3's; it has {known}")
        if self.kms_key is not None and not (self.encryption or "").startswith("aws:kms"):
            raise ValueError(
                "a key of KMS is used by the encryption aws:kms, which is not asked for"
            )
        if len(self.tags) > _MOST_TAGS:
            raise ValueError(f"{len(self.tags)} tags are more than the {_MOST_TAGS} of an object")
        for name, value in self.tags.items():
            if not 0 < len(name) <= _LONGEST_TAG or len(value) > _LONGEST_TAG_VALUE:
                raise ValueError(
                    f"the tag {name!r} must have a name of at most {_LONGEST_TAG} characters, and "
                    f"a value of at most {_LONGEST_TAG_VALUE}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What the object of one upload has beside its bytes.

    Attributes:
        upload_id: Of the upload.
        metadata: What the client told, as far as it fits.
        content_type: A media type.
        content_disposition: See RFC 6266.
        storage_class: None for the bucket's.
    """

    upload_id: str
    metadata: Mapping[str, str]
    content_type: str
    content_disposition: str
    storage_class: str | None

    def words(self, *, of_client: bool = True) -> dict[str, object]:
        """As S3's calls take them.

        Args:
            of_client: Whether with the metadata that the client told.
        """
        more = dict(self.metadata) if of_client else {}
        words: dict[str, object] = {
            "Metadata": {**more, ID: self.upload_id},
            "ContentType": self.content_type,
            "ContentDisposition": self.content_disposition,
        }
        if self.storage_class:
            words["StorageClass"] = self.storage_class
        return words


def build_attributes(upload: Upload, settings: ObjectSettings) -> Attributes:
    """What the object of an upload is to have."""
    metadata = upload.metadata
    return Attributes(
        upload_id=upload.id,
        metadata=build_metadata(metadata, room=_MOST_METADATA - len(ID) - len(upload.id)),
        content_type=declared_type(metadata),
        content_disposition=build_content_disposition(metadata),
        storage_class=settings.storage_class,
    )


def build_metadata(metadata: Mapping[str, bytes], *, room: int) -> dict[str, str]:
    """What of the metadata an object can have, by names in lower case.

    Args:
        metadata: As the client told it.
        room: Bytes of names and values together.
    """
    found: dict[str, str] = {}
    # To some stores a name with `_` is the same with `-`.
    taken = {ID}
    for key, value in metadata.items():
        name, text = key.lower(), _build_value(value)
        alike = name.replace("_", "-")
        size = len(name) + len(text)
        if not _NAME.fullmatch(name) or alike in taken or size > room:
            continue
        found[name] = text
        taken.add(alike)
        room -= size
    return found


def _build_value(value: bytes) -> str:
    text = value.decode("ascii", "replace")
    if value.isascii() and _PLAIN.fullmatch(text) and "=?" not in text:
        return text
    try:
        value.decode("utf-8")
        charset = "utf-8"
    except UnicodeDecodeError:
        charset = "unknown-8bit"
    return f"=?{charset}?B?{base64.b64encode(value).decode('ascii')}?="


def parse_tags(text: str) -> dict[str, str]:
    """Tags as S3 writes them: `team=video&kind=upload`, escaped as in a URL.

    Raises:
        ValueError: They are not.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    except ValueError as error:
        raise ValueError(f"{text!r} are no tags; write them as team=video&kind=upload") from error
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"{text!r} has a tag twice")
    return dict(pairs)


def check_key(key: str) -> str:
    """A key that an object can have.

    Raises:
        InvalidKey: It is empty, too long, or has characters that a listing cannot tell.
    """
    if any(unicodedata.category(c) in ("Cc", "Cs") or c in "\ufffe\uffff" for c in key):
        raise InvalidKey(f"the key {key!r} has characters that no listing of a bucket can tell")
    if not 0 < len(key.encode()) <= _LONGEST_KEY:
        raise InvalidKey(
            f"the key {key[:60]!r}... has {len(key.encode())} bytes; S3 takes 1 to {_LONGEST_KEY}"
        )
    return key


def check_template_of_keys(prefix: str, template: str) -> None:
    """Whether all uploads can have keys of this prefix and template.

    Raises:
        InvalidTemplate: See `check_template`; or it has no `{id}`.
        InvalidKey: They would be too long, or cannot be told in a listing.
    """
    if "{id}" not in check_template(template):
        raise InvalidTemplate(
            f"the key template {template!r} needs {{id}}, or uploads of one name would replace "
            "each other"
        )
    longest = build_upload_metadata({"filename": b"x" * LONGEST_NAME})
    build_key(prefix, template, Upload(id="x" * 128, created_at=0, upload_metadata=longest))


def check_target(prefix: str, target: str) -> str:
    """The key that an application, or a template, chose behind the prefix.

    Raises:
        InvalidKey: See `check_key`; or it could be that of what is kept beside uploads.
    """
    if target.startswith(Names(prefix="").folder):
        raise InvalidKey(
            f"the key {target!r} could be that of what is kept beside uploads; "
            "put it into another folder"
        )
    return check_key(prefix + target)


def build_key(prefix: str, template: str, upload: Upload) -> str:
    """The key of the object that an upload becomes.

    Raises:
        InvalidKey: No object can have it.
    """
    # No name that a client chose begins with a dot (see `template`).
    return check_target(prefix, upload.target or render(template, upload))
