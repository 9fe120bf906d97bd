"""The user of a client, and commands and queries as a plug-in meets them, with its answers. Pure.

`Place` is a span as a text (W3C Trace Context, `traceparent`), which may also be the id of a command.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import CommandKey, CommandRecord

type UserId = int | str
"""The id of a user as the application gives it."""

SERVICE: Final = "service"
"""The principal of what the service does by itself."""
_TEXT: Final = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
USER_ID_RULE: Final = (
    "a user's id is an integer of magnitude below 2^53, or a text of 1 to 64 letters, digits or _ . @ + -"
)


def user_id_of(given: object) -> UserId | None:
    """A user's id as the service knows it, None if `given` is none.

    Text that spells an integer, as JSON writes it, is that integer: `user/42` is one user.
    """
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        return given if abs(given) <= BROWSER_INT_MAX else None
    if not isinstance(given, str) or not _TEXT.fullmatch(given) or given in (".", ".."):
        return None
    if _NUMBER.fullmatch(given) and abs(int(given)) <= BROWSER_INT_MAX:
        return int(given)
    return given


class Principal(msgspec.Struct, frozen=True):
    """The user that a verified token names. `groups` are names without `group/`.

    An application's `authenticate` may leave `username` empty, for the id, and say when the sign-in ends:
    `expires_at`, a moment with a time zone or seconds since 1970.

    `signed_in_ms`: when the user proved who it is; 0: that is not known.
    `rights`: what an API key may do for the user; None for a token, which may do everything. The service sets
    it; `authenticate` leaves it out.
    """

    user_id: UserId
    username: str = ""
    is_admin: bool = False
    groups: tuple[str, ...] = ()
    expires_at: datetime | float | None = None
    signed_in_ms: int = 0
    rights: tuple[str, ...] | None = None

    def may(self, right: str) -> bool:
        """Whether a key has this right. A token has all."""
        return self.rights is None or right in self.rights

    @property
    def name(self) -> str:
        """The user's name on events: `user/42`."""
        return f"user/{self.user_id}"


_FORM: Final = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
_SAMPLED: Final = 1
LENGTH: Final = 55
"""Characters of one. A command's id may have 64."""


class Place(msgspec.Struct, frozen=True):
    """A span of a trace. `sampled`: the program that began the trace wants it recorded."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def carried(text: str) -> str:
    """The text itself if it is the place of a span that is recorded, else ""."""
    if len(text) != LENGTH or (place := place_in(text)) is None or not place.sampled:
        return ""
    return text


def place_in(text: str) -> Place | None:
    """The place that a text names, None if it is any other id."""
    if len(text) != LENGTH or (found := _FORM.fullmatch(text)) is None:
        return None
    trace_id, span_id = int(found["trace"], 16), int(found["span"], 16)
    if not trace_id or not span_id:
        return None
    return Place(trace_id, span_id, bool(int(found["flags"], 16) & _SAMPLED))


TEXT_CHARS_MAX: Final = 4_096
"""Of the `message` of an error and of its `details`: the rest is cut, since an answer is recorded."""
BUSY_RETRY_S: Final = 1.0
"""The default `retry_s` of a `busy` refusal."""


class Parted(Protocol):
    """A JSON object that is made piece by piece, always of the same state."""

    def pieces(self) -> Iterator[bytes]:
        """Its text in pieces, each made in at most 1 ms."""
        ...

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """A part of about `bytes_max` bytes, and where the next part begins (None: this is the last one).

        The first part begins at 0. All parts in order make the whole.
        """
        ...


class Call[P](msgspec.Struct, frozen=True):
    """One command or query of an authenticated client, its fields decoded and checked.

    `key` is set if the client gave an `id`, which is unique for the user and client (or session).
    `command_id` is stored with the events that the call causes: the client's id, or one made by the session.
    """

    principal: Principal
    session: str
    action: str
    params: P
    command_id: str
    key: CommandKey | None = None
    fingerprint: bytes = b""

    @property
    def user(self) -> str:
        """The name of the principal: `user/42`."""
        return self.principal.name if self.key is None else self.key.user

    @property
    def cause(self) -> tuple[str, str]:
        """What the events that the call causes have of it: its user and its id."""
        key = self.key
        return (self.principal.name if key is None else key.user), self.command_id

    @property
    def origin(self) -> Origin:
        """The call as the source of an entity's decision."""
        return Origin(self.principal.name, self.command_id, self.key, self.fingerprint)


class Reply(msgspec.Struct, frozen=True):
    """The answer to a call: `body` is the JSON object with its `type`, without `id` and `at`.

    `recorded`: the handler has stored it in the log together with its events, under `call.key`.
    `duplicate`: the call repeats a command, and this is its first answer.
    `parted` (queries only): the real answer, which may be long; `body` then holds only its `type`.
    `position`: of the log after the commit; 0 if it is not known.
    """

    body: bytes
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: Parted | None = None
    position: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """A refusal as a value: becomes an `error` message with a code of PROTOCOL 6."""

    code: str
    message: str
    details: str | Mapping[str, Any] = ""
    """A text, which is cut if it is long, or an object, which is not."""
    retry_s: float | None = None
    """With `busy`: seconds after which a retry may succeed."""


type RefuseGrowth = Callable[[str, bool], Refusal | None]
"""Why a principal (`user/42`, `service`) may store nothing more now; None: it may. True: an administrator."""


def error_reply(refusal: Refusal) -> Reply:
    """The `error` message of PROTOCOL 6 for a refusal, without the request's id."""
    return Reply(body=error_body(refusal))


def error_body(refusal: Refusal) -> bytes:
    """The JSON object of an `error` message."""
    body: dict[str, object] = {"type": "error", "code": refusal.code, "message": cut(refusal.message)}
    if refusal.details:
        body["details"] = cut(refusal.details) if isinstance(refusal.details, str) else refusal.details
    if refusal.retry_s is not None:
        body["retry_s"] = refusal.retry_s
    return msgspec.json.encode(body)


def cut(text: str) -> str:
    """A text of an error, with at most `TEXT_CHARS_MAX` characters."""
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"


def json_reply(body: Mapping[str, object], at: tuple[str, int] | None = None) -> Reply:
    """A reply that is not recorded, from a mapping that has a `type`."""
    return Reply(body=msgspec.json.encode(body), at=at)


def without_secret(call: Call[Any], message: str) -> CommandRecord | None:
    """The answer to a repeat of a command whose answer shows a secret once: the log never has that secret."""
    if call.key is None:
        return None
    body = json_reply({"type": "success", "message": message}).body
    return CommandRecord(call.key, call.fingerprint, body)


def from_record(record: CommandRecord) -> Reply:
    """The stored answer of a repeated command."""
    at = (record.at_stream, record.at_seq) if record.at_stream and record.at_seq else None
    return Reply(body=record.reply, at=at, recorded=True, duplicate=True)


def from_entity(body: bytes, answer: Answer[object], call: Call[object]) -> Reply:
    """An entity's answer to `Execute(command, call.origin)`.

    `body` is the JSON object of `answer.reply`. It is not used for a repeat, whose first answer is stored.
    """
    if answer.duplicate is not None:
        return Reply(answer.duplicate.reply, answer.at, recorded=True, duplicate=True)
    return Reply(body, answer.at, recorded=call.key is not None, position=answer.position)
