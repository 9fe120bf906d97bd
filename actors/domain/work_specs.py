"""An application's effects, timers and followers as the engine's runners know them.

`FiredTogether` decides timers that are due together as one append. `Following` checks what an application
declares:

    @app.follower("orders-to-crm", kinds=["order"])
    async def to_crm(events: Sequence[Followed]) -> None: ...
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Literal

import msgspec

from huahuo.actors.domain import jobs
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.entity import Entity, must_name
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.storable import KIND, RESERVED_KINDS, TAKEN_TABLES, key_of
from huahuo.actors.domain.structs import (
    DefinitionError,
    place_of,
    place_of_user,
    traits,
)
from huahuo.actors.domain.writing import Sent
from huahuo.actors.effects.queue import Spec
from huahuo.actors.entities.directory import Directory
from huahuo.actors.followers.spec import BATCH_MAX, Followed, OwnCursor, ReadEvent
from huahuo.actors.followers.spec import Spec as FollowerSpec
from huahuo.actors.plugins.calls import SERVICE
from huahuo.actors.timers.timer import Timer
from huahuo.eventstore.model import StoredEvent


def specs_of(catalog: Catalog) -> Mapping[tuple[str, str], Spec]:
    """The effects of all entities, by kind and stored name."""
    specs: dict[tuple[str, str], Spec] = {}
    for kind, entity in catalog.by_kind.items():
        for cls, handler in entity.effects.items():
            rules = entity.rules[cls]
            name = traits(cls).name
            specs[kind, name] = Spec(
                kind=kind,
                name=name,
                handler=handler,
                read=msgspec.json.Decoder(cls).decode,
                key=partial(key_of, of=entity.key),
                retries=rules.retries,
                backoff_s=rules.backoff_s,
                at_once=rules.at_once,
                per=rules.per,
            )
    return specs


type TimerCommands = dict[str, tuple[Entity[Any], msgspec.json.Decoder[Any]]]
"""What timers may send, by kind and stored name."""


class FiredTogether:
    """Timers whose entities decide in the same append. See `huahuo.actors.timers.clockwork.Group`."""

    def __init__(self, directory: Directory, commands: TimerCommands) -> None:
        self._directory = directory
        self._commands = commands
        self._together = directory.together(jobs.KIND, SERVICE)
        self.finish = self._together.finish
        self.submit = self._together.submit
        self.give_up = self._together.give_up

        self._add = self._together.add
        self.full = False
        """See `Group`."""

    def add(self, timer: Timer, command_id: str) -> bool:
        """See `Group`."""
        entity = timer.entity
        inbox = self._directory.resident_inbox(entity)
        if inbox is None:
            return False
        try:
            command = self._commands[f"{entity[: entity.index('/')]}/{timer.command}"][1].decode(timer.fields)
        except (KeyError, msgspec.MsgspecError):  # KeyError: another node's newer code set it
            return False  # `fire` says it
        added = self._add(inbox, Sent(command, None, command_id, None, None, timer), command_id)
        self.full = self._together.full
        return added


PUBLIC: Final = frozenset({"user", "group", "system"})
"""Kinds of streams of the service that may be followed."""
INTERNAL: Final = frozenset({"log", "roster", "auth", "audit", "effect", "timer", "ds", "projection"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_RUN_PLACE: Final = 2


class Following:
    """The followers of one application."""

    def __init__(self) -> None:
        self.by_name: dict[str, FollowerSpec] = {}
        self._free: dict[str, frozenset[str]] = {}
        """By name: kinds that are said to have no entity."""

    def follower[F: Callable[..., Awaitable[None]]](
        self,
        name: str,
        /,
        *,
        kinds: Iterable[str | Entity[Any]] = (),
        without_entity: Iterable[str] = (),
        batch: int = 100,
        retries: int = 10,
        backoff_s: float = 1.0,
        first: Literal["start", "head"] = "start",
        cursor: OwnCursor | None = None,
    ) -> Callable[[F], F]:
        """Declare one. Raises DefinitionError: a name or a value is not allowed, or the name is taken."""
        must_name(name, "app.follower", '"orders-to-crm", kinds=["order"]')
        named = frozenset(_kinds(name, "kinds", kinds))
        free = frozenset(_kinds(name, "without_entity", without_entity))

        def register(handler: F) -> F:
            where = f"{place_of(handler)}: follower({name!r})"
            why = self._wrong(name, handler, named, free, batch, retries, backoff_s, first)
            if why is not None:
                raise DefinitionError(f"{where}: {why}")
            self.by_name[name] = FollowerSpec(
                name=name,
                kinds=named | free,
                handler=handler,
                wants_run=_positional(handler) >= _RUN_PLACE,
                cursor=cursor,
                batch=batch,
                retries=retries,
                backoff_s=backoff_s,
                first=first,
                place=place_of(handler),
            )
            self._free[name] = free
            return handler

        return register

    def check(self, known: Collection[str], tables: Collection[str]) -> None:
        """See that all kinds are known (`known`: of entities and plug-ins), and no name is that of a table.

        Raises:
            ValueError: one is not. The text says which follower, and what to write.
        """
        known = {*known, *PUBLIC} - INTERNAL
        for name, spec in self.by_name.items():
            where = f"{spec.place}: follower({name!r})"
            for kind in sorted(spec.kinds - self._free[name]):
                if kind not in known:
                    has = ", ".join(sorted(known))
                    raise ValueError(
                        f"{where}: no entity is of the kind {kind!r} (there are {has}): correct it, or write"
                        f" without_entity=[{kind!r}] for streams that you publish to"
                    )
            for kind in sorted(self._free[name]):
                if kind in known:
                    raise ValueError(f"{where}: the kind {kind!r} has an entity: write it under kinds=")
            if name in tables:
                raise ValueError(f"{where}: there are rows of a table of this name: choose another one")

    def _wrong(
        self,
        name: str,
        handler: Callable[..., Any],
        kinds: frozenset[str],
        free: frozenset[str],
        batch: int,
        retries: int,
        backoff_s: float,
        first: str,
    ) -> str | None:
        if name in self.by_name:
            return f"{self.by_name[name].place} has this name already: choose another one"
        if not _NAME.fullmatch(name) or name in TAKEN_TABLES:
            return "a name has 1 to 64 letters, digits or _ . -, and is not 'timers'"
        if not inspect.iscoroutinefunction(handler):
            return "it is no coroutine: write async def"
        if not 1 <= _positional(handler) <= _RUN_PLACE:
            return "it takes the events, and perhaps the run: write async def …(events) or …(events, run)"
        if not kinds and not free:
            return 'it follows nothing: write kinds=["order"]'
        for kind in sorted(kinds | free):
            if kind in INTERNAL:
                return f"streams of the kind {kind!r} are internal: follow the kind of the entity"
            if not KIND.fullmatch(kind):
                return f"{kind!r} is no kind"
        if free & RESERVED_KINDS:
            return f"the kind {min(free & RESERVED_KINDS)!r} belongs under kinds="
        if not 1 <= batch <= BATCH_MAX or retries < 0 or backoff_s < 0 or first not in ("start", "head"):
            return f"batch= is 1 to {BATCH_MAX}, retries= and backoff_s= begin at 0, first= is start or head"
        return None


def _kinds(name: str, field: str, given: Any) -> Iterator[str]:
    """The kinds that were named. Raises DefinitionError: it is no list of names or entities."""
    if isinstance(given, str | Entity) or not isinstance(given, Iterable):
        shown = given.kind if isinstance(given, Entity) else given
        why = f"{field}= is a list: write {field}=[{shown!r}]"
        raise DefinitionError(f"{place_of_user()}: follower({name!r}): {why}")
    for kind in given:
        if not isinstance(kind, str | Entity):
            why = f"{field}=: {kind!r} is neither the name of a kind nor an Entity: write {field}=['order']"
            raise DefinitionError(f"{place_of_user()}: follower({name!r}): {why}")
        yield kind if isinstance(kind, str) else kind.kind


def reader(catalog: Catalog) -> ReadEvent:
    """What followers get of a stored event: its body in the form of today's version."""
    folds = {kind: EntityFold(entity) for kind, entity in catalog.by_kind.items()}
    decode = msgspec.json.Decoder(dict[str, Any]).decode

    def read(event: StoredEvent) -> Followed:
        kind, _, rest = event.stream.partition("/")
        fold = folds.get(kind)
        body = event.body if fold is None else fold.today(event)
        key = None if fold is None else key_of(rest, fold.entity.key)
        return Followed(
            event.position,
            event.stream,
            event.seq,
            event.type,
            decode(body),
            rest if key is None else key,
            event.ts_ms,
            event.principal,
        )

    return read


def _positional(handler: Callable[..., Any]) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds for one in inspect.signature(handler).parameters.values())
