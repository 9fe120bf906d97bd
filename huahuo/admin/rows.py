"""Rows of the audit as they are shown. Pure. Of a sealed secret only the name is shown."""

import contextlib
from typing import Any

import msgspec

from huahuo.actors.plugins.past import Past
from huahuo.eventstore.audit.tables import Row
from huahuo.eventstore.model import StoredEvent

_WIRE = ("position", "stream", "seq", "type", "timestamp", "principal", "command_id", "cause")


def wire_row(row: Row, past: Past) -> dict[str, Any]:
    """The fields of PROTOCOL 9."""
    return {name: getattr(row, name) for name in _WIRE} | {"data": data_of(row, past)}


def plain_row(row: Row, past: Past) -> dict[str, Any]:
    """All fields of a row, for the command line. `version` is that of the stored event."""
    fields = msgspec.structs.asdict(row)
    return fields | {"data": data_of(row, past)}


def data_of(row: Row, past: Past) -> dict[str, Any]:
    """The event's fields as today's version of its type has them; as stored, if the upcast fails."""
    body = bytes(row.data)
    event = StoredEvent(
        row.position, row.stream, row.seq, row.type, body, row.version, 0, row.entity, row.principal,
        row.command_id, row.cause, row.build, b"",
    )  # fmt: skip
    with contextlib.suppress(Exception):  # an application's code; `replay check` says what is wrong
        body = past.today(event).body
    fields: dict[str, Any] = msgspec.json.decode(body)
    return past.shown(row.type, fields)
