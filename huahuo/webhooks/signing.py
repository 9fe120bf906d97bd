"""Signatures of deliveries, as Standard Webhooks has them: HMAC-SHA256 over id, time and body. Pure."""

import base64
import hashlib
import hmac
from typing import Final

SECRET_BYTES: Final = 32
_PREFIX: Final = "whsec_"


def secret_text(raw: bytes) -> str:
    """A secret as its user gets it, once."""
    return _PREFIX + base64.b64encode(raw).decode()


def signed_headers(secret: str, delivery_id: str, now_ms: int, body: bytes) -> list[tuple[str, str]]:
    """The headers by which a receiver knows that the body is ours and not an old one sent again."""
    seconds = str(now_ms // 1000)
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    mac = hmac.digest(key, f"{delivery_id}.{seconds}.".encode() + body, hashlib.sha256)
    return [
        ("webhook-id", delivery_id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", "v1," + base64.b64encode(mac).decode()),
    ]
