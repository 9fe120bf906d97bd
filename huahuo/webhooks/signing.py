"""Signatures of deliveries, as Standard Webhooks has them: HMAC-SHA256 over id, time and body. Pure."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_BYTES: Final = 32
_PREFIX: Final = "whsec_"


def secret_text(raw: bytes) -> str:
    """A secret as its user gets it, once."""
    return _PREFIX + base64.b64encode(raw).decode()


def signed_headers(
    secrets: Sequence[str], delivery_id: str, now_ms: int, body: bytes
) -> list[tuple[str, str]]:
    """The headers by which a receiver knows that the body is ours and not an old one sent again.

    Each of the secrets signs: a receiver takes the body if one of the signatures is by a secret that it has.
    """
    seconds = str(now_ms // 1000)
    signed = f"{delivery_id}.{seconds}.".encode() + body
    return [
        ("webhook-id", delivery_id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", " ".join(_signature(secret, signed) for secret in secrets)),
    ]


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
