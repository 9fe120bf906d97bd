"""Commands that a check does not send, because what the server told already answers them."""

import asyncio

import pytest

from huahuo.mailcheck.checks.check_effect import Ok
from huahuo.mailcheck.fetched import UidCursor
from tests.support.drivers.checks import Report, checked, target
from tests.support.patience import WITHIN_S
from tests.support.servers.evil_imap import Peer, Script, evil


async def served(script: Script, since: UidCursor | None = None) -> tuple[Ok, Report]:
    """What a check against `script` gives."""
    async with evil(script) as server, asyncio.timeout(WITHIN_S):
        return await checked(target(server.port), since)


async def test_a_folder_whose_next_uid_is_the_one_after_the_last_is_not_searched() -> None:
    async def script(peer: Peer) -> None:
        await peer.opened(2, uidnext=b"6")
        await peer.hear(b"LOGOUT")

    done, report = await served(script, UidCursor("INBOX", 7, 5))
    assert (done.new_count, report.got) == (0, [])


@pytest.mark.parametrize("uidnext", [b"1", b"5", b"7", b"x", b""])
async def test_a_folder_whose_next_uid_is_any_other_is_searched(uidnext: bytes) -> None:
    """Lower ones are wrong: some servers always say 1."""

    async def script(peer: Peer) -> None:
        await peer.opened(2, uidnext)
        await peer.hear(b"UID SEARCH UID 6:*")
        await peer.say(b"* SEARCH")
        await peer.ok()
        await peer.hear(b"LOGOUT")

    done, _ = await served(script, UidCursor("INBOX", 7, 5))
    assert done.new_count == 0


async def test_capabilities_in_the_greeting_and_after_the_login_are_not_asked_for() -> None:
    """Dovecot repeats them after the login only to a client that did not ask for them before."""

    async def script(peer: Peer) -> None:
        await peer.opened(0)
        await peer.hear(b"LOGOUT")
        assert not [line for line in peer.heard if b"CAPABILITY" in line]

    done, _ = await served(script)
    assert done.new_count == 0
