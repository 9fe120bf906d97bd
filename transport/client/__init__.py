"""The Python client: one connection that resumes by itself, and streams to iterate over.

Exports: `Client` (`client`), the values that it hands out (`model`), stores for cursors (`cursors`), `Job`
(`subscription`). All other modules are internal; the session is pure.
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
    **dict.fromkeys(("MemoryCursors", "FileCursors"), "cursors"),
    "Client": "client",
    "Job": "subscription",
}
"""The modules of names that are not in `model`."""


if not TYPE_CHECKING:  # type checkers use the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES.get(name, 'model')}")
        value = globals()[name] = getattr(home, name)
        return value
