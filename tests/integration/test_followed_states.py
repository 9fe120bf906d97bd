"""States that clients follow: what they see is the server's own fold, whole or as merge patches."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, DefinitionError, Entity, Event, Huahuo, Outcome, Principal
from huahuo.transport.server.states import merge_patch
from tests.support.drivers.rawclient import RawClient, connected


class Told(Event, type="room_told"):
    topic: str | None = None
    guest: str | None = None


class Locked(Event, type="room_locked", rights=True): ...


class Room(Struct, frozen=True):
    topic: str | None = ""
    guests: dict[str, int] = {}
    locked: bool = False


class Tell(Command, action="tell_room", creates=True, open=True):
    topic: str | None = None
    guest: str | None = None


class Lock(Command, action="lock_room", open=True): ...


def rooms() -> Entity[Room]:
    room = Entity("room", Room, key=str)

    @room.evolve
    def told(state: Room, event: Told) -> Room:
        if event.guest:
            return replace(state, guests={**state.guests, event.guest: len(state.guests)})
        return replace(state, topic=event.topic)

    @room.evolve
    def locked(state: Room, event: Locked) -> Room:
        return replace(state, locked=True)

    @room.decide
    def tell(state: Room, command: Tell, ctx: Context) -> Outcome:
        return [Told(command.topic, command.guest)]

    @room.decide
    def lock(state: Room, command: Lock, ctx: Context) -> Outcome:
        return [Locked()]

    @room.readers
    def may_read(state: Room, who: Principal) -> bool:
        return not state.locked

    return room


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Huahuo]:
    async with Huahuo(entities=[rooms()], data=tmp_path / "data", port=0) as app:
        yield app


async def joined(app: Huahuo, ws: RawClient) -> None:
    await ws.authenticate(app.token(42, "ann"))


async def follow(
    ws: RawClient, stream: str = "room/1", since: dict[str, Any] | None = None
) -> dict[str, Any]:
    more = {} if since is None else {"from": since}
    await ws.say(action="follow", id="f", state=stream, **more)
    return await ws.until("following", id="f")


async def tell(app: Huahuo, **fields: Any) -> None:
    await app.send("tell_room", room_id="1", **fields)


async def test_a_state_comes_whole_and_then_what_differs(app: Huahuo) -> None:
    await tell(app, topic="tea")
    async with connected(app.url) as ws:
        await joined(app, ws)
        following = await follow(ws)
        assert following["outcome"] == "fresh"
        view = following["view"]
        first = await ws.until("state", view=view)
        assert (first["seq"], first["state"]["topic"]) == (1, "tea")
        await tell(app, guest="bob")
        assert await ws.until("state") == {
            "type": "state", "view": view, "seq": 2, "patch": {"guests": {"bob": 0}},
        }  # fmt: skip
        await tell(app, topic=None)
        whole = await ws.until("state")
        assert (whole["state"]["topic"], "patch" in whole) == (None, False)


async def test_who_comes_back_with_the_newest_gets_nothing_and_with_an_older_one_the_whole(
    app: Huahuo,
) -> None:
    await tell(app, topic="tea")
    async with connected(app.url) as ws:
        await joined(app, ws)
        following = await follow(ws)
        place = {"log": following["log"], "seq": 1}
        assert (await follow(ws, since=place))["outcome"] == "resumed"
        assert [one for one in await ws.quiet() if one["type"] == "state"] == []
        await tell(app, topic="cake")
        await ws.until("state", seq=2)
        assert (await follow(ws, since=place))["outcome"] == "reset"
        assert (await ws.until("state"))["state"]["topic"] == "cake"


async def test_who_does_not_ack_gets_four_and_later_the_newest(app: Huahuo) -> None:
    await tell(app, topic="0")
    async with connected(app.url) as ws:
        await joined(app, ws)
        view = (await follow(ws))["view"]
        await ws.until("state", seq=1)
        for number in range(1, 10):
            await tell(app, topic=str(number))
            if number < 4:
                await ws.until("state", seq=number + 1)
        assert [one for one in await ws.quiet() if one["type"] == "state"] == []
        await ws.say(action="ack", views={str(view): 4})
        assert (await ws.until("state"))["state"]["topic"] == "9"


async def test_a_state_that_is_not_for_the_user_is_denied_and_a_right_that_ends_ends_it(app: Huahuo) -> None:
    await tell(app, topic="tea")
    async with connected(app.url) as ws:
        await joined(app, ws)
        for stream in ("user/7", "nobody/1", "mailbox/1"):
            assert (await follow(ws, stream))["outcome"] == "denied"
        view = (await follow(ws))["view"]
        await ws.until("state", view=view)
        await ws.say(action="subscribe", id="s", stream="room/1")
        await ws.until("subscribed", id="s")
        await app.send("lock_room", room_id="1")
        assert (await ws.until("unfollowed", view=view))["reason"] == "forbidden"


async def test_who_unfollows_hears_no_more(app: Huahuo) -> None:
    await tell(app, topic="tea")
    async with connected(app.url) as ws:
        await joined(app, ws)
        view = (await follow(ws))["view"]
        await ws.say(action="unfollow", id="u", view=view)
        await ws.until("unfollowed", id="u")
        await tell(app, topic="cake")
        assert [one for one in await ws.quiet() if one["type"] == "state"] == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_view_shapes_what_is_seen(tmp_path: Path, workers: int) -> None:
    room = rooms()

    @room.view
    def shown(state: Room, id: str) -> object:  # noqa: A002  as applications write it
        return {"room": id, "guests": len(state.guests)}

    async with Huahuo(entities=[room], data=tmp_path / "data", port=0, workers=workers) as app:
        await tell(app, guest="bob")
        async with connected(app.url) as ws:
            await joined(app, ws)
            await follow(ws)
            assert (await ws.until("state"))["state"] == {"room": "1", "guests": 1}
            await tell(app, guest="eve")
            assert (await ws.until("state"))["patch"] == {"guests": 2}


def test_a_kind_has_one_view() -> None:
    room = rooms()
    room.view(lambda state: {})
    with pytest.raises(DefinitionError, match="says already what clients see"):
        room.view(lambda state: {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


def patched(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = patched(target.get(name), value)
    return target


@given(OBJECTS, OBJECTS)
def test_a_patch_makes_the_new_state_of_the_old_one_or_there_is_none(old: Any, new: Any) -> None:
    patch = merge_patch(old, new)
    if patch is not None:
        assert repr(sorted_(patched(old, patch))) == repr(sorted_(new))


def sorted_(value: Any) -> Any:
    """With its members in order, so that `repr` tells equal values of different types apart."""
    if isinstance(value, dict):
        return {name: sorted_(value[name]) for name in sorted(value)}
    return [*map(sorted_, value)] if isinstance(value, list) else value
