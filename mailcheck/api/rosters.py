"""What actions ask of the roster of a user: its rows, its mails, and commands, whole or in parts.

Exceptions of the log and the entities pass through.

Commands about many mailboxes, in parts that are decided and committed one by one.

Others wait for one part only. A commit of 20,000 new mailboxes holds the log's writer for a second. What
the client may rely on stays: one command id, one answer, each line done once. Each part keeps its answer
under an id of its own; after a crash a repeat gets the answers of the parts that stand, and does the rest.
A part of a choice is named by its first mailbox. What a filter admits is looked up first. A user's
commands with a filter go one after the other: if all were begun together, none would end before most have.
"""

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import batched
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Execute, ExecuteParts, Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, UserId, error_reply, from_entity, from_record
from huahuo.eventstore.errors import CommandMismatch
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck import en, records, zh
from huahuo.mailcheck.api.mailbox_list import Failures, Filter, failures_of
from huahuo.mailcheck.api.params import CheckParams, ChoiceParams, FailuresParams, LabelParams, WatchParams
from huahuo.mailcheck.checks.mailboxes import Mailboxes, OneAtATime
from huahuo.mailcheck.events import roster_stream
from huahuo.mailcheck.roster import decider
from huahuo.mailcheck.roster.importer import ImportData
from huahuo.mailcheck.roster.state import Roster

ROSTER: Final = "roster"
_PARTS_TIMEOUT_S: Final = 120.0
"""For all parts: between two of them it may wait up to 5 s for others (`Fairness.paid`)."""
_PART_CHARS: Final = 64
"""The name of a part is as long, so its id is longer than any that a client may send."""
_ROWS_A_STEP: Final = 4_096


class Rosters:
    """See the module."""

    def __init__(self, mailboxes: Mailboxes, executor: Executor) -> None:
        self.mailboxes = mailboxes
        self.executor = executor
        self._log = mailboxes.log
        self._directory = mailboxes.directory

    def hold(self, user_id: UserId, size_bytes: int) -> AbstractContextManager[None]:
        """Count this memory to a roster during the block."""
        return self._directory.hold(ROSTER, user_id, size_bytes)

    async def ask[T](self, user_id: UserId, look: Callable[[int, Roster], T]) -> T:
        """What `look` finds in a roster, with the number of its last event."""
        found: T = await self._directory.ask(ROSTER, user_id, Query(look))
        return found

    async def rows(self, user_id: UserId) -> tuple[records.Row, ...]:
        """All rows of now, by id."""
        return await self.ask(user_id, lambda _seq, state: state.cut())

    async def row(self, user_id: UserId, email_id: int) -> records.Row | None:
        """A mailbox of this user."""
        return await self.ask(user_id, lambda _seq, state: state.rows.get(email_id))

    async def group_proxy(self, user_id: UserId, email_id: int) -> Secret | None:
        """The proxy of the group in which this mailbox is now, None if there is none.

        A roster is asked only if its user has given any group a proxy: most have not.
        """
        part = str(user_id)
        if not await self._log.rows(records.GROUP_PROXIES, part, limit=1):
            return None
        row = await self.row(user_id, email_id)
        group = "" if row is None else row.group or ""
        if not group or await self._log.row(records.GROUP_PROXIES, part, records.group_key(group)) is None:
            return None
        return await self._log.secret(roster_stream(user_id), records.group_secret(group))

    async def mail(self, user_id: UserId, mail_id: int) -> records.MailRecord | None:
        """A mail of this user. Records outlive their mailbox for a while; the roster says what there is."""
        place = await place_of(self._log, mail_id)
        if place is None or place.user_id != user_id or await self.row(user_id, place.email_id) is None:
            return None
        return await _record_at(self._log, mail_id, place)

    async def admitted(
        self, user_id: UserId, chosen: Filter | None, named: Container[int] | None = None
    ) -> list[records.Row]:
        """The rows of now that a filter admits, of those named. A long list does not block the loop."""
        rows = await self.rows(user_id)
        admits = None if chosen is None else chosen.admits()
        if admits is None and named is None:
            return list(rows)
        found: list[records.Row] = []
        for some in batched(rows, _ROWS_A_STEP):
            found += [
                row for row in some if (named is None or row.id in named) and (admits is None or admits(row))
            ]
            await asyncio.sleep(0)
        return found

    async def tell(
        self, user_id: UserId, command: decider.RosterCommand, origin: Origin
    ) -> Answer[records.MailReply]:
        """Let a roster decide."""
        answer: Answer[records.MailReply] = await self._directory.ask(
            ROSTER, user_id, Execute(command, origin)
        )
        return answer

    async def execute(self, call: Call[Any], command: decider.RosterCommand) -> Reply:
        """The reply to a call that is one command."""
        answer = await self.tell(call.principal.user_id, command, call.origin)
        return from_entity(b"" if answer.reply is None else records.encode(answer.reply), answer, call)

    async def recorded(self, call: Call[Any]) -> Reply | None:
        """The reply to a call in parts, if it was answered before: the gate records it."""
        known = None if call.key is None else await self._log.command(call.key)
        if known is None:
            return None
        if known.fingerprint != call.fingerprint:
            raise CommandMismatch("the command id was used with another content")
        return from_record(known)

    async def execute_parts(
        self, call: Call[Any], kind: str, commands: Iterable[tuple[int, decider.RosterCommand]]
    ) -> tuple[Answer[records.MailReply], ...]:
        """Decide and commit numbered commands one by one. Each keeps its answer under an id of its own."""
        parts = ExecuteParts(
            tuple(Execute(command, _part(call.origin, kind, number)) for number, command in commands)
        )
        answers: tuple[Answer[records.MailReply], ...] = await self._directory.ask(
            ROSTER, call.principal.user_id, parts, timeout_s=_PARTS_TIMEOUT_S
        )
        return answers


class Answering:
    """What answers actions: with the rosters, the mailboxes, and what both are kept in."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters
        self._executor = rosters.executor
        self._mailboxes = rosters.mailboxes
        self._log = rosters.mailboxes.log
        self._ambient = rosters.mailboxes.ambient


async def place_of(log: Log, mail_id: int) -> records.MailPlace | None:
    """Whose a mail is, and where its record is. None if there is no such mail."""
    found = None if mail_id < 0 else await log.row(records.MAIL, "", records.mail_key(mail_id))
    return None if found is None else msgspec.json.decode(found, type=records.MailPlace)


async def _record_at(log: Log, mail_id: int, place: records.MailPlace) -> records.MailRecord | None:
    row = await log.row(records.MAILS, str(place.email_id), records.record_key(place.received_ms, mail_id))
    return None if row is None else msgspec.json.decode(row, type=records.MailRecord)


async def record_of(log: Log, mail_id: int) -> tuple[records.MailRecord, records.MailPlace] | None:
    """The record of a mail, and whose it is. None if there is none."""
    place = await place_of(log, mail_id)
    record = None if place is None else await _record_at(log, mail_id, place)
    return None if place is None or record is None else (record, place)


def _part(origin: Origin, kind: str, number: int) -> Origin:
    if origin.key is None:
        return origin
    return replace(origin, key=replace(origin.key, id=f"{kind:.<{_PART_CHARS}}/{number}/{origin.key.id}"))


LINES_A_PART: Final = 1_000
"""A commit of this many mailboxes takes some 40 ms of processor time, a decision 10 ms."""


async def import_in_parts(
    rosters: Rosters, call: Call[Any], command: decider.ImportEmails, lines_a_part: int
) -> Reply:
    """Import a long text. Failures of the text belong to no part. The gate records the answer."""
    recorded = await rosters.recorded(call)
    if recorded is not None:
        return recorded
    data = command.data
    parts = (
        decider.ImportEmails(command.mail_type, ImportData(len(accounts), accounts, ()), command.validate)
        for accounts in batched(data.accounts, lines_a_part)
    )
    answers = await rosters.execute_parts(call, "a part of an import ", enumerate(parts, start=1))
    results = [one for one in map(_reply, answers) if isinstance(one, records.ImportResult)]
    assert len(results) == len(answers), "the import as a whole was not refused"
    failures = [*data.failures, *(failure for result in results for failure in result.failed_details)]
    failures.sort(key=lambda failure: failure.line)
    success = sum(result.success for result in results)
    return Reply(
        records.encode(records.ImportResult(data.total, success, len(failures), failures)), _place_of(answers)
    )


def _place_of(answers: Sequence[Answer[records.MailReply]]) -> tuple[str, int] | None:
    """The position of the last event that the parts wrote to the user's stream, None if there is none."""
    return max((answer.at for answer in answers if answer.at is not None), default=None)


IDS_A_PART: Final = 500
"""A deletion of this many takes some 40 ms of processor time."""
_ID_BYTES = 64
"""An id in memory with its place in a command."""
_LISTS: Final = ("email_ids", "accepted", "skipped", "cancelled", "refused")

type Make = Callable[[tuple[int, ...]], decider.RosterCommand]


class Choosing(Answering):
    """Answers the commands about many mailboxes."""

    def __init__(self, rosters: Rosters) -> None:
        super().__init__(rosters)
        self._filtering = OneAtATime()

    def actions(self) -> list[Action]:
        """See the module."""
        return [
            Action("delete_emails", ChoiceParams, self._delete, frees=True),
            Action("check_emails", CheckParams, self._check),
            Action("cancel_check", ChoiceParams, self._cancel, frees=True),
            Action("label_emails", LabelParams, self._label),
            Action("watch_emails", WatchParams, self._watch),
            Action("get_failures", FailuresParams, self._failures, query=True),
        ]

    async def _delete(self, call: Call[ChoiceParams]) -> Reply:
        return await self._many(call, decider.DeleteEmails, zh.DELETED, pause=True)

    async def _check(self, call: Call[CheckParams]) -> Reply:
        login = call.params.login
        return await self._many(call, lambda ids: decider.CheckEmails(ids, login), zh.CHECKING)

    async def _cancel(self, call: Call[ChoiceParams]) -> Reply:
        return await self._many(call, decider.CancelCheck, zh.CANCELLED, pause=True)

    async def _label(self, call: Call[LabelParams]) -> Reply:
        labels = call.params.labels()
        return await self._many(call, lambda ids: decider.LabelEmails(ids, labels), zh.LABELLED)

    async def _watch(self, call: Call[WatchParams]) -> Reply:
        params, on = call.params, bool(call.params.on)
        if (params.email_ids is None) == (params.filter is None):
            return error_reply(Refusal("invalid_field", zh.NO_IDS, "email_ids or filter"))
        message = zh.WATCH_ON if on else zh.WATCH_OFF
        return await self._many(
            call, lambda ids: decider.WatchEmails(ids, on), message, none=decider.watched([], [], on=on)
        )

    async def _failures(self, call: Call[FailuresParams]) -> Reply:
        rows = await self._rosters.admitted(call.principal.user_id, call.params.filter)
        found: Failures = failures_of(rows, mailboxes_max=call.params.limit)
        return Reply(msgspec.json.encode(found))

    async def _many(
        self,
        call: Call[Any],
        make: Make,
        message: str,
        *,
        pause: bool = False,
        none: records.Success | None = None,
    ) -> Reply:
        """`pause`: meanwhile, checks of these mailboxes report nothing. `none`: the answer without any."""
        params: ChoiceParams = call.params
        if params.filter is not None and params.email_ids is not None:
            return error_reply(Refusal("invalid_field", zh.FIELD.format("filter"), en.IDS_OR_FILTER))
        if params.filter is None:
            ids = params.email_ids or ()
            with self._mailboxes.pauses.hold(ids) if pause else nullcontext():
                return await self._rosters.execute(call, make(ids))
        async with self._filtering.of(call.principal.user_id):
            recorded = await self._rosters.recorded(call)
            if recorded is not None:
                return recorded
            return await self._filtered(
                call,
                params.filter,
                make,
                message,
                pause,
                none or records.Warned(zh.NONE_ADMITTED, email_ids=[]),
            )

    async def _filtered(
        self, call: Call[Any], chosen: Filter, make: Make, message: str, pause: bool, none: records.Success
    ) -> Reply:
        """The gate records the answer."""
        user_id = call.principal.user_id
        ids = [row.id for row in await self._rosters.admitted(user_id, chosen)]
        if not ids:
            return Reply(records.encode(none))
        with (
            self._rosters.hold(user_id, _ID_BYTES * len(ids)),
            self._mailboxes.pauses.hold(ids) if pause else nullcontext(),
        ):
            parts = ((some[0], make(some)) for some in batched(ids, IDS_A_PART))
            answers = await self._rosters.execute_parts(call, "a part of a choice ", parts)
        return Reply(records.encode(_together([_reply(one) for one in answers], message)), _place_of(answers))


def _reply(answer: Answer[records.MailReply]) -> records.MailReply:
    """What a part was answered now, or the first time."""
    if answer.duplicate is None:
        assert answer.reply is not None, "a part that is no duplicate has an answer"
        return answer.reply
    try:
        return msgspec.json.decode(
            answer.duplicate.reply, type=records.Success | records.Warned | records.ImportResult
        )
    except msgspec.ValidationError:
        fields = msgspec.json.decode(answer.duplicate.reply)
        return Refusal(fields["code"], fields["message"], fields.get("details", ""))


def _together(replies: Sequence[records.MailReply], message: str) -> records.MailReply:
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
    if all(isinstance(reply, records.Warned) for reply in replies):
        assert isinstance(replies[0], records.Warned), "there is a reply, and it is a warning"
        return records.Warned(replies[0].message, **lists)
    done: list[int] = next(
        (lists[name] for name in ("accepted", "cancelled", "email_ids") if name in lists), []
    )
    return records.Success(message.format(len(done)), **lists)
