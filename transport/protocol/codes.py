"""Close codes, error codes, and what a client does after each: the only owner of this. Pure.

The browser client has a copy of this table; a test compares the copy with `table_json`. `SENTENCES` says in
English what a refusal means, for exceptions and the command line.
"""

from enum import IntEnum, StrEnum
from typing import Final

import msgspec


class Rule(StrEnum):
    """What a client does after a close."""

    RECONNECT = "reconnect"
    """Reconnect automatically, with full-jitter back-off of 0.5 to 20 s."""
    RECONNECT_SLOWLY = "reconnect_slowly"
    """Reconnect automatically, after at least 30 s."""
    NEW_TOKEN = "new_token"  # noqa: S105  a rule's name
    """Get a new token, then reconnect."""
    STOP = "stop"
    """Do not reconnect automatically: the user, or an operator, must act."""


class CloseCode(IntEnum):
    """All codes that a connection can end with (PROTOCOL 10; 1000 and 1013: PROTOCOL 8)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    LOST = 1006
    BAD_UTF8 = 1007
    TOO_LARGE = 1009
    SERVER_FAULT = 1011
    RESTART = 1012
    TRY_AGAIN_LATER = 1013
    DRAINING = 4000
    TOKEN_EXPIRED = 4003
    TOO_SLOW = 4008
    SUPERSEDED = 4009
    SILENT = 4012
    RATE_LIMITED = 4013
    AUTH_TIMEOUT = 4408
    TOKEN_INVALID = 4500
    REVOKED = 4503
    TOO_MANY_CONNECTIONS = 4504
    UNSUPPORTED_VERSION = 4506
    FORBIDDEN = 4507


class CloseFact(msgspec.Struct, frozen=True):
    """One row of the table: the code, what the client does, and when the server issues it."""

    code: CloseCode
    rule: Rule
    when: str

    @property
    def retry_s(self) -> tuple[float, float] | None:
        """The range for `goaway`'s `retry_s`; None if the client should not reconnect."""
        return _RETRY_S.get(self.rule)


_RETRY_S = {Rule.RECONNECT: (0.5, 15.0), Rule.RECONNECT_SLOWLY: (30.0, 60.0)}

CLOSES: dict[CloseCode, CloseFact] = {
    fact.code: fact
    for fact in (
        CloseFact(CloseCode.NORMAL, Rule.STOP, "FireMail dialect only: the token was refused."),
        CloseFact(
            CloseCode.GOING_AWAY, Rule.RECONNECT, "Classic client: going away, or silent for too long."
        ),
        CloseFact(CloseCode.PROTOCOL_ERROR, Rule.STOP, "The client broke WebSocket framing."),
        CloseFact(CloseCode.LOST, Rule.RECONNECT, "The connection was lost without a close; never sent."),
        CloseFact(CloseCode.BAD_UTF8, Rule.STOP, "A text message was not UTF-8."),
        CloseFact(CloseCode.TOO_LARGE, Rule.STOP, "A message was above the size limit."),
        CloseFact(CloseCode.SERVER_FAULT, Rule.RECONNECT, "The server met a fault of its own."),
        CloseFact(CloseCode.RESTART, Rule.RECONNECT, "Classic client: the server restarts."),
        CloseFact(
            CloseCode.TRY_AGAIN_LATER, Rule.RECONNECT, "FireMail dialect only: any other passing trouble."
        ),
        CloseFact(CloseCode.DRAINING, Rule.RECONNECT, "The server drains: it stops, or is about to restart."),
        CloseFact(CloseCode.TOKEN_EXPIRED, Rule.NEW_TOKEN, "The token expired, before or while connected."),
        CloseFact(CloseCode.TOO_SLOW, Rule.RECONNECT, "Nothing was acked for 60 s with events outstanding."),
        CloseFact(
            CloseCode.SUPERSEDED, Rule.STOP, "A newer connection with the same user and client took over."
        ),
        CloseFact(
            CloseCode.SILENT, Rule.RECONNECT, "Neither message nor pong came for two heartbeat periods."
        ),
        CloseFact(CloseCode.RATE_LIMITED, Rule.RECONNECT, "The client kept sending above the rate limit."),
        CloseFact(CloseCode.AUTH_TIMEOUT, Rule.RECONNECT, "No authentication within 10 s."),
        CloseFact(CloseCode.TOKEN_INVALID, Rule.STOP, "The token is not one that this server accepts."),
        CloseFact(CloseCode.REVOKED, Rule.STOP, "The token or its user was revoked."),
        CloseFact(
            CloseCode.TOO_MANY_CONNECTIONS,
            Rule.RECONNECT_SLOWLY,
            "The address or the user has too many connections.",
        ),
        CloseFact(
            CloseCode.UNSUPPORTED_VERSION, Rule.STOP, "No offered version of the protocol is spoken here."
        ),
        CloseFact(CloseCode.FORBIDDEN, Rule.STOP, "The client may not be here at all."),
    )
}

_STOP_FROM = 4500


def rule_of(code: int) -> Rule:
    """What a client does after `code`. A code of a newer server means stop from 4500 on, else reconnect."""
    if code in CLOSES:
        return CLOSES[CloseCode(code)].rule
    return Rule.STOP if code >= _STOP_FROM else Rule.RECONNECT


class ErrorCode(StrEnum):
    """The `code` of an `error` message (PROTOCOL 6)."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_ACTION = "unknown_action"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    INVALID_FIELD = "invalid_field"
    BUSY = "busy"
    RATE_LIMITED = "rate_limited"
    TOO_LARGE = "too_large"
    BAD_ACK = "bad_ack"
    USER_MISMATCH = "user_mismatch"
    UNAVAILABLE = "unavailable"
    CORRUPT = "corrupt"
    STORAGE_FULL = "storage_full"
    QUOTA_EXCEEDED = "quota_exceeded"
    INTERNAL = "internal"


class AuthCode(StrEnum):
    """The `code` of a failed `authentication_result` (PROTOCOL 3.1)."""

    TOKEN_EXPIRED = "token_expired"  # noqa: S105  a code's name
    TOKEN_INVALID = "token_invalid"  # noqa: S105  a code's name
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  a code's name


AUTH_CLOSES: dict[AuthCode, CloseCode] = {
    AuthCode.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
    AuthCode.TOKEN_INVALID: CloseCode.TOKEN_INVALID,
    AuthCode.TOKEN_REVOKED: CloseCode.REVOKED,
}
"""The close code for each failed authentication."""

NOT_RECORDED: frozenset[str] = frozenset(
    {
        ErrorCode.UNAVAILABLE,
        ErrorCode.BUSY,
        ErrorCode.RATE_LIMITED,
        ErrorCode.CORRUPT,
        ErrorCode.STORAGE_FULL,
        ErrorCode.QUOTA_EXCEEDED,
        ErrorCode.INTERNAL,
        ErrorCode.UNAUTHENTICATED,
    }
)
"""Passing errors: a command may be sent again with the same id after them."""


def recordable(code: str) -> bool:
    """Whether an error with this code is final, so that it is kept as the answer to repeats."""
    return code not in NOT_RECORDED


def table_json() -> bytes:
    """The whole table as JSON in a fixed order, for comparison with a client's copy."""
    return msgspec.json.encode(
        {
            "closes": [
                {
                    "code": fact.code.value,
                    "name": fact.code.name.lower(),
                    "rule": fact.rule.value,
                    "when": fact.when,
                }
                for fact in CLOSES.values()
            ],
            "errors": [{"code": code.value, "recorded": recordable(code)} for code in ErrorCode],
            "authentication": [
                {"code": code.value, "close": close.value} for code, close in AUTH_CLOSES.items()
            ],
        }
    )


SENTENCES: Final[dict[str, str]] = {
    ErrorCode.BAD_MESSAGE: "the service could not read the message",
    ErrorCode.UNKNOWN_ACTION: "the service does not know this action; is it an older version?",
    ErrorCode.UNAUTHENTICATED: "the service wants a token first",
    ErrorCode.FORBIDDEN: "this token may not do that",
    ErrorCode.NOT_FOUND: "there is no such thing",
    ErrorCode.ALREADY_EXISTS: "it is there already",
    ErrorCode.INVALID_FIELD: "a field is not valid",
    ErrorCode.BUSY: "the service is busy, and nothing was done: try again",
    ErrorCode.RATE_LIMITED: "too many messages in a short time: try again later",
    ErrorCode.TOO_LARGE: "it is too large, and nothing was done",
    ErrorCode.BAD_ACK: "an ack was beyond what was sent",
    ErrorCode.USER_MISMATCH: "the token is another user's",
    ErrorCode.UNAVAILABLE: "it is unknown whether it was done: look before you try again",
    ErrorCode.CORRUPT: "data that it needs is damaged: run `huahuo doctor`",
    ErrorCode.STORAGE_FULL: "the disk of the service is nearly full, and nothing was done: try again later",
    ErrorCode.QUOTA_EXCEEDED: "this user has no room left: delete something, or get a larger quota",
    ErrorCode.INTERNAL: "the service failed; its log has the details under this number",
}
"""What each code of PROTOCOL 6.2 means to the caller."""


def in_english(code: str, message: str, details: object = "") -> str:
    """What the code means, with the details, which are English.

    An application's message stays: that of a code of its own, or one in ASCII. The service's own are Chinese.
    """
    said = message if message.isascii() or code not in SENTENCES else ""
    sentence = ": ".join(part for part in (code, said or SENTENCES.get(code, "")) if part)
    return f"{sentence} ({details})" if details else sentence
