"""Merkle trees: the published vectors, and proofs that hold for every leaf and no other."""

from collections.abc import Sequence

import pytest

from huahuo.eventstore.audit.proof import EMPTY_ROOT, inclusion_path, leaf_hash, node_hash, root

# The leaves of the Certificate Transparency reference tests (RFC 6962).
REFERENCE = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip


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


def test_the_roots_are_those_of_the_reference() -> None:
    leaves = [leaf_hash(data) for data in REFERENCE]
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33])
def test_every_leaf_has_a_proof_that_leads_to_the_root(size: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(size)]
    for index, leaf in enumerate(leaves):
        path = inclusion_path(leaves, index)
        assert root_from_path(leaf, index, size, path) == root(leaves)


def test_a_proof_holds_for_its_leaf_at_its_index_only() -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(11)]
    path = inclusion_path(leaves, 4)
    assert root_from_path(leaves[5], 4, 11, path) != root(leaves)
    assert root_from_path(leaves[4], 5, 11, path) != root(leaves)


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
