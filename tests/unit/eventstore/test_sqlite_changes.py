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
