"""What `nsc` makes for a NATS server with an operator: its configuration, and a user's credentials file."""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OPERATOR, ACCOUNT, USER, _SEED = 14 << 3, 0, 20 << 3, 18 << 3
_ALL = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Identity:
    """A key pair of a `kind`, in the texts that NATS uses."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._key = Ed25519PrivateKey.generate()
        self.public = _text(bytes([kind]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """The private key."""
        return _text(bytes([_SEED | self._kind >> 5, self._kind << 3 & 0xFF]) + self._key.private_bytes_raw())

    def vouch(self, name: str, subject: str, claims: Mapping[str, object]) -> str:
        """A JWT about `subject`, signed by this identity."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": "a", "iat": 1, "iss": self.public, "name": name, "sub": subject,
            "nats": {**claims, "version": 2},
        }  # fmt: skip
        signed = ".".join(_url(json.dumps(part).encode()) for part in (head, body))
        return f"{signed}.{_url(self._key.sign(signed.encode()))}"


def with_operator(folder: Path) -> tuple[str, str]:
    """Lines for a server's configuration in place of its accounts, and the content of a user's file."""
    operator, account, system, user = (Identity(kind) for kind in (OPERATOR, ACCOUNT, ACCOUNT, USER))
    accounts = {
        one.public: operator.vouch(
            name, one.public, {"type": "account", "limits": {**_ALL, **more, "wildcards": True}}
        )
        for name, one, more in (("log", account, _JETSTREAM), ("SYS", system, {}))
    }
    lines = (
        f"operator: {operator.vouch('tests', operator.public, {'type': 'operator'})}\n"
        f"system_account: {system.public}\nresolver: MEMORY\n"
        f"resolver_preload {{ {', '.join(f'{key}: {jwt}' for key, jwt in accounts.items())} }}\n"
    )
    of_user = {"type": "user", "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
    jwt = account.vouch("huahuo", user.public, of_user)
    file = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    (folder / "user.creds").write_text(file, encoding="utf-8")
    return lines, file


def _text(data: bytes) -> str:
    checked = data + binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
