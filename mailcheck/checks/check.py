"""One check of one mailbox, from the name of its server to its last new mail. Effects only: no event, no log.

The mailbox actor runs it as a task and may cancel it at any time, which cuts the connection. The sink has
already stored every batch it was given, so the next check continues after the last one.
"""

import asyncio

from huahuo.actors.effects.traced import stage
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, Ok, Sink, Target
from huahuo.mailcheck.checks.reading import Reading
from huahuo.mailcheck.checks.session import connected, greet, sign_in
from huahuo.mailcheck.fetched import INBOX, UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.servers.faults import CommandRefused, MailFault, TimedOut
from huahuo.mailcheck.servers.providers import Place
from huahuo.mailcheck.words import zh

_PERCENT_CONNECTING = 0
_PERCENT_LOGIN = 10


async def check(
    target: Target,
    since: UidCursor | None,
    *,
    sink: Sink,
    limits: CheckLimits,
    network: Network,
    large_mails: asyncio.Semaphore,
    executor: Executor,
    ambient: Ambient,
) -> Ok:
    """Fetch every mail that `since`, for INBOX, and the target's cursors do not cover. Hand it to `sink`.

    `large_mails`, shared by all checks, is held while a mail larger than a batch is in memory.

    Raises:
        CheckFailed: with the classified outcome. Exceptions of `sink` pass through unchanged.
    """
    cursors = {**target.cursors, **_inbox(since)}
    reading = Reading(cursors, sink, limits, large_mails, executor, ambient, folders=target.folders)
    try:
        return await _run(target, reading, limits, network, ambient)
    except MailFault as fault:
        raise CheckFailed(classify(fault)) from fault


def _inbox(since: UidCursor | None) -> dict[str, UidCursor]:
    return {} if since is None else {INBOX: since}


async def _run(
    target: Target, reading: Reading, limits: CheckLimits, network: Network, ambient: Ambient
) -> Ok:
    """Connect, read, log out. After a cancel or a broken connection, skip the logout."""
    await reading.progress.step(_PERCENT_CONNECTING, zh.CONNECTING)
    with stage("imap connect"):
        place, client = await connected(target, network, limits, ambient)
    listens = False
    try:
        done = await _session(client, target, place, reading, Deadline(ambient, limits.idle_timeout_s))
        listens = True
    except CommandRefused:
        listens = True
        raise
    finally:
        if listens:
            await client.logout(limits.logout_timeout_s)
        else:
            client.abort()
    return done


async def _session(
    client: ImapClient, target: Target, place: Place, reading: Reading, deadline: Deadline
) -> Ok:
    """Sign in and read. The deadline restarts with every batch."""
    try:
        async with deadline:
            with stage("imap greet"):
                await greet(client, place)
            await reading.progress.step(_PERCENT_LOGIN, zh.SIGNING_IN)
            with stage("imap sign in"):
                await sign_in(client, target, place)
            with stage("imap inbox"):
                done = await reading.inbox(client, deadline)
            with stage("imap other folders"):
                await reading.others(client, deadline)
            return done
    except TimeoutError:
        if deadline.expired():
            raise TimedOut("no mail for too long") from None
        raise
