"""What is known of a plug-in's history without a running service: for time travel, audits and exports.

Texts of events and states in the language of one reader. Pure.

Events have one text for all readers (`plugins.words`). A program with one reader, such as a command in a
terminal, replaces it where it shows it; what programs read stays as it is stored.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Parted, UserId
from huahuo.actors.plugins.words import Language
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


async def _no_belongings(_log: Log, _user_id: UserId) -> AsyncIterator[tuple[str, bytes]]:
    nothing: tuple[tuple[str, bytes], ...] = ()
    for file in nothing:
        yield file


@dataclass(frozen=True, kw_only=True)
class Past:
    """See the module. All of it is optional."""

    subject_of: SubjectOf = _no_subject
    own_subject: Callable[[str], Subject | None] = lambda _stream: None
    """The subject of one stream alone, None for streams of other kinds."""
    kinds: tuple[str, ...] = ()
    """The kinds of streams that `own_subject` knows."""
    sealed_in: Callable[[StoredEvent], tuple[str, ...]] = lambda _event: ()
    """The names of the secrets that were sealed with an event. Exports show them as `[sealed]`."""
    shown: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _type, fields: fields
    """The fields of an event of some type as audits show them: each sealed secret as `[sealed]`."""
    today: Callable[[StoredEvent], StoredEvent] = lambda event: event
    """An event as today's version of its type has it. Exports and the hash chain keep the stored bytes."""
    snapshots: Mapping[str, SnapshotThen] = field(default_factory=dict)
    """By kind of stream, for `huahuo replay serve`."""
    actions: Callable[[Log], Sequence[Action]] = lambda _log: ()
    """Queries that a log alone can answer, for `huahuo replay serve`."""
    guides: tuple[Path, ...] = ()
    """Python files by which `huahuo replay check` decides recorded commands again: see docs/plugins.md."""
    entity_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields that hold the number of an entity, with its kind: {"email_id": "mailbox"}."""
    prunable: frozenset[str] = frozenset()
    """Event types of which folds need only the newest event, so that `compact` may remove the others."""
    series_of: Callable[[StoredEvent], str] = lambda _event: ""
    """Tells series of prunable events of one type, entity and stream apart. Of each the newest stays."""
    last: frozenset[str] = frozenset()
    """Event types after which their stream gets no more events, so that `compact` may mark it as ended."""

    belongings: Callable[[Log, UserId], AsyncIterator[tuple[str, bytes]]] = _no_belongings
    """What is kept of a user besides events, without secrets, as files: their names and contents."""

    worded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By event type: the fields with a text of the program, not of a user. `say` knows the texts."""
    say: Callable[[str, Language], str] = lambda text, _language: text
    """A text of such a field in this language; one that is not known stays."""

    def entity_of(self, fields: Mapping[str, Any]) -> str | None:
        """The entity that one of an object's fields names, None if none does."""
        for name, kind in self.entity_fields.items():
            if isinstance(number := fields.get(name), int):
                return f"{kind}/{number}"
        return None


def together(pasts: Sequence[Past]) -> Past:
    """The past of several plug-ins as one. The first that knows a stream or an entity answers for it."""

    async def subject_of(history: History, entity: str) -> Subject | None:
        for past in pasts:
            found = await past.subject_of(history, entity)
            if found is not None:
                return found
        return None

    def own_subject(stream: str) -> Subject | None:
        return next((found for past in pasts if (found := past.own_subject(stream)) is not None), None)

    def sealed_in(event: StoredEvent) -> tuple[str, ...]:
        return tuple(name for past in pasts for name in past.sealed_in(event))

    def shown(type_: str, fields: dict[str, Any]) -> dict[str, Any]:
        for past in pasts:
            fields = past.shown(type_, fields)
        return fields

    def today(event: StoredEvent) -> StoredEvent:
        for past in pasts:
            event = past.today(event)
        return event

    def series_of(event: StoredEvent) -> str:
        return next((name for past in pasts if (name := past.series_of(event))), "")

    async def belongings(log: Log, user_id: UserId) -> AsyncIterator[tuple[str, bytes]]:
        for past in pasts:
            async for file in past.belongings(log, user_id):
                yield file

    def say(text: str, language: Language) -> str:
        return next((said for past in pasts if (said := past.say(text, language)) != text), text)

    def actions(log: Log) -> Sequence[Action]:
        return tuple(action for past in pasts for action in past.actions(log))

    return Past(
        subject_of=subject_of,
        own_subject=own_subject,
        kinds=tuple(dict.fromkeys(kind for past in pasts for kind in past.kinds)),
        sealed_in=sealed_in,
        shown=shown,
        today=today,
        snapshots={kind: of for past in reversed(pasts) for kind, of in past.snapshots.items()},
        actions=actions,
        guides=tuple(guide for past in pasts for guide in past.guides),
        entity_fields={name: kind for past in pasts for name, kind in past.entity_fields.items()},
        prunable=frozenset().union(*(past.prunable for past in pasts)),
        series_of=series_of,
        belongings=belongings,
        worded={type_: fields for past in pasts for type_, fields in past.worded.items()},
        say=say,
        last=frozenset().union(*(past.last for past in pasts)),
    )


class Reader:
    """Texts of events and states in the language of one reader.

    `language` None: each text as it is stored.
    """

    __slots__ = ("_language", "_names", "_past")

    def __init__(self, past: Past, language: Language | None) -> None:
        self._past = past
        self._language = language
        self._names = frozenset[str]().union(*past.worded.values())

    def fields(self, type_: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of an event of this type."""
        worded = self._past.worded.get(type_, frozenset())
        said = {name: self.leaf(name, fields[name]) for name in worded if name in fields}
        return fields | said if said else fields

    def event(self, event: StoredEvent) -> StoredEvent:
        """The event, with its body said again."""
        if self._language is None or event.type not in self._past.worded:
            return event
        fields: dict[str, Any] = msgspec.json.decode(event.body)
        return replace(event, body=msgspec.json.encode(self.fields(event.type, fields)))

    def leaf(self, name: str, value: Any) -> Any:
        """The value of a field with this name, in a state too."""
        if self._language is None or name not in self._names or not isinstance(value, str):
            return value
        return self._past.say(value, self._language)

    def state(self, state: Any) -> Any:
        """A state with all that is in it."""
        match state:
            case dict():
                return {name: self.leaf(name, self.state(value)) for name, value in state.items()}
            case list():
                return [self.state(one) for one in state]
            case _:
                return state


AS_STORED: Final = Reader(Past(), None)
