"""Secrets at rest: sealed under a data key per owner, the data keys wrapped by the master key.

Destroying an owner's wrapped key makes every secret of that owner unreadable, in every copy of the
database. All boxes are AES-256-GCM with a random 96-bit nonce. The purpose, format version, owner and
name of a box are authenticated with it: if a row is changed, or moved to another owner or name, its box
does not open.

    box = version (1 byte) || nonce (12 bytes) || ciphertext and tag
"""

from collections.abc import Callable, Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import SealBroken
from huahuo.eventstore.model import Secret, SecretPut

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
