"""The Python client: one connection that resumes by itself, and streams to iterate over.

Exports: `Client` (`client`), the values that it hands out (`model`), stores for cursors (`cursors`), `Job`
(`job`). All other modules are internal; the session is pure.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huahuo.transport.client.client import Client
    from huahuo.transport.client.cursors import FileCursors, MemoryCursors
    from huahuo.transport.client.model import (
        ClientError,
        ClientStopped,
        Cursor,
        Event,
        Live,
        Offline,
        Online,
        Outcome,
        Skipped,
        Snapshot,
        Status,
        StreamDenied,
    )
    from huahuo.transport.client.subscription import Job

__all__ = [
    "Client",
    "ClientError",
    "ClientStopped",
    "Cursor",
    "Event",
    "FileCursors",
    "Job",
    "Live",
    "MemoryCursors",
    "Offline",
    "Online",
    "Outcome",
    "Skipped",
    "Snapshot",
    "Status",
    "StreamDenied",
]

_HOMES = {
    "Client": "huahuo.transport.client.client",
    "MemoryCursors": "huahuo.transport.client.cursors",
    "FileCursors": "huahuo.transport.client.cursors",
    "ClientError": "huahuo.transport.client.model",
    "ClientStopped": "huahuo.transport.client.model",
    "Cursor": "huahuo.transport.client.model",
    "Event": "huahuo.transport.client.model",
    "Job": "huahuo.transport.client.subscription",
    "Live": "huahuo.transport.client.model",
    "Offline": "huahuo.transport.client.model",
    "Online": "huahuo.transport.client.model",
    "Outcome": "huahuo.transport.client.model",
    "Skipped": "huahuo.transport.client.model",
    "Snapshot": "huahuo.transport.client.model",
    "Status": "huahuo.transport.client.model",
    "StreamDenied": "huahuo.transport.client.model",
}


if not TYPE_CHECKING:  # type checkers use the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name on first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value
