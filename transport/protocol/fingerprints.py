"""The hash by which a command that is sent again is told from another one with the same id. Pure."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def fingerprint(fields: Mapping[str, Any], key: bytes) -> bytes:
    """A keyed hash of a command's content: its fields without `id`, in a canonical form.

    Keyed, because the fields may hold a password and the hash is stored.
    """
    content = {**fields}
    content.pop("id", None)
    return fingerprint_without_id(content, keyed(key))


def fingerprint_without_id(content: Mapping[str, Any], fresh: "hashlib.blake2b") -> bytes:
    """As `fingerprint`, of fields that have no `id`; `fresh` is `keyed` and stays as it is."""
    hashed = fresh.copy()
    hashed.update(_encode_sorted(content))
    return hashed.digest()


@lru_cache(maxsize=4)
def keyed(key: bytes) -> "hashlib.blake2b":
    """To copy: making a hash from its key costs as much as hashing a short command."""
    return hashlib.blake2b(digest_size=16, key=key)
