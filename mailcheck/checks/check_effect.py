"""The durable effect of a check: its input, output and limits, its run, and the books that record it.

`Target`, `UidCursor` and `Sink` are all that a check knows of its caller: no events, no log, no socket. A
run that finds its check over ends silently. A run whose append has an unknown outcome leaves the check
open, and the next one continues from the durable cursor. Anything else that is raised ends the check. The
books are the mailboxes' own streams, so nothing about a check is recorded twice:

| of an effect | of a check | in whose commit |
|---|---|---|
| request | `check_requested` on the mailbox's stream, a row of `checks` | the roster's decision |
| claim | `check_started`; a run after a restart finds it there and writes nothing | `Begin` |
| what it says | `check_progress`, `mail_received`, `cursor_moved` | `Progress`, `MailsFound` |
| end | `check_ended`, the row gone | `Finish`, or the roster's cancel or deletion |

The mailbox answers `CheckOver` to a run whose check is not open any more. The runner of a process has one
run of a check at a time, so a claim needs no number; where several nodes share the log, it names the
incarnation.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

import msgspec

from huahuo.actors.effects.books import HELD, Hold, RunOver
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED, OpenEffect, Start
from huahuo.actors.effects.queue import Entry, Failure
from huahuo.actors.effects.run import EffectRun
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck import zh
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.events import FetchedMail, StartCheck, UidCursor
from huahuo.mailcheck.mailbox import decider
from huahuo.mailcheck.records import CHECKS, OpenCheck, email_key, number_of
from huahuo.mailcheck.servers.faults import Outcome
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Auth, Place, Proxy

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


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What reading a mail server needs, whoever reads it.

    `large_mails`, shared by all, is held while a mail larger than a batch is in memory.
    """

    network: Network
    requests: Requests
    limits: CheckLimits
    large_mails: asyncio.Semaphore
    executor: Executor
    ambient: Ambient


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


type CheckMailbox = Callable[[int, decider.Plan, Any], Awaitable[Ok]]
"""`SigningIn.check`: one mailbox, however it signs in. The last is a `Sink`, or an `Errand`."""


class Checking:
    """The effect of a check: from what the mailbox says is to be checked to what is said of it at the end."""

    def __init__(self, check_mailbox: CheckMailbox, sign_in: CheckMailbox, mailboxes: Mailboxes) -> None:
        """`sign_in`: in place of a check that only signs in."""
        self._check_mailbox = check_mailbox
        self._sign_in = sign_in
        self._mailboxes = mailboxes

    async def perform(self, job: OpenCheck, run: EffectRun) -> None:
        """Check one mailbox, and record how that ended."""
        await run.finish(await self._outcome(job.check_id, run, login=job.login))

    async def _outcome(self, check_id: int, run: EffectRun, *, login: bool) -> decider.Finish:
        read = self._sign_in if login else self._check_mailbox
        try:
            done = await read(run.id, run.state, _Report(check_id, run, self._mailboxes))
        except CheckFailed as failed:
            outcome = failed.outcome
            return decider.Finish(
                check_id,
                outcome.status,
                outcome.said,
                error_class=outcome.error_class,
                advice=outcome.advice,
            )
        if login:
            return decider.Finish(check_id, "ok", zh.LOGIN_WORKS)
        return decider.Finish(check_id, "ok", cursor=done.cursor)


class _Report:
    """See `Sink`."""

    def __init__(self, check_id: int, run: EffectRun, mailboxes: Mailboxes) -> None:
        self._check_id = check_id
        self._run = run
        self._mailboxes = mailboxes

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`. `Begin` has already recorded 0 %."""
        if percent:
            await self._run.emit(decider.Progress(self._check_id, percent, message))

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""
        async with self._mailboxes.fresh(self._run.id, self._run.state, batch) as (mails, equals):
            await self._run.emit(decider.MailsFound(self._check_id, mails, cursor, equals))

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        """See `Sink`. It is the mailbox's, and not this check's."""
        await self._mailboxes.tell(self._run.id, decider.SeeUnread(folder, uidvalidity, uids))


CHECK: Final = "check"


def effect_of(email_id: int, row: bytes, check: OpenCheck, now_ms: int) -> OpenEffect:
    """An open check as the runner knows it. It counts as open since this process learns of it."""
    job = msgspec.Raw(row)
    return OpenEffect(MAILBOX, str(email_id), CHECK, job, now_ms, check.user_id, trace=check.trace)


def start_of(effect: StartCheck, now_ms: int) -> Start:
    """What the runner is told after the commit of this effect."""
    check = OpenCheck(effect.user_id, effect.check_id, effect.host, login=effect.login, trace=effect.trace)
    return Start(effect.check_id, effect_of(effect.email_id, msgspec.json.encode(check), check, now_ms))


class CheckBooks:
    """See the module, and `Books`."""

    table: Final = CHECKS

    def __init__(self, mailboxes: Mailboxes) -> None:
        self.running: Callable[[frozenset[str]], frozenset[str]] = frozenset
        """Those of the living incarnations that keep the checks they run."""
        self._mailboxes = mailboxes

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect] | None:
        """See `Books`. Implicit checks are run by an embedding application."""
        check = msgspec.json.decode(value, type=OpenCheck)
        if check.implicit:
            return None
        return check.check_id, effect_of(number_of(key), value, check, self._mailboxes.ambient.now_ms())

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return email_key(int(entry.key))

    @asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        cause = await self._mailboxes.cause_of(int(entry.key), entry.id)
        hold = CheckHold(self._mailboxes, entry, cause)
        log = self._mailboxes.log
        await hold.begin(log, self.running(log.living()))
        yield hold

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`. The commit that cancelled the check has its end."""
        del entry
        return CANCELLED


class CheckHold:
    """See `Hold`. What it says names the event that asked for the check as its cause."""

    attempt: Final = 1

    def __init__(self, mailboxes: Mailboxes, entry: Entry, cause: int) -> None:
        self.over = ""
        self.position = cause
        self._mailboxes = mailboxes
        self._email_id = int(entry.key)
        self._check_id = entry.id
        self._entry = entry
        self._plan: decider.Plan | None = None

    async def begin(self, log: Log, living: frozenset[str]) -> None:
        """Claim the check. Raises RunOver: it is not open, or another node runs it."""
        plan = await self._tell(decider.Begin(self._check_id, log.incarnation, living))
        assert isinstance(plan, decider.Plan), "the mailbox answers Begin with a plan"
        self._plan = plan

    async def state(self) -> decider.Plan | None:
        """See `Hold`: what to check, and from which cursors."""
        return self._plan

    async def say(self, events: Sequence[decider.MailboxCommand], *, ends: bool) -> decider.Plan | None:
        """See `Hold`. One command, from which the mailbox makes its events; the last one is a `Finish`."""
        [command] = events
        if ends != isinstance(command, decider.Finish):
            raise TypeError("a check ends by Finish, and says Finish when it ends")
        await self._tell(command)
        return self._plan

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`. A check has no second attempt, so a next run would find that it has ended."""
        del error_type, due_ms, row
        await self._fault()

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`."""
        del failure
        await self._fault()
        return FAILED

    async def end(self) -> str:
        """See `Hold`. Only a run that is over returns without an end, and then the mailbox refuses this."""
        await self._fault()
        return DONE

    async def _fault(self) -> None:
        await self._tell(decider.Finish(self._check_id, "error", zh.CHECK_FAULT))

    async def _tell(self, command: decider.MailboxCommand) -> decider.MailboxReply:
        answer = await self._mailboxes.tell(
            self._email_id, command, cause=self.position, command_id=self._entry.run
        )
        match answer.reply:
            case None | decider.CheckOver() | decider.NoMailbox():
                self.over = self.over or "ended"
                raise RunOver(self.over)
            case decider.CheckHeld(by):
                raise RunOver(HELD, by)
            case reply:
                return reply
