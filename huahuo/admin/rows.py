"""Rows of the audit as they are shown. Pure. Of a sealed secret only the name is shown."""

from collections.abc import Callable
from typing import Any

import msgspec

from huahuo.eventstore.audit.index import Row

type Shown = Callable[[str, dict[str, Any]], dict[str, Any]]
"""See `huahuo.actors.plugins.past.Past.shown`."""

_WIRE = ("position", "stream", "seq", "type", "timestamp", "principal", "command_id", "cause")


def wire_row(row: Row, shown: Shown) -> dict[str, Any]:
    """The fields of PROTOCOL 9."""
    return {name: getattr(row, name) for name in _WIRE} | {"data": data_of(row, shown)}


def plain_row(row: Row, shown: Shown) -> dict[str, Any]:
    """All fields of a row, for the command line."""
    fields = msgspec.structs.asdict(row)
    return fields | {"data": data_of(row, shown)}


def data_of(row: Row, shown: Shown) -> dict[str, Any]:
    """The event's fields as they are shown."""
    fields: dict[str, Any] = msgspec.json.decode(bytes(row.data))
    return shown(row.type, fields)
