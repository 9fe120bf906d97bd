"""Which effects this node runs, where nodes divide them. Pure.

A run that began here stays here until it ends, even when its effect is another node's by now. A run that was
cut short may have claimed its effect without hearing of it. Other nodes leave such an effect to this node
while this node does a part, so it goes on here. Where runs claim nothing, no other node would know that, so
only a run that is under way comes to its end here.
"""

from collections.abc import Iterable

from huahuo.actors.effects.line import Entry, Group
from huahuo.actors.effects.spec import Spec
from huahuo.actors.entities.sharing import WHOLE, Share


class Part:
    """See the module."""

    def __init__(self, *, claims: bool = True) -> None:
        """`claims`: whether runs claim their effects."""
        self._claims = claims
        self.share: Share = WHOLE
        self.begun: set[int] = set()
        """Effects that were claimed here and have not ended, where nodes divide them."""
        self._cut: set[int] = set()
        """Those of them whose last run was cut short by the service."""

    @property
    def is_whole(self) -> bool:
        """Whether no other process runs any."""
        return self.share is WHOLE

    def has(self, id_: int, spec: Spec, group: Group, entity: str) -> bool:
        """Whether this node runs the effect.

        A class with a bound of runs at a time, or what has one value of its `per`, is one part, unless it is
        `spread`.
        """
        if self.share is WHOLE or id_ in self.begun:
            return True
        if spec.at_once is None or spec.spread:
            return self.share.has(entity)
        per = f" {group[2]!r}" if isinstance(group[2], str | int) else ""
        return self.share.has(f"{spec.kind} {spec.name}{per}")

    def keeps(self, entry: Entry) -> bool:
        """As `has`, of an effect in memory."""
        return self.has(entry.id, entry.spec, entry.group, entry.entity)

    def begins(self, id_: int) -> None:
        """A run of it begins here."""
        if self._claims and self.share is not WHOLE:
            self.begun.add(id_)
            self._cut.discard(id_)

    def cuts(self, id_: int) -> None:
        """A run of it was cut short by the service."""
        if id_ in self.begun:
            self._cut.add(id_)

    def leaves(self, ids: Iterable[int]) -> None:
        """These have ended, or another node runs them."""
        self.begun.difference_update(ids)
        self._cut.difference_update(ids)

    def rests(self) -> None:
        """The node does no part for now. What waits for its next attempt is nobody's."""
        self.begun &= self._cut
