"""A credentials file of NATS: the JWT of a user, and the key by which the user signs what the server sends.

The client's own reader of such files needs a further package for this one signature.
"""

import base64
import binascii
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BLOCK = rb"-----BEGIN %s-----\s+([A-Za-z0-9_.=-]+)\s+-+END %s-+"
_JWT = re.compile(_BLOCK % (b"NATS USER JWT", b"NATS USER JWT"))
_SEED = re.compile(_BLOCK % (b"USER NKEY SEED", b"USER NKEY SEED"))
_USER_SEED = bytes([0b10010_101, 0b00000_000])
"""How the seed of a user begins: in base32 as SU."""
_SEED_BYTES = 32


class BadCreds(ValueError):  # noqa: N818  the condition is the name
    """It is no credentials file. The text has nothing of what the file holds."""


class UserKey:
    """See the module. Its repr holds no secret."""

    __slots__ = ("_key", "jwt")

    def __init__(self, file: bytes) -> None:
        """Take the content of a file apart.

        Raises:
            BadCreds: see there.
        """
        jwt, seed = _JWT.search(file), _SEED.search(file)
        if jwt is None or seed is None:
            raise BadCreds("it needs a block NATS USER JWT and a block USER NKEY SEED, as `nsc` writes them")
        self.jwt = bytearray(jwt[1])
        self._key = Ed25519PrivateKey.from_private_bytes(_seed_in(seed[1]))

    def sign(self, nonce: str) -> bytes:
        """The signature of the server's nonce, as the client sends it."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def _seed_in(text: bytes) -> bytes:
    """The bytes of a seed: two that say whose it is, 32 of the key, two of a checksum."""
    try:
        found = base64.b32decode(text + b"=" * (-len(text) % 8))
    except binascii.Error:
        found = b""
    head, seed, checksum = found[:2], found[2:-2], found[-2:]
    if len(seed) != _SEED_BYTES or binascii.crc_hqx(head + seed, 0) != int.from_bytes(checksum, "little"):
        raise BadCreds("its seed is damaged")
    if head != _USER_SEED:
        raise BadCreds("its seed is not that of a user")
    return seed
