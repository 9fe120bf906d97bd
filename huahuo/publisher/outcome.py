"""What an answer of the service means for a call that may be sent again. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_WHY_CHARS_MAX: Final = 300
_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""After these the same command id may be sent again (PROTOCOL 6), or a proxy spoke and not the service."""


@dataclass(frozen=True, slots=True)
class Done:
    """It took effect, now or before. `said` is the reply."""

    said: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refuse:
    """It had no effect and never will."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Again:
    """Nobody knows yet. `after_s`: what the service asks to wait; `why` is for people.

    `was_sent`: some of the request may have reached somebody.
    """

    why: str
    after_s: float = 0.0
    was_sent: bool = True


@dataclass(frozen=True, slots=True)
class NewToken:
    """The token has ended: another one may do."""

    refuse: Refuse


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Done | Refuse | Again | NewToken:
    """The meaning of an answer."""
    said = _object(body)
    if status == HTTPStatus.OK and said is not None:
        return Done(said)
    if status in _AGAIN:
        why = _why(said, headers, body)
        return Again(f"the service answered {status}{why}", _seconds(headers.get("retry-after", "")))
    if said is None or not isinstance(said.get("code"), str):
        return Refuse("not_understood", f"answered {status} by something that is no huahuo service")
    refuse = Refuse(said["code"], str(said.get("detail", "")))
    return NewToken(refuse) if refuse.code == "token_expired" else refuse


def wait_s(attempt: int, chance: float) -> float:
    """How long to wait before an attempt (the first one again is 1). `chance`: in [0, 1)."""
    return min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempt, 10)) * chance


def _why(said: Mapping[str, Any] | None, headers: Mapping[str, str], body: bytes) -> str:
    """The reason in an answer: of the service itself, or of a node that joins, which has text only."""
    if said is not None:
        told = str(said.get("detail", ""))
    elif headers.get("content-type", "").startswith("text/plain"):
        told = body[: 4 * _WHY_CHARS_MAX].decode("utf-8", "replace").strip()
    else:
        told = ""
    return f": {told[:_WHY_CHARS_MAX]}" if told.isprintable() and told else ""


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _seconds(text: str) -> float:
    return min(_LONGEST_S, float(text)) if text.isdecimal() else 0.0
