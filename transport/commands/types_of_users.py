"""The types of events that users have published: the log keeps each in memory and on the disk for good. Pure.

Counted since the start of the service. Administrators, the application and its entities are not bounded.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

TYPES_PER_USER: Final = 1_000
TYPES_MAX: Final = 10_000


class TypesOfUsers:
    """See the module. `types_per_user`: how many a user may be the first to publish."""

    def __init__(self, types_per_user: int = TYPES_PER_USER, types_max: int = TYPES_MAX) -> None:
        self._types_per_user = types_per_user
        self._types_max = types_max
        self._types: set[str] = set()
        self._by_user: Counter[str] = Counter()

    def admit(self, principal: str, types: Iterable[str]) -> bool:
        """Whether a user may publish events of these types. New ones count as its own from now on."""
        new = {type_ for type_ in types if type_ not in self._types}
        if not new:
            return True
        mine = self._by_user[principal] + len(new)
        if mine > self._types_per_user or len(self._types) + len(new) > self._types_max:
            return False
        self._types |= new
        self._by_user[principal] = mine
        return True

    def new_of(self, types: Iterable[str]) -> frozenset[str]:
        """Those of `types` that would count as new."""
        return frozenset(types) - self._types

    def give_back(self, principal: str, types: Iterable[str]) -> None:
        """The publication that brought `types` did not succeed."""
        back = self._types.intersection(types)
        self._types -= back
        self._by_user[principal] -= len(back)
        if self._by_user[principal] <= 0:
            del self._by_user[principal]
