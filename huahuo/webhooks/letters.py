"""The rows of deliveries in the log: what is to be delivered, and what could not be (dead letters). Pure.

The table `webhook` has a row for each open delivery, and `webhook_dead` a part for each hook with a row for
each dead letter, by the event's position. A delivery's number is made of hook and position, so an event that
is looked at twice is queued once.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw, Struct

from huahuo.actors.effects.facts import OpenEffect, read_row
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import RowDrop, RowPut

TABLE: Final = "webhook"
DEAD: Final = "webhook_dead"
KIND: Final = "webhook"
DELIVERY: Final = "delivery"
_POSITION_BITS: Final = 40
_POSITION_MAX: Final = (1 << _POSITION_BITS) - 1


class Delivery(Struct, frozen=True):
    """What is delivered: the event at `position`, to a hook."""

    webhook_id: int
    position: int

    @property
    def number(self) -> int:
        """Its number, which is unique in the log."""
        return (self.webhook_id << _POSITION_BITS) | self.position

    @property
    def name(self) -> str:
        """As receivers get it: the same for each attempt."""
        return f"{self.webhook_id}.{self.position}"


class DeadLetter(Struct, frozen=True):
    """A delivery that failed for good."""

    stream: str
    seq: int
    type: str
    attempts: int
    error: str
    at_ms: int


def opened(
    delivery: Delivery, user: UserId, now_ms: int, *, failures: int = 0, due_ms: int = 0
) -> OpenEffect:
    """The row of an open delivery."""
    job = Raw(msgspec.json.encode(delivery))
    return OpenEffect(KIND, str(delivery.webhook_id), DELIVERY, job, now_ms, user, failures, due_ms)


def put(number: int, row: OpenEffect) -> RowPut:
    """Write the row of a delivery."""
    return RowPut(TABLE, "", row_key(number), msgspec.json.encode(row))


def drop(number: int) -> RowDrop:
    """Remove the row of a delivery that has ended."""
    return RowDrop(TABLE, "", row_key(number))


def row_key(number: int) -> bytes:
    """The key of a row. The log reads rows in descending order, and the oldest event shall come first."""
    position, webhook_id = number & _POSITION_MAX, number >> _POSITION_BITS
    return (_POSITION_MAX - position).to_bytes(8) + webhook_id.to_bytes(4)


def number_of(key: bytes) -> int:
    """The number that `row_key` was made from."""
    return (int.from_bytes(key[8:]) << _POSITION_BITS) | (_POSITION_MAX - int.from_bytes(key[:8]))


def hook_of(key: bytes) -> int:
    """The hook of a row's delivery."""
    return int.from_bytes(key[8:])


def read(key: bytes, value: bytes) -> tuple[int, OpenEffect]:
    """A row that `put` wrote."""
    return number_of(key), read_row(value)


def delivery_of(row: OpenEffect) -> Delivery:
    """What a row is about."""
    return msgspec.json.decode(row.job, type=Delivery)


def put_dead(delivery: Delivery, letter: DeadLetter) -> RowPut:
    """Keep a dead letter."""
    return RowPut(DEAD, str(delivery.webhook_id), delivery.position.to_bytes(8), msgspec.json.encode(letter))


def drop_dead(webhook_id: int, positions: Iterable[int]) -> tuple[RowDrop, ...]:
    """Remove dead letters."""
    return tuple(RowDrop(DEAD, str(webhook_id), position.to_bytes(8)) for position in positions)


def read_dead(key: bytes, value: bytes) -> tuple[int, DeadLetter]:
    """A dead letter by its position."""
    return int.from_bytes(key), msgspec.json.decode(value, type=DeadLetter)
