"""The payload of a token that one of our secrets signed (HS256 only). Pure.

The library's algorithm object checks the signature. What stands around it is read by `compact`, because the
library prepares the key and parses the header again for each token, and after a restart thousands of tokens
come within seconds.
"""

from collections.abc import Sequence
from typing import Any

import jwt

from huahuo.transport.access.compact import Compact, TokenError, decoded, parts_of

SECRET_BYTES_MIN = 32

_ALGORITHM = "HS256"


class Signer:
    """Signs with one secret, and accepts what this one or one of `previous` signed.

    Raises:
        ValueError: a secret is shorter than 32 bytes, or is half of a key pair.
    """

    def __init__(self, secret: bytes, previous: Sequence[bytes]) -> None:
        self._jws = jwt.PyJWS(algorithms=[_ALGORITHM])
        self._algorithm = self._jws.get_algorithm_by_name(_ALGORITHM)
        self._secret = secret
        self._keys = tuple(self._key(one) for one in (secret, *previous))

    def __repr__(self) -> str:
        return f"Signer({len(self._keys)} secrets)"

    def sign(self, payload: bytes) -> str:
        """A token with this payload."""
        return self._jws.encode(payload, self._secret, algorithm=_ALGORITHM)

    def payload(self, token: str) -> bytes:
        """What the token says, if one of the secrets signed it. Raises TokenError."""
        parts = parts_of(token)
        if parts.header.algorithm != _ALGORITHM:
            raise TokenError(f"its algorithm is not {_ALGORITHM}")
        if not self.signed(parts):
            raise TokenError(
                "its signature fits no secret of this service: does the issuer use the same secret?"
            )
        return decoded(parts.payload)

    def signed(self, parts: Compact) -> bool:
        """Whether one of the secrets signed it. Raises TokenError: its signature is no base64url."""
        mac = decoded(parts.signature)
        if parts.header.algorithm != _ALGORITHM:
            return False
        return any(self._algorithm.verify(parts.signed, key, mac) for key in self._keys)

    def _key(self, secret: bytes) -> Any:
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(
                f"the token secret has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}. "
                "Take random ones, for example from `openssl rand -hex 32`, "
                "or leave it unset: one is then made at the first start."
            )
        try:
            return self._algorithm.prepare_key(secret)
        except jwt.InvalidKeyError:
            raise ValueError(
                "the token secret is a public key or a certificate, which others may know. "
                "Take random bytes, for example from `openssl rand -hex 32`, "
                "or leave it unset: some are then made at the first start."
            ) from None
