"""The fast handshake: it accepts only what the library accepts. And the lobby's limits on silent sockets."""

import asyncio

import pytest

from huahuo.transport.wire.lobby import Greeting, Lobby

pytestmark = pytest.mark.virtual_time


class Cut:
    """A transport that only records whether it was aborted."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Deaf:
    """A greeter that never takes a transport over."""

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        pass

    def undecided(self, data: bytes) -> bool:
        return False


def arrive(lobby: Lobby) -> tuple[Greeting, Cut]:
    greeting, cut = Greeting(Deaf(), lobby), Cut()
    greeting.connection_made(cut)  # type: ignore[arg-type]
    return greeting, cut


async def test_only_a_client_that_says_nothing_in_time_is_cut_off() -> None:
    lobby = Lobby(10, timeout_s=10)
    _first, cut = arrive(lobby)
    await asyncio.sleep(6)
    second, cut_second = arrive(lobby)
    _third, cut_third = arrive(lobby)
    await asyncio.sleep(5)
    assert (cut.aborted, cut_second.aborted, cut_third.aborted) == (True, False, False)
    second.data_received(b"GET")
    await asyncio.sleep(6)
    assert (cut_second.aborted, cut_third.aborted) == (False, True)


async def test_the_oldest_gives_way_when_the_lobby_is_full() -> None:
    lobby = Lobby(2, timeout_s=10)
    (_, a), (second, b), (_, c) = arrive(lobby), arrive(lobby), arrive(lobby)
    assert (a.aborted, b.aborted, c.aborted) == (True, False, False)
    second.connection_lost(None)
    lobby.close()
    assert (b.aborted, c.aborted) == (False, True)


async def test_a_socket_that_comes_after_the_lobby_was_closed_is_cut_off() -> None:
    lobby = Lobby(2, timeout_s=10)
    lobby.close()
    _, cut = arrive(lobby)
    assert (cut.aborted, len(lobby)) == (True, 0)
