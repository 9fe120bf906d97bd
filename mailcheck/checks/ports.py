"""Input, output and limits of the check of one mailbox: pure data, and the port that the caller implements.

The mailbox actor is the caller: it builds a `Target`, keeps the `UidCursor`, and implements `Sink`.
Nothing here knows events, the log or a socket.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, Protocol

import msgspec

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.fetched import FetchedMail, UidCursor
from huahuo.mailcheck.imap.outcome import Outcome
from huahuo.mailcheck.servers.providers import Auth, Place
from huahuo.mailcheck.servers.proxies import Proxy

HISTORY_AFTER_MS: Final = 86_400_000
"""A mail that the server has had for a day is no new one: its code has ended."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which mailbox to check over IMAP: `places` in turn until one can be reached.

    A public server must prove its name, a server in a private network only with TLS from the start.
    """

    places: tuple[Place, ...]
    user: str
    auth: Auth = "login"
    secret: Secret
    """The password, or an access token."""
    cursors: Mapping[str, UidCursor] = MappingProxyType({})
    """How far other folders than INBOX were read."""
    folders: tuple[str, ...] | None = None
    """Read besides INBOX. None: those of the limits."""
    proxy: Proxy | None = None

    @property
    def host(self) -> str:
        """The host that is tried first."""
        return self.places[0].host


class GraphTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Which mailbox to check over Microsoft Graph."""

    url: str
    token: Secret
    renew: Callable[[], Awaitable[Secret]]
    """Another access token, after the server refused this one."""
    known: Callable[[str], Awaitable[bool]]
    """Whether the mail of this id was told before."""
    cursors: Mapping[str, UidCursor] = MappingProxyType({})
    """How far other folders than the inbox were read."""
    folders: tuple[str, ...] | None = None
    """See `Target`."""
    told_ms: int = 0
    """Mails received up to this moment were told before, over IMAP."""
    proxy: Proxy | None = None


class Sink(Protocol):
    """Receives the reports of a running check. The check awaits both calls before it continues."""

    async def progress(self, percent: int, message: str) -> None:
        """`percent` is 0 to 99 and higher than in the call before."""
        ...

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """New mails in UID order. Make them durable together with `cursor` before returning."""
        ...

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        """Of the folder's newest mails these are unread there, as a set of UIDs (`1:3,7`)."""
        ...


type Bodies = Literal["at_once", "background", "on_demand"]


class CheckLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one check."""

    connect_timeout_s: float = 15.0
    """For the name, and for each address that is tried, with the TLS handshake."""
    command_timeout_s: float = 60.0
    """For the answer to one command."""
    fetch_timeout_s: float = 180.0
    """For the answer to one FETCH of bodies."""
    idle_timeout_s: float = 300.0
    """A check that delivers no mail for this long ends."""
    logout_timeout_s: float = 2.0
    """For a LOGOUT. Afterwards the connection is cut."""
    mail_bytes_max: int = 25 * 1024 * 1024
    """Of a mail known to be larger, only the first `head_bytes_max` bytes are fetched."""
    head_bytes_max: int = 256 * 1024
    batch_bytes_max: int = 1024 * 1024
    """Bytes of bodies in one FETCH and one call of the sink. A batch of one mail may exceed it."""
    batch_mails_max: int = 25
    progress_per_s_max: float = 10.0
    folders: tuple[str, ...] = ()
    """Folders that are read besides INBOX: names, or `junk` for the one that holds junk."""
    codes: bool = True
    """Whether verification codes are looked for in new mails."""
    bodies: Bodies = "at_once"
    """When the text of an older mail is read. `at_once`: with its headers, as that of a new one."""
    unread: bool = False
    """Whether it is asked which mails are unread on the server."""

    def headers_first(self, received_ms: int | None, now_ms: int) -> bool:
        """Whether only the headers of a mail are read now. A new one may hold a code."""
        if self.bodies == "at_once":
            return False
        return not self.codes or (received_ms is not None and received_ms < now_ms - HISTORY_AFTER_MS)


class Ok(msgspec.Struct, frozen=True):
    """A check succeeded: the sink has every mail up to `cursor`.

    `resynced`: the folder's UIDVALIDITY differed from that of the first cursor, so the whole folder was
    read again. `own_way`: as in `Outcome`.
    """

    new_count: int
    cursor: UidCursor
    resynced: bool
    own_way: bool = False


class CheckFailed(Exception):  # noqa: N818  a fact about the check, named like its events
    """A check failed. Batches that the sink has already stored stay valid."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
