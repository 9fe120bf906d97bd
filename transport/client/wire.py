"""Messages on the Python client's socket: decoding by the table of kinds, encoding. Pure."""

from typing import Any, Union

import msgspec

from huahuo.transport.protocol.kinds import KINDS, NAMES, Kind

_known: msgspec.json.Decoder[Kind] = msgspec.json.Decoder(Union[KINDS])  # noqa: UP007  made from the table
_object = msgspec.json.Decoder(dict[str, Any])


def parse(raw: str | bytes) -> Kind | dict[str, Any]:
    """A message of a known kind, or else the JSON object (a reply, or a kind of a newer server).

    Raises:
        msgspec.DecodeError: not a JSON object, or a known kind with a field of the wrong type.
    """
    try:
        return _known.decode(raw)
    except msgspec.ValidationError:
        message = _object.decode(raw)
        if message.get("type") in NAMES:
            raise
        return message


def encode(message: dict[str, Any]) -> str:
    """One message to the server.

    Raises:
        TypeError: a field holds a value that JSON cannot.
    """
    return msgspec.json.encode(message).decode()
