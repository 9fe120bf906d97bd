"""What of the libraries would make two runs of one plan differ, and what stands in for it."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from anyio._backends import _asyncio as anyio_backend
from httpcore._async import http11
from simloop import _loop as simloop_loop


class _Numbered:
    """Hashed by its number: a set of these is walked in an order that does not hang on addresses.

    The number is there before the constructor runs: asyncio keeps each task in a set from then on, and tasks
    that all had one hash would be looked for one after the other.
    """

    number: int

    def __hash__(self) -> int:
        return self.number


class NumberedTask(_Numbered, asyncio.Task[Any]):
    """See `_Numbered`."""

    def __init__(self, coro: Any, *, loop: Any, name: str | None, context: Any, number: int) -> None:
        self.number = number
        super().__init__(coro, loop=loop, name=name, context=context)


class NumberedFuture(_Numbered, asyncio.Future[Any]):
    """See `_Numbered`."""

    def __init__(self, *, loop: Any, number: int) -> None:
        self.number = number
        super().__init__(loop=loop)


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
    """No clock can be injected into httpcore: how long a connection was idle is virtual time, too."""
    with patch.object(http11, "time", _VirtualTime()):
        yield


class _Uncollected:
    """Stands in for the module `gc` in simloop, which collects after each step from outside."""

    def collect(self) -> int:
        return 0


@contextlib.contextmanager
def one_collection() -> Iterator[None]:
    """A run collects its garbage once, at its end: that took a fifth of it."""
    with patch.object(simloop_loop, "gc", _Uncollected()):
        yield
