"""Commands on an application's own entities: who may send them, and what becomes of them."""

import pytest

from tests.support.worlds.orders import Engine, in_engine
from tests.support.worlds.rooms import rooms
from tests.support.worlds.scenario import scenario

# Natural keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "a b", "a/b", "茶", "x" * 65, ".", "..", "a\n"])
@scenario(in_engine, [rooms()])
async def test_a_key_of_another_form_is_refused(engine: Engine, *, key: str) -> None:
    said = await engine.send("join_room", room_id=key)
    assert (said["code"], said["details"].partition(":")[0]) == ("invalid_field", "room_id")
    assert key in (".", "..", "a\n") or "matching regex" in said["details"], said
