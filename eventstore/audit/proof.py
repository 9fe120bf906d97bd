"""What an outside verifier can check: signed checkpoints of a log, and proofs that an event is in it.

A checkpoint is the size and hashes of a log, in the C2SP forms `tlog-checkpoint` and `signed-note`:

    huahuo/<log id>            origin
    1042                       events
    <base64>                   root of the Merkle tree over them
    chain <base64>             link of the last one (an extension line)
    (empty line)
    — huahuo/<log id> <base64 of key hash (4 bytes) and Ed25519 signature>

A verifier needs the note and the public key in its `vkey` form, nothing else of huahuo. The tree is that
of RFC 6962, section 2.1: leaf = SHA-256( 0x00 || data ), node = SHA-256( 0x01 || left || right ). The leaf
of position p (index p - 1) is made of the link chain[p], which covers event p and all before it. A node
without a right neighbour rises unchanged. A proof holds the event's own fields, the link before it, and
the path from its leaf to the root that a checkpoint names. Checking it needs only the documented formulas
(docs/audit.md).
"""

import base64
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.atomic_file import make_file
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.model import LOG_STREAM

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


EMPTY_ROOT = sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def _levels(leaves: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The levels of the tree over leaf hashes, from the leaves up to the root."""
    level = [*leaves]
    while len(level) > 1:
        yield level
        above = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
        level = above + level[2 * len(above) :]
    yield level


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over leaf hashes."""
    *_, top = _levels(leaves)
    return top[0] if top else EMPTY_ROOT


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root, nearest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"a tree of {len(leaves)} leaves has no leaf {index}")
    siblings = ((level, (index >> height) ^ 1) for height, level in enumerate(_levels(leaves)))
    return [level[sibling] for level, sibling in siblings if sibling < len(level)]


_PAGE_EVENTS = 50_000
PROOF = "huahuo-inclusion-1"


class NotProvable(LookupError):  # noqa: N818  an answer, said as one
    """There is no such event, it was pruned, or the checkpoint is older than it."""


async def checkpoint_of(log: LogReader, size: int | None = None) -> Checkpoint:
    """The checkpoint of the log now, or as it was after its first `size` events.

    Raises:
        Damaged: a position is missing.
    """
    upto = log.position if size is None else size
    leaves, chain = await _leaves(log, upto)
    return Checkpoint(log.log_id, upto, root(leaves), chain)


async def check_against(log: LogReader, checkpoint: Checkpoint) -> None:
    """Check that the log still begins with the history that was signed.

    Raises:
        Damaged: it does not; the position is the first missing one, or the last that the checkpoint covers.
    """
    if checkpoint.size > log.position:
        raise Damaged(log.position + 1, f"missing: a checkpoint was signed over {checkpoint.size} events")
    now = await checkpoint_of(log, checkpoint.size)
    if (now.root, now.chain) != (checkpoint.root, checkpoint.chain):
        raise Damaged(checkpoint.size, "history was rewritten: it is not the one that was signed")


async def prove(log: LogReader, position: int, size: int) -> dict[str, object]:
    """The proof that the event at `position` is among the first `size`, as JSON values.

    Raises:
        NotProvable: see there. Damaged: a position is missing.
    """
    if not 0 < position <= min(size, log.position):
        raise NotProvable(f"no event at position {position} among the first {size}")
    found = await log.read(LOG_STREAM, position - 1, events_max=1)
    if not found or found[0].position != position:
        raise NotProvable(f"the event at position {position} was pruned")
    leaves, _ = await _leaves(log, size)
    before = await log.chains(position - 2, position - 1) if position > 1 else [bytes(32)]
    event = {name: value for name, value in msgspec.structs.asdict(found[0]).items() if name != "chain"}
    event["body"] = found[0].body.decode()
    return {
        "proof": PROOF,
        "event": event,
        "before": before[0].hex(),
        "chain": found[0].chain.hex(),
        "index": position - 1,
        "size": size,
        "root": base64.b64encode(root(leaves)).decode(),
        "path": [base64.b64encode(node).decode() for node in inclusion_path(leaves, position - 1)],
    }


async def _leaves(log: LogReader, upto: int) -> tuple[list[bytes], bytes]:
    leaves: list[bytes] = []
    chain = bytes(32)
    while len(leaves) < upto:
        links = await log.chains(len(leaves), min(upto, len(leaves) + _PAGE_EVENTS))
        if not links:
            raise Damaged(len(leaves) + 1, "missing")
        leaves += map(leaf_hash, links)
        chain = links[-1]
    return leaves, chain
