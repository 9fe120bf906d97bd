"""How groups lie on the disk of the in-memory engine. Framed, so that a record cut short is seen. Pure.

    record = length (4 bytes) || BLAKE2b-128 of payload || payload (a `Group` in MessagePack)

A last record that is cut short was never acknowledged, so it is dropped.
"""

from hashlib import blake2b

_LENGTH_BYTES = 4
_SUM_BYTES = 16


def framed(payload: bytes) -> bytes:
    """A record."""
    return len(payload).to_bytes(_LENGTH_BYTES) + _sum(payload) + payload


def payloads_of(data: bytes) -> tuple[list[bytes], int]:
    """The whole records at the start of `data`, and where they end."""
    payloads: list[bytes] = []
    at = 0
    while True:
        start = at + _LENGTH_BYTES + _SUM_BYTES
        payload = data[start : start + int.from_bytes(data[at : at + _LENGTH_BYTES])]
        if start > len(data) or _sum(payload) != data[at + _LENGTH_BYTES : start]:
            return payloads, at
        payloads.append(payload)
        at = start + len(payload)


def _sum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_SUM_BYTES).digest()
