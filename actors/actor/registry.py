"""pykka's ActorRegistry with a table instead of a list, so that 100,000 actors can come and go.

Stock pykka searches a list: at 100,000 actors, one unregistration takes milliseconds, and stopping all actors
is quadratic. This module uses the private names `_actor_refs` and `_actor_refs_lock` of pykka 4.5.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, cast

from pykka import ActorRef, ActorRegistry

from huahuo.actors.actor.refs import LoopRef, named

_log = logging.getLogger("pykka")


class RefTable:
    """Refs in order of registration, with the list methods that ActorRegistry uses."""

    def __init__(self, refs: Iterable[ActorRef[Any]] = ()) -> None:
        self._refs: dict[ActorRef[Any], None] = {}
        for ref in refs:
            self.append(ref)

    def append(self, ref: ActorRef[Any]) -> None:
        """Add a ref as the newest."""
        self._refs[ref] = None
        if not isinstance(ref, LoopRef):  # a LoopRef adds itself to `named` when its URN is made
            named[ref.actor_urn] = ref

    def remove(self, ref: ActorRef[Any]) -> None:
        """Forget a ref that is present."""
        del self._refs[ref]

    def by_urn(self, urn: str) -> ActorRef[Any] | None:
        """The ref with this URN, if it is here."""
        ref = named.get(urn)
        return ref if ref in self._refs else None

    def __contains__(self, ref: ActorRef[Any]) -> bool:
        return ref in self._refs

    def __iter__(self) -> Iterator[ActorRef[Any]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, part: slice) -> list[ActorRef[Any]]:
        return list(self._refs)[part]


def install() -> None:
    """Replace the registry's list by a table, once in a process. Registered refs are kept."""
    with ActorRegistry._actor_refs_lock:  # noqa: SLF001
        if isinstance(cast("object", ActorRegistry._actor_refs), RefTable):  # noqa: SLF001
            return
        table = RefTable(ActorRegistry._actor_refs)  # noqa: SLF001
        ActorRegistry._actor_refs = cast("list[ActorRef[Any]]", table)  # noqa: SLF001

    def get_by_urn(_cls: type[ActorRegistry], actor_urn: str) -> ActorRef[Any] | None:
        return table.by_urn(actor_urn)

    ActorRegistry.get_by_urn = classmethod(get_by_urn)  # type: ignore[method-assign,assignment]


def register(ref: ActorRef[Any]) -> None:
    """As `ActorRegistry.register`, without the cost of its debug log line."""
    with ActorRegistry._actor_refs_lock:  # noqa: SLF001
        ActorRegistry._actor_refs.append(ref)  # noqa: SLF001
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("Registered %s", ref)


def unregister(ref: ActorRef[Any]) -> None:
    """As `ActorRegistry.unregister`. A ref that is not registered is no error."""
    with ActorRegistry._actor_refs_lock:  # noqa: SLF001
        found = ref in ActorRegistry._actor_refs  # noqa: SLF001
        if found:
            ActorRegistry._actor_refs.remove(ref)  # noqa: SLF001
    if found and _log.isEnabledFor(logging.DEBUG):
        _log.debug("Unregistered %s", ref)
