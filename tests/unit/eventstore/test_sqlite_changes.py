"""What many changes do in SQL: few statements, with the same effect as one by one."""

from huahuo.eventstore.core.storage_port import Change, DropRow, PutKey, PutRow, PutSealed, Shred
from huahuo.eventstore.model import RowDrop, RowPut
from huahuo.eventstore.sqlite.changes import statements_of


def put(key: bytes, value: bytes) -> Change:
    return PutRow(RowPut("t", "p", key, value))


def drop(key: bytes | None) -> Change:
    return DropRow(RowDrop("t", "p", key))


def test_an_import_of_thousands_takes_few_statements() -> None:
    changes: list[Change] = [PutKey(f"mailbox/{n}", b"key") for n in range(2_000)]
    changes += [PutSealed(f"mailbox/{n}", "password", b"box") for n in range(2_000)]
    assert len(list(statements_of(changes))) <= 40


def test_a_deletion_of_a_thousand_takes_few_statements() -> None:
    changes: list[Change] = [Shred(f"mailbox/{n}") for n in range(1_000)]
    for n in range(1_000):
        changes += (drop(b"%d" % n), put(b"%d" % n, b"{}"))
    assert len(list(statements_of(changes))) <= 40


def test_of_changes_of_one_row_the_last_one_counts() -> None:
    [(sql, values)] = statements_of([put(b"k", b"old"), drop(b"k"), put(b"k", b"new")])
    assert sql.startswith("INSERT OR REPLACE INTO projection")
    assert tuple(values)[:4] == ("t", "p", b"k", b"new")
    [(sql, values)] = statements_of([put(b"k", b"old"), drop(b"k")])
    assert sql.startswith("DELETE FROM projection")
    assert values == ("t", "p", b"k")


def test_a_whole_part_that_goes_keeps_its_place_among_its_rows() -> None:
    made = [
        sql.partition(" projection")[0]
        for sql, _ in statements_of([put(b"a", b"1"), drop(None), put(b"b", b"2")])
    ]
    assert made == ["INSERT OR REPLACE INTO", "DELETE FROM", "INSERT OR REPLACE INTO"]
