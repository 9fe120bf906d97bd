"""Sealing: which boxes open, and which must not."""

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.seal import Vault, derive
from huahuo.eventstore.errors import SealBroken
from huahuo.eventstore.model import Secret

MASTER = bytes(range(32))


@pytest.fixture
def vault() -> Vault:
    return Vault(MASTER, FakeAmbient(1))


@pytest.mark.parametrize("box", [b"", b"\x01", b"\x01" + bytes(12), b"\x02" + bytes(40)])
def test_a_box_of_no_known_form_does_not_open(vault: Vault, box: bytes) -> None:
    with pytest.raises(SealBroken):
        vault.unseal(vault.new_key("o"), "o", "p", box)


def test_boxes_swapped_between_names_or_owners_do_not_open(vault: Vault) -> None:
    one, two = vault.new_key("o1"), vault.new_key("o2")
    box = vault.seal(one, "o1", "p", Secret("s"))
    for wrapped, owner, name in ((one, "o1", "q"), (two, "o2", "p"), (one, "o2", "p"), (two, "o1", "p")):
        with pytest.raises(SealBroken):
            vault.unseal(wrapped, owner, name, box)


def test_another_master_key_opens_nothing(vault: Vault) -> None:
    other = Vault(b"x" * 32, FakeAmbient(2))
    wrapped = vault.new_key("o")
    box = vault.seal(wrapped, "o", "p", Secret("s"))
    with pytest.raises(SealBroken):
        other.unseal(wrapped, "o", "p", box)
    assert vault.knows(vault.mark())
    assert not other.knows(vault.mark())


def test_an_error_and_a_repr_tell_nothing_secret(vault: Vault) -> None:
    wrapped = vault.new_key("o")
    with pytest.raises(SealBroken) as caught:
        vault.unseal(wrapped, "o", "p", b"\x01" + bytes(40))
    assert caught.value.__cause__ is None
    assert MASTER.hex() not in repr(vault) + str(caught.value)
    assert "hunter2" not in repr(Secret("hunter2"))


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        derive(b"x" * 31, "a")
