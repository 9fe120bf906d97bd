"""`get_folders`: which folders a mailbox has on its server, and which of them are read."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.attachments.reading import ReadMail
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.checks.signing_in_only import Folders
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.words import en, zh

_TIMEOUT_S: Final = 60.0
AT_ONCE: Final = 2
"""Servers that one user asks at once. A query that waits for one holds one of the user's turns."""


class FoldersParams(msgspec.Struct, frozen=True):
    """The field of `get_folders`."""

    email_id: Id


class AskingFolders:
    """See the module. `default`: what is read of mailboxes whose user chose nothing."""

    def __init__(
        self,
        own: OwnMails,
        read: ReadMail,
        plan_of: Callable[[int], Awaitable[Plan | None]],
        default: tuple[str, ...],
        ambient: Ambient,
    ) -> None:
        self._own = own
        self._read = read
        self._plan_of = plan_of
        self._default = default
        self._ambient = ambient
        self._running: Counter[str] = Counter()

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("get_folders", FoldersParams, self._get, query=True)]

    async def _get(self, call: Call[FoldersParams]) -> Reply:
        email_id, user = call.params.email_id, call.principal.name
        row = await self._own.mailbox(call.principal.user_id, email_id)
        plan = None if row is None else await self._plan_of(email_id)
        if plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        if self._running[user] >= AT_ONCE:
            return error_reply(Refusal("busy", zh.ASKING_ALREADY, en.SERVERS_AT_ONCE.format(AT_ONCE)))
        self._running[user] += 1
        found = Folders()
        try:
            async with Deadline(self._ambient, _TIMEOUT_S):
                await self._read(email_id, plan, found)
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said))
        except TimeoutError:
            return error_reply(Refusal("unavailable", zh.SERVER_TOO_SLOW))
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]
        return json_reply(
            {
                "type": "folders",
                "email_id": email_id,
                "data": found.names,
                "junk": found.junk or None,
                "chosen": plan.folders,
                "default": self._default,
            }
        )
