"""Places at something that has room for a few, such as connections to one mail server, over all nodes.

The plug-in says how a place is taken (`lend`) and asks for places (`place`). A service alone gives its own.
Of several nodes one gives places, and the others ask it (`over_nodes`).
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

type Place = AbstractAsyncContextManager[None]
type Take = Callable[[str, int, bool], Place]
"""Takes one of the places with this key; the number says how many there are. True: it is in use already, so
it counts at once, also over the bound."""


class OverNodes(Protocol):
    """The places of all nodes."""

    def borrowed(self, key: str, places_max: int) -> Place:
        """A place of those with this key. Entering waits until there is one."""
        ...


class Lending:
    """See the module."""

    def __init__(self) -> None:
        self.over_nodes: OverNodes | None = None
        self._take: Take | None = None

    def lend(self, take: Take) -> None:
        """Say how a place of this process is taken.

        Raises:
            ValueError: another plug-in did.
        """
        if self._take is not None:
            raise ValueError("two plug-ins lend places")
        self._take = take

    def take(self, key: str, places_max: int, in_use: bool) -> Place:
        """A place of this process."""
        assert self._take is not None, "a plug-in has said how"
        return self._take(key, places_max, in_use)

    @property
    def lends(self) -> bool:
        """Whether a plug-in has places."""
        return self._take is not None

    def place(self, key: str, places_max: int) -> Place:
        """One of the `places_max` places with this key on all nodes together."""
        if self.over_nodes is None:
            return self.take(key, places_max, False)
        return self.over_nodes.borrowed(key, places_max)
