"""The open effects that are in memory, by number and by entity. Pure."""

from collections.abc import Iterable

from huahuo.actors.effects.line import Entry


class Known(dict[int, Entry]):
    """Entries by the numbers of their effects. Changed by `keep` and `drop` only."""

    def __init__(self) -> None:
        super().__init__()
        self._of_entity: dict[str, int | set[int]] = {}
        """The effects of an entity. Most have one, for which a set would take more than the rest of it."""

    def keep(self, entry: Entry) -> None:
        """Add an entry."""
        self[entry.id] = entry
        others = self._of_entity.setdefault(entry.entity, entry.id)
        if isinstance(others, set):
            others.add(entry.id)
        elif others != entry.id:
            self._of_entity[entry.entity] = {others, entry.id}

    def drop(self, entry: Entry) -> None:
        """Remove an entry. One that is not there changes nothing."""
        if self.pop(entry.id, None) is None:
            return
        others = self._of_entity[entry.entity]
        if isinstance(others, set):
            others.discard(entry.id)
            if others:
                return
        del self._of_entity[entry.entity]

    def of(self, entity: str, name: str | None) -> Iterable[int]:
        """The numbers of an entity's effects: those of this name, or all."""
        found = self._of_entity.get(entity, set())
        ids = (found,) if isinstance(found, int) else tuple(found)
        return [id_ for id_ in ids if name in (None, self[id_].spec.name)]
