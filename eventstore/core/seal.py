"""Secrets at rest, and the sealing and packing of what an append brings.

Secrets are sealed under a data key per owner, the data keys wrapped by the master key. Destroying an
owner's wrapped key makes every secret of that owner unreadable, in every copy of the database. All boxes
are AES-256-GCM with a random 96-bit nonce. The purpose, format version, owner and name of a box are
authenticated with it: if a row is changed, or moved to another owner or name, its box does not open.

    box = version (1 byte) || nonce (12 bytes) || ciphertext and tag

Sealing and packing take chance and a compressor, so it is done once, where the append is proposed, before
it is decided: two nodes with different chance, or different versions of the compressor, still write the
same bytes.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.core.storage_port import Carried, KeyUse, PutBlob, PutSealed, key_name
from huahuo.eventstore.errors import SealBroken
from huahuo.eventstore.executor import give_way
from huahuo.eventstore.model import Append, Secret, SecretPut

KEY_BYTES = 32
MASTER_KEY_BYTES_MIN = 32
_VERSION = 1
_NONCE_BYTES = 12
_STRETCH_SECRETS = 32


def derive(master_key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one `purpose` (HKDF-SHA-256). A key reveals nothing about those of other purposes.

    Raises:
        ValueError: the master key is shorter than 32 bytes.
    """
    if len(master_key) < MASTER_KEY_BYTES_MIN:
        raise ValueError(f"the master key has fewer than {MASTER_KEY_BYTES_MIN} bytes")
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=b"huahuo", info=purpose.encode()).derive(
        master_key
    )


class Prepared(msgspec.Struct, frozen=True):
    """Secrets sealed ahead under fresh keys: good for owners that turn out to have no key yet.

    `wrapped`: the key of each owner; `boxes`: of the secrets, in their order.
    """

    wrapped: dict[str, bytes]
    boxes: list[bytes]


class Vault:
    """Makes data keys, seals and unseals. Holds the wrapping key; never shows it."""

    def __init__(self, master_key: bytes, ambient: Ambient) -> None:
        self._wrapping_key = derive(master_key, "data keys")
        self._ambient = ambient

    def __repr__(self) -> str:
        return "Vault()"

    def new_key(self, owner: str) -> bytes:
        """A fresh data key for `owner`, wrapped for storing."""
        return self._close(self._wrapping_key, self._ambient.token_bytes(KEY_BYTES), "key", owner, "")

    def data_key(self, wrapped: bytes, owner: str) -> bytes:
        """The key in a wrapped key.

        Raises:
            SealBroken: `wrapped` is not this owner's key.
        """
        return self._open(self._wrapping_key, wrapped, "key", owner, "")

    def seal(self, wrapped: bytes, owner: str, name: str, secret: Secret) -> bytes:
        """`secret` as a box that opens only with the same wrapped key, owner and name.

        Raises:
            SealBroken: `wrapped` is not this owner's key.
        """
        key = self.data_key(wrapped, owner)
        # A lone surrogate is sealed like any other text: an encoding error would contain the secret.
        return self._close(key, secret.reveal().encode("utf-8", "surrogatepass"), "secret", owner, name)

    def prepare(self, puts: Sequence[SecretPut], pause: Callable[[], None]) -> Prepared:
        """Seal `puts` under a fresh key for each owner; `pause` is called every `_STRETCH_SECRETS`."""
        prepared = Prepared({}, [])
        for number, put in enumerate(puts):
            if number % _STRETCH_SECRETS == _STRETCH_SECRETS - 1:
                pause()
            wrapped = prepared.wrapped.get(put.owner)
            if wrapped is None:
                wrapped = prepared.wrapped[put.owner] = self.new_key(put.owner)
            prepared.boxes.append(self.seal(wrapped, put.owner, put.name, put.value))
        return prepared

    def unseal(self, wrapped: bytes, owner: str, name: str, sealed: bytes) -> Secret:
        """The secret in a box.

        Raises:
            SealBroken: the box or the key was changed, moved, or made under another master key.
        """
        key = self.data_key(wrapped, owner)
        return Secret(self._open(key, sealed, "secret", owner, name).decode("utf-8", "surrogatepass"))

    def mark(self) -> bytes:
        """A box by which `knows` recognises this master key later."""
        return self._close(self._wrapping_key, b"", "mark", "", "")

    def knows(self, mark: bytes) -> bool:
        """Whether `mark` was made under this master key."""
        try:
            return self._open(self._wrapping_key, mark, "mark", "", "") == b""
        except SealBroken:
            return False

    def _close(self, key: bytes, plain: bytes, purpose: str, owner: str, name: str) -> bytes:
        nonce = self._ambient.token_bytes(_NONCE_BYTES)
        return bytes([_VERSION]) + nonce + AESGCM(key).encrypt(nonce, plain, _bound(purpose, owner, name))

    def _open(self, key: bytes, box: bytes, purpose: str, owner: str, name: str) -> bytes:
        if box[:1] != bytes([_VERSION]):
            raise SealBroken(f"the {purpose} of {owner} has an unknown form")
        nonce, sealed = box[1 : 1 + _NONCE_BYTES], box[1 + _NONCE_BYTES :]
        try:
            return AESGCM(key).decrypt(nonce, sealed, _bound(purpose, owner, name))
        except (InvalidTag, ValueError):
            raise SealBroken(f"the {purpose} of {owner} does not open") from None


def _bound(purpose: str, owner: str, name: str) -> bytes:
    """The data authenticated with a box: unambiguous, whatever the names contain."""
    return msgspec.msgpack.encode(["huahuo", purpose, _VERSION, owner, name])


_PACK_LEVEL = 3
_THREAD_COMPRESSOR_BYTES_MAX = 64 << 10
"""Larger data gets a compressor of its own, because it makes one keep up to 4 MiB for good."""


class _ThreadCompressor(threading.local):
    """A compressor for each thread, as making one takes six times as long as packing a mail."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_PACK_LEVEL)


_thread_compressor = _ThreadCompressor()


def pack(data: bytes) -> bytes:
    """`data` compressed, for storing."""
    if len(data) > _THREAD_COMPRESSOR_BYTES_MAX:
        return zstandard.ZstdCompressor(level=_PACK_LEVEL).compress(data)
    return _thread_compressor.compressor.compress(data)


_CARRIED_A_STRETCH = 64
"""After this many, about 1.5 ms, the job offers the interpreter lock to other threads (`give_way`)."""


def carry(
    append: Append, held: Mapping[str, bytes | None], vault: Vault, prepared: Prepared | None = None
) -> Carried:
    """Seal and pack what `append` brings. `prepared`: its secrets, sealed ahead under fresh keys.

    `held`: the wrapped key of each owner of a secret as it is before the append, None if it has none.

    Raises:
        SealBroken: a key of `held` is not what was stored for its owner.
    """
    blobs = tuple(PutBlob(blob_id(blob), pack(blob), append.owner) for blob in append.blobs)
    if not append.secrets:
        return Carried(blobs=blobs)
    keys = {owner: None if owner in append.shred else wrapped for owner, wrapped in held.items()}
    ahead = {} if prepared is None else prepared.wrapped
    uses: dict[str, KeyUse] = {}
    boxes: list[PutSealed] = []
    for number, put in enumerate(append.secrets):
        if number % _CARRIED_A_STRETCH == _CARRIED_A_STRETCH - 1:
            give_way()
        wrapped = keys[put.owner]
        if wrapped is None:
            wrapped = keys[put.owner] = ahead.get(put.owner) or vault.new_key(put.owner)
            uses[put.owner] = KeyUse(put.owner, key_name(wrapped), wrapped)
        elif put.owner not in uses:
            uses[put.owner] = KeyUse(put.owner, key_name(wrapped))
        if prepared is not None and wrapped is ahead.get(put.owner):
            sealed = prepared.boxes[number]
        else:
            sealed = vault.seal(wrapped, put.owner, put.name, put.value)
        boxes.append(PutSealed(put.owner, put.name, sealed))
    return Carried(tuple(uses.values()), tuple(boxes), blobs)
