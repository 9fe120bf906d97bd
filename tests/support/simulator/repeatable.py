"""What of the libraries would make two runs of one plan differ, and what stands in for it."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from anyio._backends import _asyncio as anyio_backend
from httpcore._async import http11


class _Numbered:
    """Hashed by its number: a set of these is walked in an order that does not hang on addresses."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class NumberedTask(_Numbered, asyncio.Task[Any]):
    """See `_Numbered`."""


class NumberedFuture(_Numbered, asyncio.Future[Any]):
    """See `_Numbered`."""


@contextlib.contextmanager
def ordered_scopes() -> Iterator[None]:
    """One hash for all cancel scopes, which anyio keeps in sets: they are walked as they came."""
    with patch.object(anyio_backend.CancelScope, "__hash__", lambda _scope: 0):
        yield


class _VirtualTime:
    """Stands in for the module `time`: inside a simulated loop it tells the virtual time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@contextlib.contextmanager
def virtual_idle_times() -> Iterator[None]:
    """No clock can be injected into httpx: how long a connection was idle is virtual time, too."""
    with patch.object(http11, "time", _VirtualTime()):
        yield
