"""Rows of the audit as they are shown. Pure: what was sealed says so, by the name of the secret."""

from typing import Any

import msgspec

from huahuo.eventstore.audit.index import Row
from huahuo.eventstore.audit.text import SEALED

_WIRE = ("position", "stream", "seq", "type", "timestamp", "principal", "command_id", "cause")


def wire_row(row: Row) -> dict[str, Any]:
    """The fields of PROTOCOL 9."""
    return {name: getattr(row, name) for name in _WIRE} | {"data": data_of(row)}


def plain_row(row: Row) -> dict[str, Any]:
    """All that is known, for the command line."""
    fields = msgspec.structs.asdict(row)
    return fields | {"data": data_of(row)}


def data_of(row: Row) -> dict[str, Any]:
    """The event's fields; the names of its sealed secrets become fields that say `[sealed]`."""
    data: dict[str, Any] = msgspec.json.decode(bytes(row.data))
    match row.type, data:
        case "mailbox_added", {"secrets": [*names]}:
            data["secrets"] = dict.fromkeys(names, SEALED)
        case "secret_stored", {"name": str()}:
            data["value"] = SEALED
        case _:
            pass
    return data
