"""Signed checkpoints: the size and hashes of a log, in the C2SP forms `tlog-checkpoint` and `signed-note`.

    huahuo/<log id>            origin
    1042                       events
    <base64>                   root of the Merkle tree over them
    chain <base64>             link of the last one (an extension line)
    (empty line)
    — huahuo/<log id> <base64 of key hash (4 bytes) and Ed25519 signature>

A verifier needs the note and the public key in its `vkey` form, nothing else of huahuo.
"""

import base64
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.new_file import make_file

KEY_FILE = "checkpoint.key"
NOTE_BYTES_MAX = 64 << 10
_ED25519 = b"\x01"
_SEED_BYTES = 32
_HASH_BYTES = 4
_CHAIN = "chain "


class Checkpoint(msgspec.Struct, frozen=True):
    """A state of a log: `size` events under the Merkle `root`, the last with the link `chain`."""

    log_id: str
    size: int
    root: bytes
    chain: bytes

    @property
    def origin(self) -> str:
        """The log's name in notes, also the name of its key."""
        return origin_of(self.log_id)

    def text(self) -> str:
        """The text that is signed."""
        chain = base64.b64encode(self.chain).decode()
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n{_CHAIN}{chain}\n"


def origin_of(log_id: str) -> str:
    """The name of a log in notes."""
    return f"huahuo/{log_id}"


class NoteBroken(EventStoreError):  # noqa: N818
    """A note is malformed, or its signature is not by the key."""


class SigningKey:
    """An Ed25519 key. Its repr does not show it."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)

    def __repr__(self) -> str:
        return "SigningKey([sealed])"

    @classmethod
    def load(cls, path: Path) -> "SigningKey":
        """The key in a file of 64 hex digits.

        Raises:
            EventStoreError: there is none, or it is malformed.
        """
        try:
            seed = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except OSError as error:
            raise EventStoreError(f"cannot read {path}: {error.strerror}") from None
        except ValueError:
            seed = b""
        if len(seed) != _SEED_BYTES:
            raise EventStoreError(f"{path} must hold 64 hex digits")
        return cls(seed)

    @classmethod
    def ensure(cls, path: Path, ambient: Ambient) -> "SigningKey":
        """The key in a file; the file is made with mode 0600 if there is none. Raises as `load`."""
        try:
            make_file(path, f"{ambient.token_bytes(_SEED_BYTES).hex()}\n".encode("ascii"))
        except FileExistsError:
            pass
        except OSError as error:
            raise EventStoreError(f"cannot make {path}: {error.strerror}") from None
        return cls.load(path)

    def vkey(self, name: str) -> str:
        """The public key for verifiers: `<name>+<hash>+<key>`."""
        public = self._private.public_key().public_bytes_raw()
        return f"{name}+{_key_hash(name, public).hex()}+{base64.b64encode(_ED25519 + public).decode()}"

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note."""
        text = checkpoint.text()
        name = checkpoint.origin
        public = self._private.public_key().public_bytes_raw()
        signed = _key_hash(name, public) + self._private.sign(text.encode())
        return f"{text}\n— {name} {base64.b64encode(signed).decode()}\n"


def open_note(note: str, vkey: str) -> Checkpoint:
    """The checkpoint in a note, whose signature must be by the key `vkey`.

    Raises:
        NoteBroken: it is malformed, not signed by that key, or changed since.
    """
    name, public = _public(vkey)
    if len(note) > NOTE_BYTES_MAX:
        raise NoteBroken("the note is too long")
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    if not separator:
        raise NoteBroken("the note has no signatures")
    wanted = _key_hash(name, public)
    for line in signatures.splitlines():
        dash, _, rest = line.partition(" ")
        signer, _, encoded = rest.rpartition(" ")
        signed = _decoded(encoded)
        if dash == "—" and signer == name and signed[:_HASH_BYTES] == wanted:
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signed[_HASH_BYTES:], text.encode())
            except InvalidSignature:
                raise NoteBroken("the note's signature does not fit: it was changed") from None
            return _parsed(text)
    raise NoteBroken(f"the note is not signed by {name}")


def _parsed(text: str) -> Checkpoint:
    lines = text.splitlines()
    try:
        origin, size, root, *more = lines
        chain = next(line.removeprefix(_CHAIN) for line in more if line.startswith(_CHAIN))
        return Checkpoint(origin.removeprefix("huahuo/"), int(size), _decoded(root), _decoded(chain))
    except (ValueError, StopIteration):
        raise NoteBroken("the note is no checkpoint of a log") from None


def _public(vkey: str) -> tuple[str, bytes]:
    name, _, rest = vkey.strip().partition("+")
    hashed, _, encoded = rest.partition("+")
    key = _decoded(encoded)
    if not name or key[:1] != _ED25519 or len(key) != 1 + _SEED_BYTES:
        raise NoteBroken("not a public key of the form <name>+<hash>+<key>")
    if _key_hash(name, key[1:]).hex() != hashed:
        raise NoteBroken("the public key does not fit its hash")
    return name, key[1:]


def _key_hash(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_HASH_BYTES]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise NoteBroken("the note holds no base64 where it should") from None
