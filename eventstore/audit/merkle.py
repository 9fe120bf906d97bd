"""Merkle trees of RFC 6962, section 2.1: one hash for a list, and short proofs of what is in it. Pure.

    leaf  = SHA-256( 0x00 || data )
    node  = SHA-256( 0x01 || left || right )

The leaf of position p (index p - 1) is made of the log's link chain[p], which covers event p and all
before it. A node without a right neighbour rises unchanged, which gives RFC 6962's tree.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Iterable[bytes]) -> bytes:
    """The root of the tree over leaf hashes; keeps only one hash per level in memory."""
    pending: list[tuple[int, bytes]] = []
    for leaf in leaves:
        level, node = 0, leaf
        while pending and pending[-1][0] == level:
            node = node_hash(pending.pop()[1], node)
            level += 1
        pending.append((level, node))
    if not pending:
        return EMPTY_ROOT
    node = pending.pop()[1]
    while pending:
        node = node_hash(pending.pop()[1], node)
    return node


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root, nearest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"a tree of {len(leaves)} leaves has no leaf {index}")
    path: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        above = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level, index = above, index // 2
    return path
