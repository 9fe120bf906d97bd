"""What an append carries besides its plain content: boxes under named keys, and packed blobs. Pure data.

A decision only compares: a secret that was sealed under a key which is not its owner's any more is refused.
`huahuo.eventstore.core.carrying` makes one.
"""

from hashlib import blake2b

import msgspec

from huahuo.eventstore.core.changes import PutBlob, PutSealed


class KeyUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The data key of `owner` that secrets were sealed under: a new one (`wrapped`), else named by `name`."""

    owner: str
    name: bytes
    wrapped: bytes = b""


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """The secrets of an append, sealed, with the key of each owner; and its blobs, packed."""

    keys: tuple[KeyUse, ...] = ()
    boxes: tuple[PutSealed, ...] = ()
    blobs: tuple[PutBlob, ...] = ()


NOTHING = Carried()


def key_name(wrapped: bytes) -> bytes:
    """The name of a wrapped key, which tells nothing about it."""
    return blake2b(wrapped, digest_size=16).digest()
