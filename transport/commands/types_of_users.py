"""The types of events that users have published: the log keeps each in memory and on the disk for good. Pure.

Counted since the start of the service; types that stand in the log are nobody's. Administrators, the
application and its entities are not bounded.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

TYPES_PER_USER: Final = 1_000
TYPES_MAX: Final = 10_000


class TypesOfUsers:
    """See the module. `types_per_user`: how many a user may be the first to publish.

    `types_max`: of all users together. Beyond it, each user still has an even share of it. `is_known`:
    whether a type stands in the log.
    """

    def __init__(
        self,
        is_known: Callable[[str], bool] = lambda _type: False,
        types_per_user: int = TYPES_PER_USER,
        types_max: int = TYPES_MAX,
    ) -> None:
        self._is_known = is_known
        self._types_per_user = types_per_user
        self._types_max = types_max
        self._types: set[str] = set()
        self._by_user: Counter[str] = Counter()

    def admit(self, principal: str, types: Iterable[str]) -> bool:
        """Whether a user may publish events of these types. New ones count as its own from now on."""
        new = self.new_of(types)
        if not new:
            return True
        mine = self._by_user[principal] + len(new)
        share = self._types_max // (len(self._by_user) + (principal not in self._by_user))
        if mine > self._types_per_user or (len(self._types | new) > self._types_max and mine > share):
            return False
        self._types |= new
        self._by_user[principal] = mine
        return True

    def new_of(self, types: Iterable[str]) -> frozenset[str]:
        """Those of `types` that would count as new."""
        return frozenset(one for one in types if one not in self._types and not self._is_known(one))

    def give_back(self, principal: str, types: Iterable[str]) -> None:
        """The publication that brought `types` did not succeed."""
        back = self._types.intersection(types)
        self._types -= back
        self._by_user[principal] -= len(back)
        if self._by_user[principal] <= 0:
            del self._by_user[principal]
