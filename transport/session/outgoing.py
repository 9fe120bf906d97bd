"""The protocol's own messages from server to client. Pure.

They are complete text frames, except replies and snapshots: these may be compressed, so they are JSON.
`Speech` says those with a text for people in the language of one connection (PROTOCOL 12).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.calls import Reply, cut
from huahuo.actors.plugins.words import Language, Words
from huahuo.eventstore.core.chain import check_of
from huahuo.eventstore.model import LOG_STREAM, Head
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verified
from huahuo.transport.protocol.codes import CLOSES, AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.frames import spliced, text_frame
from huahuo.transport.protocol.incoming import Invalid
from huahuo.transport.protocol.kinds import ONLY, Outcome, Part, Place
from huahuo.transport.session.interface import LogView
from huahuo.transport.words import zh

_encode = msgspec.json.encode
_PAUSE_S: Final = 1.5
"""The longest pause of few clients: a restart takes about a second."""
_SPREAD_S: Final = 0.0015
"""A client more makes it longer by this: 10,000 come back within 15 s."""


def message(**fields: object) -> bytes:
    """A text frame of a message with these members. Members that are None are left out."""
    return text_frame(_encode({name: value for name, value in fields.items() if value is not None}))


def timestamp(ms: int) -> str:
    """`ms` since 1970 as RFC 3339 UTC, with milliseconds unless they are 0."""
    moment = datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds") + "Z"


def placed(place: Place, head: Head) -> dict[str, object]:
    """A stream's entry in `authentication_result`, and the middle of `subscribed`."""
    if place.outcome in (Outcome.DENIED, Outcome.PENDING):
        return {"outcome": place.outcome}
    return {"outcome": place.outcome, "after": place.after, "first": head.first, "head": head.seq}


def authenticated(
    verified: Verified,
    *,
    session: str,
    log: str,
    heartbeat_s: float,
    window: int | None,
    streams: Mapping[str, Mapping[str, object]],
    dictionary: Mapping[str, object] | None,
    text: str,
) -> bytes:
    """A successful `authentication_result`. `window` None: there is no window (classic)."""
    return message(
        type="authentication_result",
        success=True,
        message=text,
        session=session,
        log=log,
        user=shown_user(verified),
        expires_at=timestamp(verified.expires_at_ms),
        heartbeat_s=int(heartbeat_s) if heartbeat_s == int(heartbeat_s) else heartbeat_s,
        window=window,
        dictionary=dictionary,
        streams=streams,
    )


def error(code: ErrorCode, text: str, *, details: str = "", request_id: str | None = None) -> bytes:
    """An `error` message."""
    return message(type="error", id=request_id, code=code, message=text, details=cut(details) or None)


def with_position(answer: Reply, log: LogView) -> Reply:
    """The answer with a position, if it has a place. A repeat has the log's of now."""
    if answer.at is None or answer.position:
        return answer
    return msgspec.structs.replace(answer, position=log.head(LOG_STREAM).seq)


def reply(answer: Reply, request_id: str | None, part: Part = ONLY, body: bytes = b"") -> bytes:
    """A reply as JSON: its body with `id`, `at` and `duplicate` added, and the members of its part.

    `body`: in place of the reply's own.
    """
    body = body or answer.body
    tail: list[bytes] = []
    if request_id is not None:
        tail.append(b'"id":' + _encode(request_id))
    if answer.at is not None:
        position = b',"position":%d' % answer.position if answer.position else b""
        tail.append(b'"at":{"stream":%b,"seq":%d%b}' % (_encode(answer.at[0]), answer.at[1], position))
    if answer.duplicate:
        tail.append(b'"duplicate":true')
    if part is not ONLY and part.members:
        tail.append(part.members)
    return spliced(body, b",".join(tail)) if tail else body


def snapshot(stream: str, seq: int, state: bytes, link: bytes = b"", part: Part = ONLY) -> bytes:
    """A `snapshot`, or a part of one, as JSON; `state` is a JSON object. Without a `link` it has no check."""
    check = b'"check":"%b",' % check_of(link).encode() if link else b""
    place = part.members and part.members + b","
    head = b'{"type":"snapshot","stream":%b,"seq":%d,%b%b"state":' % (_encode(stream), seq, check, place)
    return b"%b%b}" % (head, state)


def goaway(code: CloseCode, reason: str, leaving: int = 0) -> bytes:
    """The message before every close. It has `retry_s` if the client should reconnect.

    `leaving`: how many clients a drain sends away together. Their pause spreads them.
    """
    fact = CLOSES.get(code)
    retry_s: Sequence[float] | None = fact.retry_s if fact else None
    if retry_s and code in (CloseCode.DRAINING, CloseCode.RESTART):
        retry_s = retry_s[0], min(retry_s[1], max(_PAUSE_S, leaving * _SPREAD_S))
    return message(type="goaway", code=int(code), reason=reason, retry_s=retry_s)


def shown_user(verified: Verified) -> dict[str, object]:
    """The user, as the token names it."""
    principal = verified.principal
    return {
        "user_id": principal.user_id if verified.told_id is None else verified.told_id,
        "username": principal.username,
        "is_admin": principal.is_admin,
        "groups": principal.groups,
    }


REFUSED: Final[Mapping[str, str]] = {
    AuthCode.TOKEN_EXPIRED: zh.TOKEN_EXPIRED,
    AuthCode.TOKEN_INVALID: zh.TOKEN_INVALID,
    AuthCode.TOKEN_REVOKED: zh.TOKEN_REVOKED,
    NOT_NOW: zh.NOT_JUDGED_NOW,
}
"""What is said about a refused token, by its code."""


class Speech:
    """Messages with a text for people, in the language of one connection (PROTOCOL 12).

    `language` may change: a client says it as it signs in (`speak`).

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
        return error(code, self.text(text), details=explained, request_id=request_id)

    def refusal(self, invalid: Invalid) -> bytes:
        """The `error` message for a client's message that is refused."""
        return self.error(invalid.code, invalid.message, details=invalid.details, request_id=invalid.id)

    def authenticated(self, verified: Verified, **members: Any) -> bytes:
        """See `outgoing.authenticated`."""
        return authenticated(verified, text=self.text(zh.AUTHENTICATED), **members)

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
        return goaway(code, self.explain(reason), leaving)

    def authentication_failed(self, failure: AuthFailure) -> bytes:
        """A failed `authentication_result`."""
        return message(
            type="authentication_result", success=False, code=failure.code, message=self.refused(failure)
        )

    def reply(self, answer: Reply, request_id: str | None, part: Part = ONLY) -> bytes:
        """See `outgoing.reply`."""
        body = self._words.reply(answer.body, self.language, self._details)
        return reply(answer, request_id, part, body)
