"""What is known of a plug-in's history without a running service: for time travel, audits and exports."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Parted
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.history.history import History
from huahuo.replay.history.subject import Subject

type SubjectOf = Callable[[History, str], Awaitable[Subject | None]]
"""The subject of an entity such as `mailbox/17`, None if it is of no kind of this plug-in.

Raises:
    LookupError: the kind is known, but this history has no such entity.
"""

type SnapshotThen = Callable[[Log, str], Awaitable[tuple[int, bytes | Parted]]]
"""The snapshot of a stream from its events alone, for a log that no entity serves."""


async def _no_subject(_history: History, _entity: str) -> Subject | None:
    return None


def _no_own_subject(_stream: str) -> Subject | None:
    return None


def _nothing_sealed(_event: StoredEvent) -> tuple[str, ...]:
    return ()


def _no_actions(_log: Log) -> Sequence[Action]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Past:
    """See the module. All of it is optional."""

    subject_of: SubjectOf = _no_subject
    own_subject: Callable[[str], Subject | None] = _no_own_subject
    """The subject of one stream alone, None for streams of other kinds."""
    kinds: tuple[str, ...] = ()
    """The kinds of streams that `own_subject` knows."""
    sealed_in: Callable[[StoredEvent], tuple[str, ...]] = _nothing_sealed
    """The names of the secrets that were sealed with an event. Exports show them as `[sealed]`."""
    snapshots: Mapping[str, SnapshotThen] = field(default_factory=dict)
    """By kind of stream, for `huahuo replay serve`."""
    actions: Callable[[Log], Sequence[Action]] = _no_actions
    """Queries that a log alone can answer, for `huahuo replay serve`."""
    guide: Path | None = None
    """A Python file by which `huahuo replay check` decides again what is recorded: docs/plugins.md."""
    entity_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields that hold the number of an entity, with its kind: {"email_id": "mailbox"}."""
    prunable: frozenset[str] = frozenset()
    """Event types of which folds need only the newest event, so that `compact` may remove the others."""
