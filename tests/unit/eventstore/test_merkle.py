"""Merkle trees: the published vectors, and proofs that hold for every leaf and no other."""

from collections.abc import Sequence

import pytest

from huahuo.eventstore.audit.proof import inclusion_path, leaf_hash, node_hash


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a proof leads to (RFC 9162, section 2.1.3.2).

    Raises:
        ValueError: the length of the proof does not fit a tree of that size.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    node, at, last = leaf, index, size - 1
    for sibling in path:
        if not last:
            raise ValueError("the proof is too long")
        if at % 2 or at == last:
            node = node_hash(sibling, node)
            while at and not at % 2:
                at, last = at // 2, last // 2
        else:
            node = node_hash(node, sibling)
        at, last = at // 2, last // 2
    if last:
        raise ValueError("the proof is too short")
    return node


def test_a_proof_of_the_wrong_length_is_refused() -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(11)]
    path = inclusion_path(leaves, 4)
    with pytest.raises(ValueError, match="short"):
        root_from_path(leaves[4], 4, 11, path[:-1])
    with pytest.raises(ValueError, match="long"):
        root_from_path(leaves[4], 4, 11, [*path, path[0]])
    with pytest.raises(IndexError):
        inclusion_path(leaves, 11)
    with pytest.raises(ValueError, match="no leaf"):
        root_from_path(leaves[4], 11, 11, path)
