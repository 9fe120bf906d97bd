"""An application's entities as time travel and audits know them, without a running service. Pure."""

from typing import Any, Final

import msgspec

from huahuo.actors.domain.alike import as_builtins
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.fold import EntityFold, Held
from huahuo.actors.domain.names import key_of
from huahuo.actors.domain.storable import holds_sets
from huahuo.actors.domain.work_past import KINDS, work_subject
from huahuo.actors.plugins.past import Past
from huahuo.actors.timers.timer import FIRED, series_of
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.history.history import History
from huahuo.replay.history.keyframes import state_at
from huahuo.replay.history.subject import Part, Subject


class EntitySubject:
    """`order/1`: its state, field by field. Sets are sorted, so that equal ones are shown alike."""

    rising = frozenset[str]()

    def __init__(self, stream: str, fold: EntityFold, *, sets: bool) -> None:
        """`sets`: whether the state may hold any."""
        self.entity = self.stream = stream
        self.parts = (Part(stream, fold),)
        self._sets = sets

    def concerns(self, event: StoredEvent) -> bool:
        """See `Subject`."""
        del event
        return True

    def show(self, states: Any) -> dict[str, Any]:
        """See `Subject`."""
        held: Held = states[0]
        state = held.state
        shown: dict[str, Any] = (
            as_builtins(state) if self._sets else msgspec.to_builtins(state, str_keys=True)
        )
        return shown

    def glimpse(self, states: Any, event: StoredEvent) -> dict[str, Any]:
        """See `Subject`."""
        del event
        return self.show(states)


_MESSAGE: Final = frozenset({"message"})
_WORDED: Final = dict.fromkeys(("job_progress", "job_message", "job_ended"), _MESSAGE)
"""What those who watch a job are told. Jobs of plug-ins say a text of their catalogue."""


def past_of(catalog: Catalog) -> Past:
    """What is known of the history of these entities."""
    folds = {kind: EntityFold(entity) for kind, entity in catalog.by_kind.items()}
    sets = {kind for kind, entity in catalog.by_kind.items() if holds_sets(entity.state)}

    def own_subject(stream: str) -> Subject | None:
        kind, _, rest = stream.partition("/")
        fold = folds.get(kind)
        if kind in KINDS:
            return work_subject(stream)
        if fold is None or key_of(rest, fold.entity.key) is None:
            return None
        return EntitySubject(stream, fold, sets=kind in sets)

    async def subject_of(history: History, entity: str) -> Subject | None:
        subject = own_subject(entity)
        if subject is not None and not history.head(entity).seq:
            raise LookupError(f"nothing ever happened to {entity}")
        return subject

    def today(event: StoredEvent) -> StoredEvent:
        fold = folds.get(event.stream.partition("/")[0])
        return event if fold is None else fold.current(event)

    async def snapshot(log: Log, stream: str) -> tuple[int, bytes]:
        seq, held = await state_at(log, stream, folds[stream.partition("/")[0]])
        return seq, msgspec.json.encode(held.state)

    return Past(
        subject_of=subject_of,
        own_subject=own_subject,
        kinds=(*folds, *KINDS),
        today=today,
        snapshots=dict.fromkeys(folds, snapshot),
        entity_fields={f"{kind}_id": kind for kind in folds},
        prunable=catalog.prunable_types | {FIRED},
        series_of=series_of,
        worded=_WORDED,
    )
