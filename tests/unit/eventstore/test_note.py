"""Signed checkpoints: a note that the key's owner signed is read, any other is refused."""

import stat
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.audit.proof import Checkpoint, NoteBroken, SigningKey, open_note
from huahuo.eventstore.errors import EventStoreError

SIGNED = Checkpoint("a7c1", 1042, bytes(range(32)), bytes(32))
KEY = SigningKey(bytes(range(32)))
NAME = "huahuo/a7c1"


def test_what_was_signed_is_what_is_read() -> None:
    assert open_note(KEY.sign(SIGNED), KEY.vkey(NAME)) == SIGNED


@pytest.mark.parametrize(
    ("old", "new"), [("1042", "1043"), ("a7c1", "a7c2"), ("AAECA", "BAECA"), ("chain", "chaim")]
)
def test_a_changed_note_is_refused(old: str, new: str) -> None:
    note = KEY.sign(SIGNED)
    text, _, signature = note.rpartition("\n\n")
    with pytest.raises(NoteBroken):
        open_note(text.replace(old, new) + "\n\n" + signature, KEY.vkey(NAME))


def test_a_note_of_another_key_under_the_same_name_is_refused() -> None:
    with pytest.raises(NoteBroken, match="not signed"):
        open_note(SigningKey(bytes(32)).sign(SIGNED), KEY.vkey(NAME))


@pytest.mark.parametrize("vkey", ["", "huahuo/a7c1", "huahuo/a7c1+00000000+AQ==", "n+00000000+" + "A" * 44])
def test_what_is_no_public_key_is_said(vkey: str) -> None:
    with pytest.raises(NoteBroken):
        open_note(KEY.sign(SIGNED), vkey)


@pytest.mark.parametrize("note", ["", "huahuo/a7c1\n", "x" * 100_000, "a\n\n— b c\n"])
def test_what_is_no_note_is_said(note: str) -> None:
    with pytest.raises(NoteBroken):
        open_note(note, KEY.vkey(NAME))


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.key"
    first = SigningKey.ensure(path, FakeAmbient(1))
    again = SigningKey.ensure(path, FakeAmbient(2))
    assert first.vkey(NAME) == again.vkey(NAME)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in repr(first)


def test_a_key_file_that_holds_none_is_said(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.key"
    with pytest.raises(EventStoreError, match="cannot read"):
        SigningKey.load(path)
    path.write_text("short")
    with pytest.raises(EventStoreError, match="64 hex digits"):
        SigningKey.load(path)
