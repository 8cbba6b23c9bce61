"""Keys, tokens and requests that the tests of credentials begin with."""

import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tusd_py.hooks.interface import Access, RequestInfo

NOW = 1_900_000_000.0
SECRET = "the first of two secrets, which nobody guesses"
OTHER = "the other one, which nobody guesses any more"

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Private) -> str:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: Private) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(key: Private, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public half, as it stands in a set."""
    made = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else None
    algorithm = made or jwt.algorithms.ECAlgorithm
    found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))  # type: ignore[arg-type]
    return found | ({} if kid is None else {"kid": kid}) | more


def key_set(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": keys})


def asking(
    verb: str = "create", upload_id: str | None = None, url: str = "", **headers: str
) -> Access:
    """A request, as `authorize` sees it; headers with underscores for hyphens."""
    return Access(
        verb=verb,
        upload_id=upload_id,
        request=RequestInfo(
            query=url.partition("?")[2],
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        ),
    )


def bearer(token: str, verb: str = "create") -> Access:
    return asking(verb, authorization=f"Bearer {token}")


def written(path: Path, text: str) -> str:
    """A file that only its owner can read: its name."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)
