"""Proposals of a node, and a replica whose tables are empty."""

from collections.abc import Sequence
from typing import Any

from huahuo.eventstore.core.storage_port import Passed
from huahuo.eventstore.model import CommandKey, CommandRecord, Head
from huahuo.eventstore.replicated.proposal import Codec, Item, Proposal, encode_item

CODEC = Codec(bytes(32), "log")


class Nothing:
    """A replica whose tables are empty, and which may fail to read."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    def find_commands(self, keys: Sequence[CommandKey], since_ms: int) -> dict[CommandKey, CommandRecord]:
        if self.fault is not None:
            raise self.fault
        return {}

    def wrapped_keys(self, owners: Sequence[str]) -> dict[str, bytes]:
        return {}

    def has_row(self, table: str, part: str, key: bytes) -> bool:
        return False

    def ended_head(self, stream: str, upto: int) -> Head | None:
        return None


def proposal(number: int = 1, *items: Item, **more: Any) -> Proposal:
    known = {
        "node": "a", "epoch": 1, "token": "t", "number": number, "clock_ms": 1000, "advance_ms": 0,
        "build": "b", "seen": Passed(0, b"", b""), "items": list(items),
    }  # fmt: skip
    return Proposal(**{**known, **more})


def encoded(one: Proposal) -> bytes:
    return CODEC.encode(one, [encode_item(item) for item in one.items])
