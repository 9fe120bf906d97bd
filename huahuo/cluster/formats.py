"""Which format of proposals the nodes write: the oldest, until somebody says that all know a newer one.

A row of the log says it, so all nodes hear of it in order. A node writes the newest that it knows and the row
allows; a node that meets one which it does not know stops and says so.
"""

import msgspec

from huahuo.cluster.duty import Duty
from huahuo.cluster.members import TABLE
from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.model import RowPut
from huahuo.eventstore.port import Log

LIVES_S = 10.0
PART, KEY = "format", b"written"


class NotFinal(Exception):  # noqa: N818  the condition is the name
    """A node knows only an older format. The text names it."""


class Written(msgspec.Struct, frozen=True):
    """The format that nodes may write."""

    format: int


async def read(log: Log) -> int:
    """The format that nodes may write; 0 if no node has said."""
    rows = await log.rows(TABLE, PART, after=b"", limit=1)
    return max((msgspec.json.decode(value, type=Written).format for _, value in rows), default=0)


async def finalize(duty: Duty) -> int:
    """Let the nodes write the newest format that this one knows; returns it.

    Raises:
        NotFinal: a node does not know it, or has not been heard of: forget that one first.
        EventStoreError: the log cannot write.
    """
    me = duty.facts()
    newest = me.format
    for node, member in sorted(duty.members.items()):
        if member.format < newest:
            raise NotFinal(f"the node {node} of build {member.build} knows format {member.format}: update it")
        if member.version != me.version:
            raise NotFinal(f"the node {node} makes the application's rows by other code: update it")
        if node != duty.node and (member.stopped or duty.silent_s(node) > LIVES_S):
            raise NotFinal(f"the node {node} does not run: start it, or `huahuo cluster remove {node}`")
    await duty.put(RowPut(TABLE, PART, KEY, json_bytes({"format": newest})))
    return newest
