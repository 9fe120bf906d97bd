"""Unauthenticated sockets: which one is cut off for a newcomer, and that no address pushes out others."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.server.lobby import Lobby

pytestmark = pytest.mark.virtual_time


class Cut:
    """A transport that only records its address and whether it was aborted."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Socket:
    """A socket of an address."""

    def __init__(self, address: str, *, is_open: bool = False) -> None:
        self.cut = Cut(address)
        self.transport = cast("asyncio.Transport", self.cut)
        self.is_open = is_open
        self.deadline_s = 0.0

    @property
    def aborted(self) -> bool:
        return self.cut.aborted


def address_of(transport: asyncio.Transport) -> str:
    return cast("Cut", transport).address


def lobby(sockets_max: int, per_address_max: int = 0) -> Lobby:
    return Lobby(sockets_max, 10, per_address_max=per_address_max, address_of=address_of)


def arrive(room: Lobby, *addresses: str) -> list[Socket]:
    sockets = [Socket(address) for address in addresses]
    for socket in sockets:
        room.enter(socket)
    return sockets


def cut_off(sockets: list[Socket]) -> list[int]:
    return [number for number, socket in enumerate(sockets) if socket.aborted]


def test_over_the_limit_of_an_address_its_oldest_gives_way() -> None:
    room = lobby(10, per_address_max=2)
    assert cut_off(arrive(room, "a", "b", "a", "a", "b", "a")) == [0, 2]
    assert (len(room), room.cut_off_count) == (4, 2)


def test_in_a_full_lobby_an_address_takes_the_place_of_its_own() -> None:
    room = lobby(3)
    assert cut_off(arrive(room, "quiet", "storm", "storm", "storm", "storm", "storm")) == [1, 2, 3]


def test_in_a_full_lobby_a_new_address_takes_the_place_of_the_oldest() -> None:
    room = lobby(3)
    assert cut_off(arrive(room, "storm", "storm", "storm", "new")) == [0]


def test_a_limit_of_one_keeps_the_newest() -> None:
    assert cut_off(arrive(lobby(10, per_address_max=1), "a", "a", "a")) == [0, 1]


def test_a_trusted_proxy_has_no_limit_of_its_own() -> None:
    room = lobby(10, per_address_max=2)
    assert cut_off(arrive(room, "", "", "", "")) == []


def test_a_client_behind_a_proxy_counts_under_its_own_address_once_that_is_known() -> None:
    room = lobby(10, per_address_max=2)
    one, two, three = arrive(room, "", "", "")
    for socket in (one, two, three):
        room.enter(socket, "a")
    assert cut_off([one, two, three]) == [0]
    assert len(room) == 2


def test_a_socket_that_left_makes_room() -> None:
    room = lobby(10, per_address_max=1)
    (first,) = arrive(room, "a")
    room.leave(first)
    room.leave(first)
    (second,) = arrive(room, "a")
    assert (first.aborted, second.aborted, len(room)) == (False, False, 1)


def test_a_closed_lobby_leaves_to_others_the_websockets_that_can_be_told() -> None:
    room = lobby(10)
    shaking, opened = Socket("a"), Socket("a", is_open=True)
    room.enter(shaking)
    room.enter(opened)
    room.close()
    assert (shaking.aborted, opened.aborted) == (True, False)
    assert arrive(room, "b")[0].aborted


async def test_a_socket_that_was_cut_off_is_waited_for_no_more() -> None:
    room = lobby(1)
    first, second = Socket("a"), Socket("a")
    room.greet(first)
    await asyncio.sleep(5)
    room.greet(second)
    first.cut.aborted = False
    await asyncio.sleep(6)
    assert (first.aborted, second.aborted) == (False, False)
    await asyncio.sleep(5)
    assert (first.aborted, second.aborted) == (False, True)


@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60),
)
def test_no_bound_is_ever_exceeded_and_no_address_loses_its_last_socket_to_a_storm(
    sockets_max: int, per_address_max: int, steps: list[tuple[str, bool]]
) -> None:
    room = lobby(sockets_max, per_address_max)
    inside: list[Socket] = []
    for address, comes in steps:
        before = [socket.cut.address for socket in inside]
        if comes:
            inside += arrive(room, address)
        elif address in before:
            gone = inside.pop(before.index(address))
            room.leave(gone)
        lost = [socket.cut.address for socket in inside if socket.aborted]
        inside = [socket for socket in inside if not socket.aborted]
        assert len(lost) <= 1
        assert not lost or lost[0] == address or address not in before
        assert len(room) == len(inside) <= sockets_max
        assert per_address_max == 0 or sum(s.cut.address == address for s in inside) <= per_address_max
