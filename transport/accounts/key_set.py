"""A JSON Web Key Set (RFC 7517): which keys verify which tokens. Pure.

Only public keys of RS256, ES256 and EdDSA are taken, each for its one algorithm. So neither a shared key in
the set, nor a public key that is used as one, can ever verify a token.
"""

from collections.abc import Mapping
from typing import Any, Final

import jwt
import msgspec

from huahuo.transport.access.compact import KID_CHARS_MAX, Compact, TokenError, decoded

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
KEYS_MAX: Final = 64
_RSA_BITS_MIN: Final = 2048
_RSA_BITS_MAX: Final = 8192
"""A larger key would make each signature cost milliseconds."""
_KINDS: Final = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}

_jws: Final = jwt.PyJWS(algorithms=list(ALGORITHMS))
_algorithms: Final[Mapping[str, Any]] = {name: _jws.get_algorithm_by_name(name) for name in ALGORITHMS}
_set: Final = msgspec.json.Decoder(dict[str, Any])


class BadKeySet(Exception):  # noqa: N818  says what it is
    """It is no key set, or no key of it can be used. The text is for the log."""


class UnknownKey(TokenError):  # noqa: N818  says what it is
    """No key of the set has the token's kid; a newer set may have one."""


class KeySet:
    """The usable keys of a set. Raises BadKeySet: there is none."""

    def __init__(self, text: bytes) -> None:
        self._keys: dict[tuple[str, str], Any] = {}
        self._alone: dict[str, list[Any]] = {}
        self.left_out: dict[str, str] = {}
        """Why a key is not used, by its kid."""
        try:
            listed = _set.decode(text).get("keys")
        except (msgspec.DecodeError, ValueError, RecursionError):
            listed = None
        if not isinstance(listed, list):
            raise BadKeySet("it is no JSON object with a list `keys`")
        for jwk in listed[:KEYS_MAX]:
            if isinstance(jwk, dict):
                self._add(jwk)
        if not self._alone:
            raise BadKeySet(f"it has no key for {', '.join(ALGORITHMS)}")

    def __len__(self) -> int:
        return sum(map(len, self._alone.values()))

    def payload(self, parts: Compact) -> bytes:
        """What the token says, if a key of the set signed it.

        Raises:
            UnknownKey: the set has no key of its kid.
            TokenError: it is not accepted.
        """
        algorithm, kid = parts.header.algorithm, parts.header.kid
        if algorithm not in _algorithms:
            raise TokenError(f"its algorithm is none of {', '.join(ALGORITHMS)}")
        if kid is None:
            known = self._alone.get(algorithm, ())
            if len(known) != 1:
                raise TokenError(f"it has no kid, and the key set has {len(known)} keys for {algorithm}")
            key = known[0]
        elif len(kid) > KID_CHARS_MAX:
            raise TokenError("its kid is too long")
        else:
            key = self._keys.get((kid, algorithm))
            if key is None:
                raise UnknownKey("the key set has no key of its kid and algorithm")
        signature = decoded(parts.signature)
        if not _algorithms[algorithm].verify(parts.signed, key, signature):
            raise TokenError("its signature does not fit the key of its kid")
        return decoded(parts.payload)

    def _add(self, jwk: Mapping[str, Any]) -> None:
        kid = jwk.get("kid")
        name = kid if isinstance(kid, str) else ""
        try:
            algorithm, key = _usable(jwk)
        except ValueError as error:
            if len(name) <= KID_CHARS_MAX:
                self.left_out[name] = str(error)
            return
        if isinstance(kid, str):
            if (kid, algorithm) in self._keys:
                self.left_out[name] = "another key has the same kid"
                return
            self._keys[kid, algorithm] = key
        self._alone.setdefault(algorithm, []).append(key)


def _usable(jwk: Mapping[str, Any]) -> tuple[str, Any]:
    """The algorithm and the key. Raises ValueError: it is not for signatures that are verified here."""
    kind = jwk.get("kty")
    curve = jwk.get("crv", "") if kind != "RSA" else ""
    algorithm = _KINDS.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str) else None
    if algorithm is None:
        raise ValueError("it is no public key of a kind that is used")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures")
    purposes = jwk.get("key_ops", ["verify"])
    if not isinstance(purposes, list) or "verify" not in purposes:
        raise ValueError("it is not for verifying")
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError("it is for another algorithm")
    if "d" in jwk:
        raise ValueError("it is a private key, which everybody knows now")
    try:
        key = _algorithms[algorithm].from_jwk(dict(jwk))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise ValueError("it cannot be read") from None
    if algorithm == "RS256" and not _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX:
        raise ValueError(f"it has {key.key_size} bits, not {_RSA_BITS_MIN} to {_RSA_BITS_MAX}")
    return algorithm, key
