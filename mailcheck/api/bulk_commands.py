"""Commands about many mailboxes, in parts that are decided and committed one by one.

Others wait for one part only. A commit of 20,000 new mailboxes holds the log's writer for a second. What
the client may rely on stays: one command id, one answer, each line done once. Each part keeps its answer
under an id of its own; after a crash a repeat gets the answers of the parts that stand, and does the rest.
A part of a choice is named by its first mailbox. What a filter admits is looked up first. A user's
commands with a filter go one after the other: if all were begun together, none would end before most have.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import batched
from typing import Any, Final

import msgspec

from huahuo.actors.entities.decider import Answer
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.mailcheck import en, zh
from huahuo.mailcheck.api.mailbox_list import Failures, Filter, failures_of
from huahuo.mailcheck.api.params import CheckParams, ChoiceParams, FailuresParams, LabelParams, WatchParams
from huahuo.mailcheck.api.rosters import Answering, Rosters
from huahuo.mailcheck.checks.mailboxes import OneAtATime
from huahuo.mailcheck.records import ImportResult, MailReply, Success, Warned, encode
from huahuo.mailcheck.roster.decider import (
    CancelCheck,
    CheckEmails,
    DeleteEmails,
    ImportEmails,
    LabelEmails,
    RosterCommand,
    WatchEmails,
    watched,
)
from huahuo.mailcheck.roster.importer import ImportData

LINES_A_PART: Final = 1_000
"""A commit of this many mailboxes takes some 40 ms of processor time, a decision 10 ms."""


async def import_in_parts(
    rosters: Rosters, call: Call[Any], command: ImportEmails, lines_a_part: int
) -> Reply:
    """Import a long text. Failures of the text belong to no part. The gate records the answer."""
    recorded = await rosters.recorded(call)
    if recorded is not None:
        return recorded
    data = command.data
    parts = (
        ImportEmails(command.mail_type, ImportData(len(accounts), accounts, ()), command.validate)
        for accounts in batched(data.accounts, lines_a_part)
    )
    answers = await rosters.execute_parts(call, "a part of an import ", enumerate(parts, start=1))
    results = [one for one in map(_reply, answers) if isinstance(one, ImportResult)]
    assert len(results) == len(answers), "the import as a whole was not refused"
    failures = [*data.failures, *(failure for result in results for failure in result.failed_details)]
    failures.sort(key=lambda failure: failure.line)
    success = sum(result.success for result in results)
    return Reply(encode(ImportResult(data.total, success, len(failures), failures)), _place_of(answers))


def _place_of(answers: Sequence[Answer[MailReply]]) -> tuple[str, int] | None:
    """The position of the last event that the parts wrote to the user's stream, None if there is none."""
    return max((answer.at for answer in answers if answer.at is not None), default=None)


IDS_A_PART: Final = 500
"""A deletion of this many takes some 40 ms of processor time."""
_ID_BYTES = 64
"""An id in memory with its place in a command."""
_LISTS: Final = ("email_ids", "accepted", "skipped", "cancelled", "refused")

type Make = Callable[[tuple[int, ...]], RosterCommand]


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
        return await self._many(call, DeleteEmails, zh.DELETED, pause=True)

    async def _check(self, call: Call[CheckParams]) -> Reply:
        login = call.params.login
        return await self._many(call, lambda ids: CheckEmails(ids, login), zh.CHECKING)

    async def _cancel(self, call: Call[ChoiceParams]) -> Reply:
        return await self._many(call, CancelCheck, zh.CANCELLED, pause=True)

    async def _label(self, call: Call[LabelParams]) -> Reply:
        labels = call.params.labels()
        return await self._many(call, lambda ids: LabelEmails(ids, labels), zh.LABELLED)

    async def _watch(self, call: Call[WatchParams]) -> Reply:
        params, on = call.params, bool(call.params.on)
        if (params.email_ids is None) == (params.filter is None):
            return error_reply(Refusal("invalid_field", zh.NO_IDS, "email_ids or filter"))
        message = zh.WATCH_ON if on else zh.WATCH_OFF
        return await self._many(call, lambda ids: WatchEmails(ids, on), message, none=watched([], [], on=on))

    async def _failures(self, call: Call[FailuresParams]) -> Reply:
        rows = await self._rosters.admitted(call.principal.user_id, call.params.filter)
        found: Failures = failures_of(rows, mailboxes_max=call.params.limit)
        return Reply(msgspec.json.encode(found))

    async def _many(
        self, call: Call[Any], make: Make, message: str, *, pause: bool = False, none: Success | None = None
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
                call, params.filter, make, message, pause, none or Warned(zh.NONE_ADMITTED, email_ids=[])
            )

    async def _filtered(
        self, call: Call[Any], chosen: Filter, make: Make, message: str, pause: bool, none: Success
    ) -> Reply:
        """The gate records the answer."""
        user_id = call.principal.user_id
        ids = [row.id for row in await self._rosters.admitted(user_id, chosen)]
        if not ids:
            return Reply(encode(none))
        with (
            self._rosters.hold(user_id, _ID_BYTES * len(ids)),
            self._mailboxes.pauses.hold(ids) if pause else nullcontext(),
        ):
            parts = ((some[0], make(some)) for some in batched(ids, IDS_A_PART))
            answers = await self._rosters.execute_parts(call, "a part of a choice ", parts)
        return Reply(encode(_together([_reply(one) for one in answers], message)), _place_of(answers))


def _reply(answer: Answer[MailReply]) -> MailReply:
    """What a part was answered now, or the first time."""
    if answer.duplicate is None:
        assert answer.reply is not None, "a part that is no duplicate has an answer"
        return answer.reply
    try:
        return msgspec.json.decode(answer.duplicate.reply, type=Success | Warned | ImportResult)
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
