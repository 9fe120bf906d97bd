"""Sockets whose client has not authenticated: the handshake and its bounds."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.access.door import NOTICES_BURST, Notices, origin_allowed
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


def test_in_a_full_lobby_a_new_address_takes_the_place_of_the_oldest() -> None:
    room = lobby(3)
    assert cut_off(arrive(room, "storm", "storm", "storm", "new")) == [0]


def test_a_client_behind_a_proxy_counts_under_its_own_address_once_that_is_known() -> None:
    room = lobby(10, per_address_max=2)
    one, two, three = arrive(room, "", "", "")
    for socket in (one, two, three):
        room.enter(socket, "a")
    assert cut_off([one, two, three]) == [0]
    assert len(room) == 2


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


HOST = ["mail.example.org:8765"]


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://example.org", "http://evil-mail.example.org", "http://mail.example.org.evil.net",
        "http://mail.example.org@evil.net", "http://evil.net/mail.example.org", "file://mail.example.org",
        "http://mail.example.org:port", "mail.example.org", "http://mail.example.org/x", "http://[::1", "http://",
        "http://mail.exa\tmple.org", "http://mail.example\n.org",
    ],
)  # fmt: skip
def test_another_origin_may_not(origin: str) -> None:
    assert not origin_allowed([origin], HOST, [])


def test_no_origin_is_no_page() -> None:
    assert origin_allowed([], HOST, [])


def test_two_origins_are_none() -> None:
    assert not origin_allowed(["http://mail.example.org", "http://mail.example.org"], HOST, [])


@pytest.mark.parametrize("hosts", [[], ["a", "mail.example.org"], [""]])
def test_without_one_host_only_the_list_counts(hosts: list[str]) -> None:
    assert not origin_allowed(["http://mail.example.org"], hosts, [])
    assert origin_allowed(["http://mail.example.org"], hosts, ["http://mail.example.org"])


def test_an_allowed_origin_is_compared_whole() -> None:
    allowed = ["https://App.example.net/", "http://localhost:3000"]
    assert origin_allowed(["https://app.example.net"], HOST, allowed)
    assert origin_allowed(["http://localhost:3000"], HOST, allowed)
    assert not origin_allowed(["http://localhost:3001"], HOST, allowed)
    assert not origin_allowed(["https://app.example.net.evil.net"], HOST, allowed)


def test_ipv6_hosts_compare_too() -> None:
    assert origin_allowed(["http://[::1]:3000"], ["[::1]:8765"], [])
    assert not origin_allowed(["http://[::2]"], ["[::1]:8765"], [])


@pytest.mark.parametrize("page", ["http://localhost", "http://127.0.0.1", "http://[::1]"])
def test_a_page_of_this_machine_is_a_stranger_to_another_host(page: str) -> None:
    assert not origin_allowed([page], HOST, [])


def test_the_first_ones_are_told_and_a_flood_is_held_back() -> None:
    notices = Notices()
    told = [notices.due("origin_refused", 0.0) for _ in range(NOTICES_BURST + 1000)]
    assert told == [0] * NOTICES_BURST + [None] * 1000


def test_kinds_do_not_hold_each_other_back() -> None:
    notices = Notices()
    for _ in range(NOTICES_BURST + 1):
        notices.due("origin_refused", 0.0)
    assert notices.due("token_refused", 0.0) == 0
