"""Texts of events and states in the language of one reader. Pure.

Events have one text for all readers (`plugins.words`). A program with one reader, such as a command in a
terminal, replaces it where it shows it; what programs read stays as it is stored.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.words import Language
from huahuo.eventstore.model import StoredEvent


class Reader:
    """See the module. `language` None: each text as it is stored."""

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
