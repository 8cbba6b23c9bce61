"""What lies in a bucket beside the bytes, so that it is enough: names, and the info of an upload.

The rules:
- Finished objects lie under the prefix, and everything else in one folder there, whose name no id
  can have: `<id>.info`, `<id>.tail-<n>`, and `!<instance>.info` for each state store.
- An info is written when an upload is made, when its length is told, and when it is complete. What
  changes with each append is told by the bytes (see `s3_journal`).
- An info names the state store that it belongs to: those of others are not looked at.
- It goes with the upload's object: when that is terminated or refused, or expires.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tusd_py.protocol.concat import build_upload_concat, parse_upload_concat
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload

_TAIL = re.compile(r"tail-([0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Keys of what lies beside the objects.

    Attributes:
        prefix: What all keys begin with.
    """

    prefix: str

    @property
    def folder(self) -> str:
        """What all of them begin with."""
        return f"{self.prefix}.tusd-py/"

    @property
    def instances(self) -> str:
        """What those of instances begin with."""
        return f"{self.folder}!"

    def instance(self, instance: str) -> str:
        """Of a state store."""
        return f"{self.instances}{instance}.info"

    def instance_of(self, key: str) -> str:
        """The reverse of `instance`."""
        return key.removeprefix(self.instances).removesuffix(".info")

    def info(self, upload_id: str) -> str:
        """Of an info."""
        return f"{self.folder}{upload_id}.info"

    def noted(self, key: str) -> str | None:
        """The id of the upload whose info this is, None if it is something else."""
        if not key.endswith(".info") or key.startswith(self.instances):
            return None
        return key.removeprefix(self.folder).removesuffix(".info")

    def pieces(self, upload_id: str) -> str:
        """What pieces and marks begin with; their number follows."""
        return f"{self.folder}{upload_id}.tail-"

    def piece_number(self, upload_id: str, key: str) -> int | None:
        """The number of a piece or a mark, None if it is something else."""
        found = _TAIL.fullmatch(key.removeprefix(f"{self.folder}{upload_id}."))
        return None if found is None else int(found.group(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What is noted of an upload.

    Attributes:
        instance: Of the state store that it belongs to.
        upload: Its record, which knows of no bytes, or is complete.
        key: Of the object that it becomes.
    """

    instance: str
    upload: Upload
    key: str


def build_info(info: Info) -> bytes:
    """As JSON."""
    upload = info.upload
    is_complete = upload.phase is Phase.COMPLETE
    return json.dumps(
        {
            "version": 1,
            "instance": info.instance,
            "id": upload.id,
            "key": info.key,
            "phase": (Phase.COMPLETE if is_complete else Phase.RECEIVING).value,
            "created_at": upload.created_at,
            "expires_at": upload.expires_at,
            "length": upload.upload_length,
            "metadata": upload.upload_metadata,
            "changed_metadata": upload.changed_metadata,
            "concat": None if upload.concat is None else build_upload_concat(upload.concat),
            "parts": upload.parts,
            "target": upload.target,
            "principal": upload.principal,
            "reply": None if upload.reply is None else _build_reply(upload.reply),
        }
    ).encode()


def parse_info(body: bytes) -> Info:
    """The reverse of `build_info`.

    Raises:
        ValueError: It is none, or one of a later release.
    """
    found = json.loads(body)
    if not isinstance(found, dict) or found.get("version") != 1:
        raise ValueError("this is no info of a known version")
    concat, reply = found["concat"], found["reply"]
    is_complete = found["phase"] == Phase.COMPLETE.value
    length = found["length"]
    upload = Upload(
        id=found["id"],
        created_at=found["created_at"],
        phase=Phase.COMPLETE if is_complete else Phase.RECEIVING,
        upload_offset=length if is_complete else 0,
        upload_length=length,
        upload_metadata=found["metadata"],
        changed_metadata=found["changed_metadata"],
        concat=None if concat is None else parse_upload_concat(concat),
        parts=tuple(found["parts"]),
        expires_at=found["expires_at"],
        tail=Tail.SEALED if found["parts"] else Tail.OPEN,
        synced_offset=length if is_complete else 0,
        target=found["target"],
        path=found["key"] if is_complete else None,
        reply=None if reply is None else Reply(**reply),
        principal=found["principal"],
    )
    return Info(instance=found["instance"], upload=upload, key=found["key"])


def _build_reply(reply: Reply) -> dict[str, Any]:
    # Of the application: its headers may be any kind of mapping.
    return {"status": reply.status, "headers": dict(reply.headers), "body": reply.body}
