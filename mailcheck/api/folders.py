"""`get_folders`: which folders a mailbox has on its server, and which of them are read."""

from collections.abc import Awaitable, Callable

import msgspec

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.mailcheck.attachments.asking import Asking
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.attachments.reading import ReadMail
from huahuo.mailcheck.checks.signing_in_only import Folders
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.words import en, zh


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
        self._asking = Asking(ambient, zh.ASKING_ALREADY, en.SERVERS_AT_ONCE)

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("get_folders", FoldersParams, self._get, query=True)]

    async def _get(self, call: Call[FoldersParams]) -> Reply:
        email_id = call.params.email_id
        row = await self._own.mailbox(call.principal.user_id, email_id)
        plan = None if row is None else await self._plan_of(email_id)
        if plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))

        async def ask() -> Reply:
            found = Folders()
            await self._read(email_id, plan, found)
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

        return await self._asking.answer(call.principal.name, ask)
