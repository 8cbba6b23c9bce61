"""`Upload-Metadata`: keys, and values that may be any bytes."""

import base64
import binascii
from collections.abc import Mapping

from tusd_py.protocol import abnf
from tusd_py.protocol.errors import InvalidUploadMetadata

_HEADER = "Upload-Metadata"


def parse_upload_metadata(value: str) -> dict[str, bytes]:
    """Keys to decoded values, in the order they were sent.

    Creation, Upload-Metadata: "one or more comma-separated key-value pairs"; clients also send an
    empty header, which means no pairs, and a space after a comma.

    Raises:
        InvalidUploadMetadata: A key is empty, repeated or not printable ASCII, or a value is not
            Base64.
    """
    if not value:
        return {}
    metadata: dict[str, bytes] = {}
    for pair in value.split(","):
        key, _, encoded = pair.strip(" ").partition(" ")
        if not abnf.METADATA_KEY.fullmatch(key):
            raise InvalidUploadMetadata(
                _HEADER, "needs a key of printable ASCII before each value", pair
            )
        if key in metadata:
            raise InvalidUploadMetadata(_HEADER, "has a key twice; all keys must be unique", key)
        if not abnf.BASE64.fullmatch(encoded):
            raise InvalidUploadMetadata(
                _HEADER, f"needs a Base64 value, with padding, for the key {key[:40]!r}", encoded
            )
        metadata[key] = binascii.a2b_base64(encoded)
    return metadata


def build_upload_metadata(metadata: Mapping[str, bytes]) -> str:
    """The reverse of `parse_upload_metadata`.

    Raises:
        InvalidUploadMetadata: A key is empty, or has a space, a comma or no printable ASCII.
    """
    pairs = []
    for key, value in metadata.items():
        if not abnf.METADATA_KEY.fullmatch(key):
            raise InvalidUploadMetadata(_HEADER, "needs keys of printable ASCII", key)
        pairs.append(f"{key} {base64.b64encode(value).decode()}" if value else key)
    return ",".join(pairs)
