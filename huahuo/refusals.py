"""Changes of users, API keys and webhooks that are not allowed, and how clients are answered."""

from typing import Any

from msgspec.structs import replace

from huahuo import zh
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Refusal, Reply, error_reply


class ChangeRefused(Exception):  # noqa: N818  a refusal, not a fault
    """A change that is not allowed. `code` is an error code of PROTOCOL 6.

    `told` is the text of the catalogue for the client; the exception's own text is for details and the shell.
    """

    def __init__(self, code: str, text: str, told: str = zh.REFUSED, retry_s: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.told = told
        self.retry_s = retry_s


def refusing(action: Action) -> Action:
    """The action, with what its handler refuses as answers."""

    async def answered(call: Any) -> Reply:
        try:
            reply: Reply = await asked(call)
        except ChangeRefused as refused:
            return error_reply(Refusal(refused.code, zh.REFUSED, str(refused)))
        return reply

    asked: Any = action.handler
    return replace(action, handler=answered)
