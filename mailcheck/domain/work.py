"""The durable effects of mail: checks of mailboxes, and purges of removed ones."""

from collections.abc import Callable

import msgspec

from huahuo.actors.effects.bounds import Bounds
from huahuo.actors.effects.runner import Effects
from huahuo.actors.effects.spec import Spec
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.books import CHECK, CheckBooks
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.checks.run import Checking
from huahuo.mailcheck.domain.bounds import MailSettings
from huahuo.mailcheck.domain.readers import Readers
from huahuo.mailcheck.tables.purge import Purging
from huahuo.mailcheck.tables.records import OpenCheck


def checks_of(
    log: Log,
    ambient: Ambient,
    settings: MailSettings,
    readers: Readers,
    mailboxes: Mailboxes,
    known: KnownMails,
    *,
    shared: bool,
    wait_s: Callable[[UserId], float],
) -> Effects:
    """The checks: at most `checks_max` at a time, and `checks_per_host_max` at one mail server.

    Nodes divide them by mailbox. What is bounded over all nodes takes a place (`Connections.of_check`).
    """
    books = CheckBooks(log, mailboxes, ambient)
    check = Spec(
        kind=MAILBOX,
        name=CHECK,
        handler=Checking(readers.checks.check, readers.sign_in.check, known, mailboxes.tell).perform,
        read=msgspec.json.Decoder(OpenCheck).decode,
        key=int,
        retries=0,
        at_once=settings.checks_per_host_max,
        per=_host_of,
        spread=True,
    )
    checks = Effects(
        log=log,
        ambient=ambient,
        books=books,
        specs={(MAILBOX, CHECK): check},
        wait_s=wait_s,
        shared=shared,
        bounds=Bounds(
            at_once=settings.checks_max,
            waiting_max=settings.checks_waiting_max,
            waiting_per_user_max=settings.checks_waiting_per_user_max,
            sweep_s=settings.sweep_s,
        ),
    )
    books.running = checks.running_of
    return checks


def purges_of(
    log: Log, ambient: Ambient, settings: MailSettings, purging: Purging, *, shared: bool
) -> Effects:
    """The purges, one at a time."""
    purge = purging.spec()
    return Effects(
        log=log,
        ambient=ambient,
        books=purging,
        specs={(MAILBOX, purge.name): purge},
        shared=shared,
        bounds=Bounds(at_once=1, sweep_s=settings.sweep_s),
    )


def _host_of(check: OpenCheck) -> str:
    return check.host.lower()
