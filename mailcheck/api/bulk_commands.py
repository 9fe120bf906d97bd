"""Commands about many mailboxes, in parts that are decided and committed one by one.

Others wait for one part only. A commit of 20,000 new mailboxes holds the log's writer for a second. What
the client may rely on stays: one command id, one answer, each line done once. Each part keeps its answer
under an id of its own; after a crash a repeat gets the answers of the parts that stand, and does the rest.
A part of a choice is named by its first mailbox. What a filter admits is looked up first. A user's
commands with a filter go one after the other: if all were begun together, none would end before most have.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from itertools import batched
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, ExecuteParts, Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, UserId, error_reply, from_entity, from_record
from huahuo.eventstore.errors import CommandMismatch
from huahuo.eventstore.port import Log
from huahuo.mailcheck import en, zh
from huahuo.mailcheck.api.mailbox_list import Failures, Filter, failures_of
from huahuo.mailcheck.api.params import CheckParams, ChoiceParams, FailuresParams, LabelParams, WatchParams
from huahuo.mailcheck.checks.mailboxes import Pauses
from huahuo.mailcheck.records import ImportResult, MailReply, Row, Success, Warned, encode
from huahuo.mailcheck.roster.commands import (
    CancelCheck,
    CheckEmails,
    DeleteEmails,
    ImportEmails,
    LabelEmails,
    RosterCommand,
    WatchEmails,
)
from huahuo.mailcheck.roster.decider import watched
from huahuo.mailcheck.roster.importer import ImportData
from huahuo.mailcheck.roster.state import Roster


class OneAtATime:
    """See the module. It keeps nothing of users without work."""

    def __init__(self) -> None:
        self._users: dict[UserId, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def of(self, user_id: UserId) -> AsyncIterator[None]:
        """Wait until no earlier piece of this user's work is left, and hold its place during the block."""
        lock, count = self._users.get(user_id, (asyncio.Lock(), 0))
        self._users[user_id] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            _, count = self._users.pop(user_id)
            if count > 1:
                self._users[user_id] = lock, count - 1


LINES_A_PART: Final = 1_000
"""A commit of this many mailboxes takes some 40 ms of processor time, a decision 10 ms."""
_IMPORT_PART: Final = "a part of an import ".ljust(64, ".")
"""So the id of a part is longer than any that a client may send."""


def parts_of(command: ImportEmails, origin: Origin, lines_a_part: int) -> ExecuteParts[ImportEmails]:
    """The accounts of a long import in parts. Failures of the text stay behind."""
    parts = []
    for number, accounts in enumerate(batched(command.data.accounts, lines_a_part), start=1):
        data = ImportData(len(accounts), accounts, ())
        parts.append(
            Execute(ImportEmails(command.mail_type, data, command.validate), _part_of_import(origin, number))
        )
    return ExecuteParts(tuple(parts))


def result_of(data: ImportData, answers: Sequence[Answer[MailReply]]) -> ImportResult:
    """The answer to the whole import."""
    results = [_result(answer) for answer in answers]
    failures = [*data.failures, *(failure for result in results for failure in result.failed_details)]
    failures.sort(key=lambda failure: failure.line)
    return ImportResult(data.total, sum(result.success for result in results), len(failures), failures)


def place_of(answers: Sequence[Answer[MailReply]]) -> tuple[str, int] | None:
    """The position of the last event that the parts wrote to the user's stream, None if there is none."""
    return max((answer.at for answer in answers if answer.at is not None), default=None)


def _part_of_import(origin: Origin, number: int) -> Origin:
    key = origin.key
    return (
        origin if key is None else replace(origin, key=replace(key, id=f"{_IMPORT_PART}/{number}/{key.id}"))
    )


def _result(answer: Answer[MailReply]) -> ImportResult:
    """What a part was answered now, or the first time."""
    if answer.duplicate is not None:
        return msgspec.json.decode(answer.duplicate.reply, type=ImportResult)
    assert isinstance(answer.reply, ImportResult), "the import as a whole was not refused"
    return answer.reply


ROSTER: Final = "roster"
IDS_A_PART: Final = 500
"""A deletion of this many takes some 40 ms of processor time."""
_ID_BYTES = 64
"""An id in memory with its place in a command."""
_ROWS_A_STEP: Final = 4_096
_TIMEOUT_S: Final = 120.0
"""For all parts: between two of them it may wait up to 5 s for others (`Fairness.paid`)."""
_CHOICE_PART: Final = "a part of a choice ".ljust(64, ".")
"""So the id of a part is longer than any that a client may send."""
_LISTS: Final = ("email_ids", "accepted", "skipped", "cancelled")

type Make = Callable[[tuple[int, ...]], RosterCommand]


class Choosing:
    """Answers the commands about many mailboxes."""

    def __init__(self, log: Log, directory: Directory, pauses: Pauses) -> None:
        self._log = log
        self._directory = directory
        self._pauses = pauses
        self._filtering = OneAtATime()

    def actions(self) -> list[Action]:
        """See the module."""
        return [
            Action("delete_emails", ChoiceParams, self._delete, frees=True),
            Action("check_emails", CheckParams, self._check),
            Action("cancel_check", ChoiceParams, self._cancel, frees=True),
            Action("label_emails", LabelParams, self._label),
            Action("get_failures", FailuresParams, self._failures, query=True),
        ]

    async def _delete(self, call: Call[ChoiceParams]) -> Reply:
        return await self._many(call, DeleteEmails, zh.DELETED, pause=True)

    async def _check(self, call: Call[CheckParams]) -> Reply:
        login = call.params.login
        return await self._many(call, lambda ids: CheckEmails(ids, login), zh.CHECKING)

    async def _cancel(self, call: Call[ChoiceParams]) -> Reply:
        return await self._many(call, CancelCheck, zh.CANCELLED, pause=True)

    async def _label(self, call: Call[LabelParams]) -> Reply:
        labels = call.params.labels()
        return await self._many(call, lambda ids: LabelEmails(ids, labels), zh.LABELLED)

    async def _failures(self, call: Call[FailuresParams]) -> Reply:
        rows = await self._admitted(call.principal.user_id, call.params.filter or Filter())
        found: Failures = failures_of(rows, mailboxes_max=call.params.limit)
        return Reply(msgspec.json.encode(found))

    async def _many(self, call: Call[Any], make: Make, message: str, *, pause: bool = False) -> Reply:
        """`pause`: meanwhile, checks of these mailboxes report nothing."""
        params: ChoiceParams = call.params
        if params.filter is not None and params.email_ids is not None:
            return error_reply(Refusal("invalid_field", zh.FIELD.format("filter"), en.IDS_OR_FILTER))
        if params.filter is None:
            ids = params.email_ids or ()
            with self._pauses.hold(ids) if pause else nullcontext():
                command = Execute(make(ids), call.origin)
                answer: Answer[MailReply] = await self._directory.ask(ROSTER, call.principal.user_id, command)
            return from_entity(b"" if answer.reply is None else encode(answer.reply), answer, call)
        async with self._filtering.of(call.principal.user_id):
            return await self._filtered(call, params.filter, make, message, pause=pause)

    async def _filtered(
        self, call: Call[Any], chosen: Filter, make: Make, message: str, *, pause: bool
    ) -> Reply:
        """The gate records the answer."""
        known = None if call.key is None else await self._log.command(call.key)
        if known is not None:
            if known.fingerprint != call.fingerprint:
                raise CommandMismatch("the command id was used with another content")
            return from_record(known)
        user_id = call.principal.user_id
        ids = [row.id for row in await self._admitted(user_id, chosen)]
        if not ids:
            return Reply(encode(Warned(zh.NONE_ADMITTED, email_ids=[])))
        with (
            self._directory.hold(ROSTER, user_id, _ID_BYTES * len(ids)),
            self._pauses.hold(ids) if pause else nullcontext(),
        ):
            parts = tuple(
                Execute(make(some), _part_of_choice(call.origin, some[0]))
                for some in batched(ids, IDS_A_PART)
            )
            answers: tuple[Answer[MailReply], ...] = await self._directory.ask(
                ROSTER, user_id, ExecuteParts(parts), timeout_s=_TIMEOUT_S
            )
        return Reply(encode(_together([_reply(one) for one in answers], message)), place_of(answers))

    async def _admitted(self, user_id: UserId, chosen: Filter) -> list[Row]:
        """The rows of now, by id. The loop is not blocked by a long list."""

        def cut(_seq: int, state: Roster) -> tuple[Row, ...]:
            return state.cut()

        rows: tuple[Row, ...] = await self._directory.ask(ROSTER, user_id, Query(cut))
        admits = chosen.admits()
        if admits is None:
            return list(rows)
        found: list[Row] = []
        for some in batched(rows, _ROWS_A_STEP):
            found += [row for row in some if admits(row)]
            await asyncio.sleep(0)
        return found


def _part_of_choice(origin: Origin, first: int) -> Origin:
    key = origin.key
    return origin if key is None else replace(origin, key=replace(key, id=f"{_CHOICE_PART}/{first}/{key.id}"))


def _reply(answer: Answer[MailReply]) -> MailReply:
    """What a part was answered now, or the first time."""
    if answer.duplicate is None:
        assert answer.reply is not None, "a part that is no duplicate has an answer"
        return answer.reply
    try:
        return msgspec.json.decode(answer.duplicate.reply, type=Success | Warned)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(answer.duplicate.reply)
        return Refusal(fields["code"], fields["message"], fields.get("details", ""))


def _together(replies: Sequence[MailReply], message: str) -> MailReply:
    """The answer to the whole. What makes a part refused is the same for all parts."""
    for reply in replies:
        if isinstance(reply, Refusal):
            return reply
    lists: dict[str, Any] = {}
    for reply in replies:
        for name in _LISTS:
            some = getattr(reply, name)
            if some is not None:
                lists.setdefault(name, []).extend(some)
    if all(isinstance(reply, Warned) for reply in replies):
        assert isinstance(replies[0], Warned), "there is a reply, and it is a warning"
        return Warned(replies[0].message, **lists)
    done: list[int] = next(
        (lists[name] for name in ("accepted", "cancelled", "email_ids") if name in lists), []
    )
    return Success(message.format(len(done)), **lists)


_ROSTER = "roster"
_WATCH_PART = "a part of watch_emails ".ljust(64, ".")
"""So the id of a part is longer than any that a client may send."""
_WATCH_TIMEOUT_S = 120.0


class WatchEmailsHandler:
    """See the module. `a_part`: mailboxes that one commit switches."""

    def __init__(self, log: Log, directory: Directory, *, a_part: int) -> None:
        self._log = log
        self._directory = directory
        self._a_part = a_part

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("watch_emails", WatchParams, self._watch_emails)]

    async def _watch_emails(self, call: Call[WatchParams]) -> Reply:
        params = call.params
        if (params.email_ids is None) == (params.filter is None):
            return error_reply(Refusal("invalid_field", zh.NO_IDS, "email_ids or filter"))
        if params.email_ids is not None:
            command = WatchEmails(params.email_ids, bool(params.on))
            answer: Answer[MailReply] = await self._directory.ask(
                _ROSTER, call.principal.user_id, Execute(command, call.origin)
            )
            return from_entity(b"" if answer.reply is None else encode(answer.reply), answer, call)
        return await self._filtered(call)

    async def _filtered(self, call: Call[WatchParams]) -> Reply:
        """The gate records the answer, as with an import."""
        known = None if call.key is None else await self._log.command(call.key)
        if known is not None:
            if known.fingerprint != call.fingerprint:
                raise CommandMismatch("the command id was used with another content")
            return from_record(known)
        on = bool(call.params.on)
        admits = None if call.params.filter is None else call.params.filter.admits()

        def look(_seq: int, state: Roster) -> list[int]:
            return [row.id for row in state.cut() if admits is None or admits(row)]

        user_id = call.principal.user_id
        ids: list[int] = await self._directory.ask(_ROSTER, user_id, Query(look))
        parts = [
            Execute(WatchEmails(some, on), _part_of_watch(call.origin, number))
            for number, some in enumerate(batched(ids, self._a_part), start=1)
        ]
        answers: tuple[Answer[MailReply], ...] = ()
        if parts:
            answers = await self._directory.ask(
                _ROSTER, user_id, ExecuteParts(tuple(parts)), timeout_s=_WATCH_TIMEOUT_S
            )
        done = [_success(answer) for answer in answers]
        accepted = [email_id for one in done for email_id in one.accepted or ()]
        refused = [email_id for one in done for email_id in one.refused or ()]
        return Reply(encode(watched(accepted, refused, on=on)), place_of(answers))


def _part_of_watch(origin: Origin, number: int) -> Origin:
    key = origin.key
    return origin if key is None else replace(origin, key=replace(key, id=f"{_WATCH_PART}/{number}/{key.id}"))


def _success(answer: Answer[MailReply]) -> Success:
    """What a part was answered now, or the first time."""
    if answer.duplicate is not None:
        return msgspec.json.decode(answer.duplicate.reply, type=Success)
    assert isinstance(answer.reply, Success), "a part of bounded size is not refused"
    return answer.reply
