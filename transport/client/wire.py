"""Messages on the Python client's socket: decoding by the table of kinds, encoding. Pure."""

import json
from typing import Any, Final, Union

import msgspec

from huahuo.transport.protocol.kinds import KINDS, NAMES, Kind

_DIGITS_MAX: Final = 4_000
"""Python reads no longer integer."""
_known: msgspec.json.Decoder[Kind] = msgspec.json.Decoder(Union[KINDS])  # noqa: UP007  made from the table
_object = msgspec.json.Decoder(dict[str, Any])
_loose = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < _DIGITS_MAX else float(digits)
)
"""Reads what a log may hold and `msgspec` does not: numbers that are infinite as a double."""


def parse(raw: str | bytes) -> Kind | dict[str, Any]:
    """A message of a known kind, or else the JSON object (a reply, or a kind of a newer server).

    Raises:
        msgspec.DecodeError: not a JSON object, or a known kind with a field of the wrong type.
    """
    try:
        return _known.decode(raw)
    except msgspec.ValidationError:
        message = _object_of(raw)
        if message.get("type") in NAMES:
            known: Kind = msgspec.convert(message, Union[KINDS])  # noqa: UP007  as above
            return known
        return message


def _object_of(raw: str | bytes) -> dict[str, Any]:
    try:
        return _object.decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(_loose.decode(raw if isinstance(raw, str) else raw.decode()), dict[str, Any])


def encode(message: dict[str, Any]) -> str:
    """One message to the server.

    Raises:
        TypeError: a field holds a value that JSON cannot.
    """
    return msgspec.json.encode(message).decode()
