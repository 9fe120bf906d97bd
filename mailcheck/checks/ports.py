"""What goes into a check of one mailbox and what comes out of it. Pure data and the ports a caller supplies.

The mailbox actor is the caller: it builds a `Target`, keeps the `UidCursor`, and implements `Sink`.
Nothing here knows events, the log or a socket.
"""

from typing import Protocol

import msgspec

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.fetched import FetchedMail, UidCursor
from huahuo.mailcheck.imap.outcome import Outcome


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which mailbox to check. `use_ssl` False means STARTTLS where the server offers it.

    A public server must prove its name either way; one inside our own networks only with `use_ssl`.
    """

    host: str
    port: int
    use_ssl: bool
    user: str
    password: Secret


class Sink(Protocol):
    """Where a running check reports to. Both calls are awaited before the check goes on."""

    async def progress(self, percent: int, message: str) -> None:
        """0..99, never going back, each percent at most once."""
        ...

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """New mails in UID order. Make them durable together with `cursor` before returning."""
        ...


class CheckLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one check."""

    connect_timeout_s: float = 15.0
    """For the name, and for each address tried (TLS handshake included)."""
    command_timeout_s: float = 60.0
    """For the answer to one command."""
    fetch_timeout_s: float = 180.0
    """For the answer to one FETCH of bodies."""
    idle_timeout_s: float = 300.0
    """A check that delivers no mail for so long is ended."""
    logout_timeout_s: float = 2.0
    """For the courtesy of a LOGOUT; then the connection is cut."""
    mail_bytes_max: int = 25 * 1024 * 1024
    """A larger mail is reported from its first `head_bytes_max` bytes."""
    head_bytes_max: int = 256 * 1024
    batch_bytes_max: int = 1024 * 1024
    """Of bodies asked for in one FETCH and handed to the sink in one call (one mail may exceed it)."""
    batch_mails_max: int = 25
    progress_per_s_max: float = 10.0


class Ok(msgspec.Struct, frozen=True):
    """How a check ends well: all mails up to `cursor` have been handed to the sink.

    `resynced`: the folder's UIDVALIDITY was not that of the cursor it began with, so everything was
    read again from the start.
    """

    new_count: int
    cursor: UidCursor
    resynced: bool


class CheckFailed(Exception):  # noqa: N818  a fact about the check, named like its events
    """How a check ends otherwise. What was handed to the sink before stays valid."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
