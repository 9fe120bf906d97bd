"""Sealing and packing what an append brings, before it is decided.

This takes chance and a compressor, so it is done once, where the append is proposed: two nodes with different
chance, or different versions of the compressor, still write the same bytes.
"""

from collections.abc import Mapping

from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.core.carried import Carried, KeyUse, key_name
from huahuo.eventstore.core.changes import PutBlob, PutSealed
from huahuo.eventstore.core.packing import pack
from huahuo.eventstore.core.seal import Prepared, Vault
from huahuo.eventstore.executor import give_way
from huahuo.eventstore.model import Append

_SECRETS_A_STRETCH = 64
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
        if number % _SECRETS_A_STRETCH == _SECRETS_A_STRETCH - 1:
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
