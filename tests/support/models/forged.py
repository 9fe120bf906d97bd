"""Tokens with any header and payload, rightly signed: what only a holder of the secret could make."""

import base64
import hashlib
import hmac
import json
from typing import Any

from huahuo.eventstore.model import StoredEvent
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.tokens import Authenticator

SECRET = b"canary-5ec7e7-0123456789-abcdefgh"
NOW_MS = 1_790_000_000_123
NOW_S = NOW_MS / 1000
GOOD: dict[str, Any] = {"user_id": 42, "username": "alice", "is_admin": False, "exp": NOW_S + 60}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(payload: bytes, header: dict[str, Any] | bytes | None = None, secret: bytes = SECRET) -> str:
    """A token with any payload and header, correctly signed with HS256."""
    if header is None:
        header = {"alg": "HS256", "typ": "JWT"}
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{b64(head)}.{b64(payload)}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def revocation(body: dict[str, object], at_ms: int) -> StoredEvent:
    """A revocation in the log."""
    return StoredEvent(1, "auth", 1, "revoked", json.dumps(body).encode(), 1, at_ms, "", "", "", 0, "", b"")


def revoked(body: dict[str, object], at_ms: int = NOW_MS) -> Authenticator:
    """An authenticator that has seen one revocation."""
    revocations = Revocations()
    revocations.apply(revocation(body, at_ms))
    return Authenticator(SECRET, revocations=revocations)
