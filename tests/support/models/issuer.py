"""An issuer of tokens with key pairs: its key set, and tokens of any header and payload that it signs."""

import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.models.forged import NOW_S, b64

ISSUER = "https://issuer.example/"
AUDIENCE = "huahuo"
GOOD: dict[str, Any] = {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": NOW_S + 60}


class Pair:
    """A key pair of one algorithm, and its public half as a JWK."""

    def __init__(self, algorithm: str, kid: str | None, private: Any) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private = private
        made = jwt.PyJWS().get_algorithm_by_name(algorithm)
        self._signs = made
        self.jwk: dict[str, Any] = made.to_jwk(private.public_key(), as_dict=True)
        self.jwk.pop("key_ops", None)
        self.jwk |= {"use": "sig", "alg": algorithm}
        if kid is not None:
            self.jwk["kid"] = kid

    @property
    def pem(self) -> bytes:
        """The public half as a file that everybody has."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        encoded: bytes = self.private.public_key().public_bytes(serialization.Encoding.PEM, form)
        return encoded

    def sign(self, payload: bytes, header: dict[str, Any] | bytes | None = None) -> str:
        """A token, rightly signed whatever its header says."""
        if header is None:
            header = {"alg": self.algorithm, "typ": "JWT"} | ({} if self.kid is None else {"kid": self.kid})
        head = header if isinstance(header, bytes) else json.dumps(header).encode()
        signed = f"{b64(head)}.{b64(payload)}"
        return f"{signed}.{b64(self._signs.sign(signed.encode(), self.private))}"

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of `GOOD` with other claims."""
        return self.sign(json.dumps({**GOOD, **claims}).encode(), header)


@cache
def pair(algorithm: str, kid: str | None = "k1", number: int = 1, bits: int = 2048) -> Pair:
    """The same pair for the same arguments: making one takes a while."""
    match algorithm:
        case "RS256":
            return Pair(algorithm, kid, rsa.generate_private_key(65537, bits))
        case "ES256":
            return Pair(algorithm, kid, ec.generate_private_key(ec.SECP256R1()))
        case _:
            return Pair(algorithm, kid, ed25519.Ed25519PrivateKey.generate())


def key_set(*pairs: Pair, **more: Any) -> bytes:
    """The set with the public halves, and other members."""
    return json.dumps({"keys": [one.jwk for one in pairs], **more}).encode()
