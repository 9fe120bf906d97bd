"""The nodes of a log: a row for each, written again and again by the node itself."""

from collections.abc import Mapping

import msgspec

from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.model import RowDrop, RowPut
from huahuo.eventstore.port import Log

TABLE = "cluster"
_PART = "nodes"
NODES_MAX = 1000
DIVISION = 2
"""How this version divides the work. Nodes of versions that divide otherwise do no part of it."""
LIVES_MS = 60_000
"""A node whose newest row is older than this is not asked for its keys."""


class Member(msgspec.Struct, frozen=True):
    """What a node says of itself. `beat` counts; `keys` is a mark of the token keys that it takes.

    `load`: the part of one core that its process used lately.
    """

    url: str
    build: str
    keys: str
    beat: int
    at_ms: int
    applied: int
    connections: int = 0
    format: int = 1
    """The newest format of proposals that it knows."""
    load: float = 0.0
    takes_clients: bool = True
    """Whether it is ready: not drained, its clock not wrong, its replica in order."""
    divides: int = 0
    """`DIVISION` of its version, or 0 if it does no part. Older versions have no number."""
    stopped: bool = False
    """Whether it has been stopped in order. Its next start takes this back."""
    version: str = ""
    """A fingerprint of the code by which the application on it writes rows."""


def put(node: str, member: Member) -> RowPut:
    """The row of `node`."""
    return RowPut(TABLE, _PART, node.encode(), json_bytes(msgspec.to_builtins(member)))


def drop(node: str) -> RowDrop:
    """`node` is a member no more."""
    return RowDrop(TABLE, _PART, node.encode())


async def read(log: Log) -> Mapping[str, Member]:
    """All nodes that this log knows, by name."""
    rows = await log.rows(TABLE, _PART, after=b"", limit=NODES_MAX)
    return {key.decode(): msgspec.json.decode(value, type=Member) for key, value in rows}


def must_share_keys(now: Mapping[str, Member], node: str, keys: str, now_ms: int) -> None:
    """The token keys of `node`, whose marks are `keys`, must be among those of each node that lives.

    Raises:
        ConfigError: another one takes none of them.
    """
    mine = set(keys.split(","))
    for other, member in now.items():
        lives = member.at_ms > now_ms - LIVES_MS
        if other != node and lives and not mine & set(member.keys.split(",")):
            raise ConfigError(
                f"the node {other} takes tokens of another key than this one: give all nodes the same"
                " jwt.secret or HUAHUO_JWT_SECRET (while you rotate it, with the older one as previous)"
            )


def takers(now: Mapping[str, Member], but: str) -> list[str]:
    """The URLs of the nodes that take clients, but that of one."""
    return sorted(one.url for node, one in now.items() if node != but and one.takes_clients and one.url)


def is_row_of(row: RowPut) -> bool:
    """Whether it is the row of a node."""
    return (row.table, row.part) == (TABLE, _PART)
