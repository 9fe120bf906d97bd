"""The payload of a token that one of our secrets signed (RFC 7515, compact form, HS256 only). Pure.

The library's algorithm object checks the signature. What stands around it is read here, because the library
prepares the key and parses the header again for each token, and after a restart thousands of tokens come
within seconds. Headers that name keys (kid, jku, x5u) are never followed.
"""

import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jwt
import msgspec

TOKEN_BYTES_MAX = 4096
SECRET_BYTES_MIN = 32

_ALGORITHM = "HS256"
_HEADERS_MAX = 64  # an issuer writes one header; 64 of the largest hold 256 KiB

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")

_header = msgspec.json.Decoder(dict[str, Any])


class TokenError(Exception):
    """The token is not accepted. The text is for the log and has nothing of the token in it."""


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
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise TokenError(f"it is longer than {TOKEN_BYTES_MAX} bytes or not ASCII")
        signed, _, signature = token.encode("ascii").rpartition(b".")
        header, _, payload = signed.partition(b".")
        fault = _header_fault(header)
        if fault:
            raise TokenError(fault)
        mac = _decoded(signature)
        if not any(self._algorithm.verify(signed, key, mac) for key in self._keys):
            raise TokenError(
                "its signature fits no secret of this service: does the issuer use the same secret?"
            )
        return _decoded(payload)

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


@lru_cache(_HEADERS_MAX)
def _header_fault(segment: bytes) -> str:
    """Why a token with this header is refused; empty if it may be accepted."""
    try:
        header = _header.decode(_decoded(segment))
    except (TokenError, ValueError, RecursionError):
        return "its header is no JSON object in base64url"
    if header.get("alg") != _ALGORITHM:
        return f"its algorithm is not {_ALGORITHM}"
    # We know no critical extension, so such a token must be refused (RFC 7515, 4.1.11). `b64` changes what
    # is signed (RFC 7797), and is itself such an extension.
    if "crit" in header or header.get("b64", True) is not True:
        return "it relies on a critical extension"
    if not isinstance(header.get("kid", ""), str):
        return "its kid is no text"
    return ""


def _decoded(segment: bytes) -> bytes:
    """The bytes of a base64url text in its one canonical form. Raises TokenError for any other.

    RFC 7515 writes no padding; complete padding is accepted, because some issuers write it.
    """
    text = segment.rstrip(b"=")
    padding = b"=" * (-len(text) % 4)
    try:
        data = binascii.a2b_base64(text.translate(_TO_BASE64) + padding)
    except binascii.Error:
        raise TokenError("it is no base64url") from None
    # Decoding passes over foreign characters and unused bits; written again, they would be missing.
    written = binascii.b2a_base64(data, newline=False).translate(_TO_BASE64URL)
    if written != text + padding or segment not in (text, written):
        raise TokenError("it is no base64url")
    return data
