"""The parts of a signed token (RFC 7515, compact form), whatever signed it. Pure.

Headers that name keys or where to find them (jku, jwk, x5u, x5c) are never followed: `kid` may only choose
among keys that the service has.
"""

import binascii
from functools import lru_cache
from typing import Any

import msgspec

TOKEN_BYTES_MAX = 4096
ISSUED_BYTES_MAX = 8192
"""The same for tokens of another issuer, which list roles and groups at length."""
KID_CHARS_MAX = 256

_HEADERS_MAX = 64  # an issuer writes one header for each key; 64 of the largest hold 512 KiB

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")

_header = msgspec.json.Decoder(dict[str, Any])


class TokenError(Exception):
    """The token is not accepted. The text is for the log and has nothing of the token in it."""


class Header(msgspec.Struct, frozen=True):
    """What a token's header says. `fault`: why no token with it is accepted, whatever its signature."""

    algorithm: str = ""
    kid: str | None = None
    fault: str = ""


class Compact(msgspec.Struct, frozen=True):
    """A token in its parts. `payload` and `signature` are still base64url."""

    header: Header
    signed: bytes
    payload: bytes
    signature: bytes


def parts_of(token: str, bytes_max: int = TOKEN_BYTES_MAX) -> Compact:
    """The parts. Raises TokenError: it is too long, or no header can be read."""
    if len(token) > bytes_max or not token.isascii():
        raise TokenError(f"it is longer than {bytes_max} bytes or not ASCII")
    signed, _, signature = token.encode("ascii").rpartition(b".")
    header, _, payload = signed.partition(b".")
    read = _read(header)
    if read.fault:
        raise TokenError(read.fault)
    return Compact(read, signed, payload, signature)


@lru_cache(_HEADERS_MAX)
def _read(segment: bytes) -> Header:
    try:
        said = _header.decode(decoded(segment))
    except (TokenError, ValueError, RecursionError):
        return Header(fault="its header is no JSON object in base64url")
    # We know no critical extension, so such a token must be refused (RFC 7515, 4.1.11). `b64` changes what
    # is signed (RFC 7797), and is itself such an extension.
    if "crit" in said or said.get("b64", True) is not True:
        return Header(fault="it relies on a critical extension")
    kid = said.get("kid", "")
    if not isinstance(kid, str):
        return Header(fault="its kid is no text")
    algorithm = said.get("alg")
    return Header(algorithm if isinstance(algorithm, str) else "", kid if "kid" in said else None)


def decoded(segment: bytes) -> bytes:
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
