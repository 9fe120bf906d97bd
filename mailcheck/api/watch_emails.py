"""`watch_emails`: some mailboxes, or all that a filter admits, in parts of bounded size.

As with a long import, each part keeps its answer under an id of its own. After a crash, a repeat gets the
answers of the parts that stand, and does the rest.
"""

from itertools import batched

import msgspec
from msgspec.structs import replace

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, ExecuteParts, Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, from_entity, from_record
from huahuo.eventstore.errors import CommandMismatch
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.importing import place_of
from huahuo.mailcheck.api.params import WatchParams
from huahuo.mailcheck.replies import MailReply, Success, encode
from huahuo.mailcheck.roster.commands import WatchEmails
from huahuo.mailcheck.roster.decider import watched
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.words import zh

_ROSTER = "roster"
_PART = "a part of watch_emails ".ljust(64, ".")
"""So the id of a part is longer than any that a client may send."""
_TIMEOUT_S = 120.0


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
            Execute(WatchEmails(some, on), _part_of(call.origin, number))
            for number, some in enumerate(batched(ids, self._a_part), start=1)
        ]
        answers: tuple[Answer[MailReply], ...] = ()
        if parts:
            answers = await self._directory.ask(
                _ROSTER, user_id, ExecuteParts(tuple(parts)), timeout_s=_TIMEOUT_S
            )
        done = [_success(answer) for answer in answers]
        accepted = [email_id for one in done for email_id in one.accepted or ()]
        refused = [email_id for one in done for email_id in one.refused or ()]
        return Reply(encode(watched(accepted, refused, on=on)), place_of(answers))


def _part_of(origin: Origin, number: int) -> Origin:
    key = origin.key
    return origin if key is None else replace(origin, key=replace(key, id=f"{_PART}/{number}/{key.id}"))


def _success(answer: Answer[MailReply]) -> Success:
    """What a part was answered now, or the first time."""
    if answer.duplicate is not None:
        return msgspec.json.decode(answer.duplicate.reply, type=Success)
    assert isinstance(answer.reply, Success), "a part of bounded size is not refused"
    return answer.reply
