"""What a caller gave, as a request has it. Pure.

Values that are no JSON are sent as the service writes those of its own process: times and UUIDs as texts,
bytes as base64, sets as lists, dataclasses as objects.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from huahuo.actors.domain.decision import Refused

_KEY_CHARS_MAX = 64


def listed(events: Iterable[object]) -> list[dict[str, Any]]:
    """The events of one commit, each (stream, type, fields). Raises Refused."""
    found: list[dict[str, Any]] = []
    for at, event in enumerate(events):
        if not isinstance(event, tuple | list) or len(event) != len(("stream", "type", "fields")):
            raise Refused(
                "invalid_field", f"events[{at}]: write (stream, type, fields), with {{}} for no fields"
            )
        found.append(one(*event))
    return found


def one(stream: str, type_: str, fields: object) -> dict[str, Any]:
    """One event. Raises Refused."""
    if fields is not None and not isinstance(fields, Mapping):
        raise Refused("invalid_field", f"fields of {type_}: must be a mapping of names to values")
    return {"stream": stream, "type": type_, "fields": dict(fields or {})}


def body_of(content: object) -> bytes:
    """The body of a request. Raises Refused: it cannot be written as JSON."""
    try:
        return json.dumps(content, allow_nan=False, default=msgspec.to_builtins).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("invalid_field", f"a field cannot be written as JSON: {error}") from error


def key_of(command_id: str) -> str:
    """The id of a command, as a header may have it. Raises Refused."""
    key = str(command_id)
    if (
        not 1 <= len(key) <= _KEY_CHARS_MAX
        or not key.isascii()
        or not key.isprintable()
        or key.strip() != key
    ):
        raise Refused(
            "invalid_field", f"command_id: 1 to {_KEY_CHARS_MAX} printable characters of ASCII are needed"
        )
    return key


def bearer(token: object) -> str:
    """The header of a token, without the line's end that files and shells leave behind it.

    Raises Refused, with a message that does not show it.
    """
    text = token.strip() if isinstance(token, str) else ""
    if not text or not text.isascii() or not text.isprintable():
        raise Refused("token_invalid", "the token is no text of printable ASCII")
    return f"Bearer {text}"
