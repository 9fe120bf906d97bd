"""Which effects this node runs, where nodes divide them. Pure.

What began here stays here until it ends, also when it would be another node's by now.
"""

from collections.abc import Iterable

from huahuo.actors.effects.line import Entry, Group
from huahuo.actors.effects.spec import Spec
from huahuo.actors.entities.sharing import WHOLE, Share


class Part:
    """See the module."""

    def __init__(self) -> None:
        self.share: Share = WHOLE
        self.begun: set[int] = set()
        """Effects that began here and have not ended, where nodes divide them."""

    @property
    def is_whole(self) -> bool:
        """Whether no other process runs any."""
        return self.share is WHOLE

    def has(self, id_: int, spec: Spec, group: Group, entity: str) -> bool:
        """Whether this node runs the effect.

        If its class has a bound of runs at a time, all of it, or of one value of its `per`, is one part.
        """
        if self.share is WHOLE or id_ in self.begun:
            return True
        if spec.at_once is None:
            return self.share.has(entity)
        per = f" {group[2]!r}" if isinstance(group[2], str | int) else ""
        return self.share.has(f"{spec.kind} {spec.name}{per}")

    def keeps(self, entry: Entry) -> bool:
        """As `has`, of an effect in memory."""
        return self.has(entry.id, entry.spec, entry.group, entry.entity)

    def begins(self, id_: int) -> None:
        """A run of it begins here."""
        if self.share is not WHOLE:
            self.begun.add(id_)

    def leaves(self, ids: Iterable[int]) -> None:
        """These have ended, or another node runs them."""
        self.begun.difference_update(ids)
