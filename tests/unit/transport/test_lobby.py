"""Unauthenticated sockets: which one is cut off for a newcomer, and that no address pushes out others."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.wire.lobby import Lobby

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


def lobby(sockets_max: int, per_address_max: int = 0, bytes_max: int = 0) -> Lobby:
    return Lobby(sockets_max, 10, per_address_max=per_address_max, bytes_max=bytes_max, address_of=address_of)


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


def test_over_the_bytes_of_all_the_fullest_socket_of_the_fullest_address_goes() -> None:
    room = lobby(10, bytes_max=80)
    sockets = arrive(room, "honest", "storm", "storm", "storm")
    for socket, held_bytes in zip(sockets, (30, 10, 25, 15), strict=True):
        room.hold(socket, held_bytes)
    assert (cut_off(sockets), room.held_bytes) == ([], 80)
    room.hold(sockets[1], 11)
    assert (cut_off(sockets), room.held_bytes, room.cut_off_count) == ([2], 56, 1)


def test_room_is_made_for_an_eighth_of_the_bound() -> None:
    room = lobby(100, bytes_max=80)
    sockets = arrive(room, *["a"] * 80)
    for socket in sockets:
        room.hold(socket, 1)
    room.hold(sockets[0], 2)
    assert (room.held_bytes, room.cut_off_count, sockets[0].aborted) == (70, 10, True)


def test_bytes_move_with_a_socket_to_its_own_address() -> None:
    room = lobby(10, bytes_max=80)
    behind, other = arrive(room, "", "b")
    room.hold(behind, 50)
    room.enter(behind, "a")
    assert room.held_bytes == 50
    room.hold(other, 40)
    assert (behind.aborted, other.aborted, room.held_bytes) == (True, False, 40)


def test_bytes_of_sockets_that_left_or_were_handled_do_not_count() -> None:
    room = lobby(10, bytes_max=80)
    one, two = arrive(room, "a", "a")
    room.hold(one, 60)
    room.leave(one)
    room.hold(one, 60)
    room.hold(two, 70)
    room.hold(two, 0)
    assert (one.aborted, two.aborted, room.held_bytes) == (False, False, 0)


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


async def test_a_wait_below_the_clocks_precision_does_not_stand_still() -> None:
    """Behind a sleep of the machine, what is left until a deadline may be less than the clock can tell."""
    looks = 0

    def slept_s() -> float:
        nonlocal looks
        looks += 1
        assert looks < 100, "it waits at one moment again and again"
        return 496.129

    room = Lobby(10, 10, slept_s)
    await asyncio.sleep(508.867 - asyncio.get_running_loop().time())
    silent = Socket("a")
    room.greet(silent)
    await asyncio.sleep(11)
    assert silent.aborted


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
