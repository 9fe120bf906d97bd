"""Rows of the audit as they are shown. Pure. Of a sealed secret only the name is shown."""

from typing import Any

import msgspec

from huahuo.eventstore.audit.index import Row
from huahuo.eventstore.audit.text import SEALED

_WIRE = ("position", "stream", "seq", "type", "timestamp", "principal", "command_id", "cause")


def wire_row(row: Row) -> dict[str, Any]:
    """The fields of PROTOCOL 9."""
    return {name: getattr(row, name) for name in _WIRE} | {"data": data_of(row)}


def plain_row(row: Row) -> dict[str, Any]:
    """All fields of a row, for the command line."""
    fields = msgspec.structs.asdict(row)
    return fields | {"data": data_of(row)}


def data_of(row: Row) -> dict[str, Any]:
    """The event's fields. Each sealed secret is a field with the value `[sealed]`."""
    data: dict[str, Any] = msgspec.json.decode(bytes(row.data))
    match row.type, data:
        case "mailbox_added", {"secrets": [*names]}:
            data["secrets"] = dict.fromkeys(names, SEALED)
        case "secret_stored", {"name": str()}:
            data["value"] = SEALED
        case _:
            pass
    return data
