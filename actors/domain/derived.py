"""Rows that are a function of an entity's state: `@order.rows("orders")`. Pure.

After a decision, the rows of the state before and after it are compared, and the differences are written in
its commit. Nothing records them, because the table can be made anew from the entities' own streams
(`rebuilding`), also by other code than that which wrote it.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final

from huahuo.actors.domain.decision import Put
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.errors import place_of
from huahuo.actors.domain.handlers import Handler
from huahuo.actors.domain.prints import print_of
from huahuo.actors.domain.row_facts import KIND, TABLE_PREFIX, row
from huahuo.eventstore.model import RowDrop, RowPut

PARTS: Final = "parts"
"""The part of our own table that names the parts of each derived table, so that a rebuild can empty them."""

type Place = tuple[str, str, bytes]
"""The table, the part and the key of a row."""


class RowsFault(Exception):  # noqa: N818  the log's word
    """A function of `rows` answered something that cannot be stored. The text says where and what."""


def rows_of(entity: Entity[Any], state: Any, key: int | str, but: Container[str] = ()) -> dict[Place, RowPut]:
    """All rows that an entity in this state has, but those of some tables.

    Raises:
        RowsFault: an answer is no list of rows. OverBound: a row is too large. Others: as the functions.
    """
    found: dict[Place, RowPut] = {}
    for table, handler in entity.tables.items():
        if table in but:
            continue
        for put in _put(table, handler, handler(state, key)):
            found[put.table, put.part, put.key] = put
    return found


def changes(before: Mapping[Place, RowPut], after: Mapping[Place, RowPut]) -> list[RowPut | RowDrop]:
    """What makes the rows of one state those of another."""
    gone: list[RowPut | RowDrop] = [RowDrop(*place) for place in before if place not in after]
    return [*gone, *with_parts([put for place, put in after.items() if before.get(place) != put])]


def with_parts(puts: Iterable[RowPut]) -> list[RowPut]:
    """These rows, and what remembers their parts."""
    rows = list(puts)
    named = {(put.table, put.part) for put in rows}
    return [*rows, *(RowPut(KIND, PARTS, part_key(table, part), b"") for table, part in sorted(named))]


def parts_in(table: str, keys: Iterable[bytes]) -> list[str]:
    """The parts of a table, from the keys of all parts that are remembered."""
    prefix = part_key(TABLE_PREFIX + table, "")
    return [key.removeprefix(prefix).decode() for key in keys if key.startswith(prefix)]


def table_in(key: bytes) -> str:
    """The table of a remembered part."""
    return key.partition(b"\0")[0].decode()


def code_of(table: str, entities: Sequence[tuple[Entity[Any], str]]) -> bytes:
    """What changes with the code that a table is made by. Each entity with the fingerprint of its state."""
    parts = [part for entity, print_ in entities for part in (entity.kind, entity.tables[table], print_)]
    return print_of(table, *parts).encode()


def part_key(table: str, part: str) -> bytes:
    """The key that remembers a part."""
    return f"{table}\0{part}".encode()


def _put(table: str, handler: Handler, answer: object) -> Iterable[RowPut]:
    where = f"{place_of(handler)}: {handler.__name__}, the rows of {table!r}"
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise RowsFault(f"{where}: it returns {type(answer).__name__}: return a list of Put({table!r}, …)")
    for put in answer:
        if not isinstance(put, Put) or put.table != table:
            raise RowsFault(f"{where}: it returns {put!r}: write Put({table!r}, part, key, value)")
        try:
            made = row(put)
        except TypeError as error:
            raise RowsFault(f"{where}: {error}") from None
        assert isinstance(made, RowPut), "a Put becomes one"
        yield made
