"""Messages with a text for people, in the language of one connection (PROTOCOL 12). Pure."""

from collections.abc import Mapping
from typing import Any, Final

from huahuo.actors.plugins.calls import Reply
from huahuo.actors.plugins.words import Language, Words
from huahuo.transport.access.verified import NOT_NOW, AuthFailure, Verified
from huahuo.transport.protocol.codes import AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.incoming import Invalid
from huahuo.transport.protocol.parts import ONLY, Part
from huahuo.transport.session import outgoing
from huahuo.transport.words import zh

REFUSED: Final[Mapping[str, str]] = {
    AuthCode.TOKEN_EXPIRED: zh.TOKEN_EXPIRED,
    AuthCode.TOKEN_INVALID: zh.TOKEN_INVALID,
    AuthCode.TOKEN_REVOKED: zh.TOKEN_REVOKED,
    NOT_NOW: zh.NOT_JUDGED_NOW,
}
"""What is said about a refused token, by its code."""


class Speech:
    """See the module. `language` may change: a client says it as it signs in (`speak`).

    `details`: the language of details and reasons, which is English for a client that asks for none.
    """

    __slots__ = ("_details", "_words", "language")

    def __init__(self, words: Words, language: Language, details: Language = "en") -> None:
        self._words = words
        self.language: Language = language
        self._details: Language = details

    def speak(self, language: Language) -> None:
        """Say everything in this language from now on."""
        self.language = self._details = language

    def error(self, code: ErrorCode, text: str, *, details: str = "", request_id: str | None = None) -> bytes:
        """An `error` message."""
        explained = self.explain(details)
        return outgoing.error(code, self.text(text), details=explained, request_id=request_id)

    def refusal(self, invalid: Invalid) -> bytes:
        """The `error` message for a client's message that is refused."""
        return self.error(invalid.code, invalid.message, details=invalid.details, request_id=invalid.id)

    def authenticated(self, verified: Verified, **members: Any) -> bytes:
        """See `outgoing.authenticated`."""
        return outgoing.authenticated(verified, text=self.text(zh.AUTHENTICATED), **members)

    def refused(self, failure: AuthFailure) -> str:
        """What is said about a refused token."""
        return self.text(REFUSED[failure.code])

    def text(self, text: str) -> str:
        """A text of a catalogue in this language."""
        return self._words.say(text, self.language)

    def explain(self, text: str) -> str:
        """Details or a reason, which the code says in English."""
        return self._words.explain(text, self._details)

    def goaway(self, code: CloseCode, reason: str, leaving: int) -> bytes:
        """See `outgoing.goaway`."""
        return outgoing.goaway(code, self.explain(reason), leaving)

    def authentication_failed(self, failure: AuthFailure) -> bytes:
        """A failed `authentication_result`."""
        return outgoing.message(
            type="authentication_result", success=False, code=failure.code, message=self.refused(failure)
        )

    def reply(self, answer: Reply, request_id: str | None, part: Part = ONLY) -> bytes:
        """See `outgoing.reply`."""
        body = self._words.reply(answer.body, self.language, self._details)
        return outgoing.reply(answer, request_id, part, body)
