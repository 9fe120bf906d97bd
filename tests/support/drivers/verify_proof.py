"""An independent verifier of inclusion proofs: nothing of huahuo, only the documented formulas.

    python verify_proof.py event.proof 'huahuo/…+…+…'

Exit code 0 and one line if the event is in the log that the key's owner signed; 1 with a reason if not.
The public key is an argument: it must come from somewhere else than the proof.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):  # noqa: N818  an answer
    """The proof does not hold."""


def messagepack(values: list[object]) -> bytes:
    """The array of the chain's formula, integers in their shortest form."""
    return bytes([0x90 + len(values)]) + b"".join(_packed(value) for value in values)


def _packed(value: object) -> bytes:
    if isinstance(value, int):
        if 0 <= value < 0x80:
            return bytes([value])
        for mark, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if 0 <= value < 1 << (8 * size):
                return bytes([mark]) + value.to_bytes(size)
        raise Refused("a number that no log writes")
    data, marks = (
        (value.encode(), (0xD9, 0xDA, 0xDB)) if isinstance(value, str) else (value, (0xC4, 0xC5, 0xC6))
    )
    assert isinstance(data, bytes)
    if isinstance(value, str) and len(data) < 32:
        return bytes([0xA0 + len(data)]) + data
    for mark, size in zip(marks, (1, 2, 4), strict=True):
        if len(data) < 1 << (8 * size):
            return bytes([mark]) + len(data).to_bytes(size) + data
    raise Refused("a text that no log writes")


def link(before: bytes, event: dict[str, object]) -> bytes:
    """The chain's formula."""
    body = event["body"]
    assert isinstance(body, str)
    facts = [
        event["position"], event["stream"], event["seq"], event["type"], body.encode(), event["version"],
        event["ts_ms"], event["entity"], event["principal"], event["command_id"], event["cause"],
        event["build"],
    ]  # fmt: skip
    return hashlib.blake2b(before + messagepack(facts), digest_size=32).digest()


def merkle_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162, 2.1.3.2."""
    node, fn, sn = leaf, index, size - 1
    for sibling in path:
        if sn == 0:
            raise Refused("the path is too long")
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise Refused("the path is too short")
    return node


def signed_text(note: str, vkey: str) -> list[str]:
    """The lines of a signed note whose signature holds under `vkey`."""
    name, hashed, encoded = vkey.split("+", 2)
    public = base64.b64decode(encoded)
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        dash, _, rest = line.partition(" ")
        signer, _, signature = rest.rpartition(" ")
        raw = base64.b64decode(signature)
        if dash == "\u2014" and signer == name and raw[:4].hex() == hashed:
            try:
                Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], (text + "\n").encode())
            except InvalidSignature:
                raise Refused("the checkpoint's signature does not fit") from None
            return text.splitlines()
    raise Refused("the checkpoint is not signed by this key")


def verify(proof: dict[str, object], vkey: str) -> str:
    """One line about the event, if the proof holds. Raises Refused."""
    note, event, path = proof["checkpoint"], proof["event"], proof["path"]
    index, before = proof["index"], proof["before"]
    assert isinstance(note, str) and isinstance(event, dict) and isinstance(path, list)  # noqa: PT018
    assert isinstance(index, int) and isinstance(before, str)  # noqa: PT018
    _origin, size, root, *_more = signed_text(note, vkey)
    if event["position"] != index + 1:
        raise Refused("the leaf is another event's")
    leaf = hashlib.sha256(b"\x00" + link(bytes.fromhex(before), event)).digest()
    if merkle_root(leaf, index, int(size), [base64.b64decode(node) for node in path]) != base64.b64decode(
        root
    ):
        raise Refused("the event is not in the log that was signed")
    return f"{event['stream']}#{event['seq']} is event {event['position']} of the {size} that were signed"


def main() -> int:
    file, vkey = sys.argv[1:3]
    with open(file, encoding="utf-8") as source:  # noqa: PTH123
        proof = json.load(source)
    try:
        print(verify(proof, vkey))
    except (Refused, ValueError, KeyError, AssertionError) as error:
        print(f"refused: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
