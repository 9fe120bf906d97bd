"""Bytes that are nearly right: seeds that are cut, repeated, spliced, and sprinkled with bad pieces. Pure."""

from collections.abc import Sequence
from random import Random
from typing import Final

PIECES: Final = (
    b"\0", b"\r\n", b"\n", b"\r", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"%", b"\xff",
    b"\xc3(", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"NaN", b"1e999", b"-1", b"0", b"9007199254740993",
    b"99999999999999999999", b"\\ud800", b"null", b"true", b"[" * 40, b'{"a":' * 40, b"A" * 300,
    b"=?utf-8?q?=00?=", b"{4294967296}", b"{3}\r\n", b"..", b"://", b"@", b"[::1]", b"127.0.0.1",
    b"0x7f000001", b"\xe2\x80\xae", b"----", b"* ", b") ", b"(", b"UID", b"BODY[]", b"Content-Type: ",
    b"boundary=",
)  # fmt: skip
BYTES_MAX: Final = 4096


def mutated(seeds: Sequence[bytes], chance: Random) -> bytes:
    """One input."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        upto = min(len(data), at + chance.randint(0, 16))
        match chance.randint(0, 6):
            case 0:
                del data[at:upto]
            case 1:
                data[at:at] = chance.choice(PIECES)
            case 2:
                data[at:upto] = chance.choice(PIECES)
            case 3:
                data[at:at] = data[at:upto] * chance.randint(1, 20)
            case 4 if data:
                data[min(at, len(data) - 1)] ^= 1 << chance.randint(0, 7)
            case 5:
                data[at:] = chance.choice(seeds)[at:]
            case _:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(0, 8)))
    return bytes(data[:BYTES_MAX])
