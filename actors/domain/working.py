"""An application's effects as the runner knows them, and its entities as the runner reaches them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from huahuo.actors.actor.errors import where
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.fold import Held
from huahuo.actors.domain.names import key_of
from huahuo.actors.domain.sent import Done, Emit, Sent
from huahuo.actors.domain.structs import EffectFailed, traits
from huahuo.actors.effects.attempts import LEFT_OPEN
from huahuo.actors.effects.facts import Guard
from huahuo.actors.effects.spec import Answered, Failure, Spec
from huahuo.actors.effects.streams import SERVICE
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.principal import UserId

_log = structlog.get_logger(__name__)


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
                key=partial(_key, entity),
                retries=rules.retries,
                backoff_s=rules.backoff_s,
                at_once=rules.at_once,
                per=rules.per,
            )
    return specs


class EntityOwners:
    """See `huahuo.actors.effects.spec.Owners`."""

    def __init__(self, catalog: Catalog, directory: Directory) -> None:
        self._catalog = catalog
        self._directory = directory

    async def state(self, kind: str, key: str) -> Any:
        """See `Owners`."""
        return await self._directory.ask(kind, key, Query(_state))

    async def emit(
        self, kind: str, key: str, events: Sequence[Any], guard: Guard, cause: int, run: str = ""
    ) -> tuple[Answered, Any]:
        """See `Owners`."""
        done = await self._execute(kind, key, Sent(Emit(tuple(events)), guard=guard), cause, run)
        if done.moved:
            return Answered.MOVED, None
        if done.refused:
            said = msgspec.json.decode(done.body, type=dict[str, Any])
            raise Refused(said["code"], str(said.get("message", "")), str(said.get("details", "")))
        return Answered.DONE, done.state

    async def failed(
        self,
        spec: Spec,
        key: str,
        failure: Failure,
        guard: Guard,
        cause: int,
        user: UserId | None,
        run: str = "",
    ) -> Answered:
        """See `Owners`."""
        if EffectFailed not in self._catalog.by_kind[spec.kind].decides:
            return Answered.UNHANDLED
        command = EffectFailed(spec.name, failure.error_type, failure.attempts, failure.job)
        try:
            sent = Sent(command, guard=guard, payer=user, trace=run)
            done = await self._execute(spec.kind, key, sent, cause, run)
        except LEFT_OPEN:
            raise
        except Exception as error:  # noqa: BLE001  a fault in the application's handler
            _log.error(
                "effect_failed_not_decided", effect=spec.name, entity=f"{spec.kind}/{key}",
                error=type(error).__name__, at=where(error),
            )  # fmt: skip
            return Answered.UNHANDLED
        if done.moved:
            return Answered.MOVED
        return Answered.UNHANDLED if done.refused else Answered.DONE

    async def _execute(self, kind: str, key: str, sent: Sent, cause: int, run: str) -> Done:
        origin = Origin(SERVICE, run, cause=cause)
        answer: Answer[Done] = await self._directory.ask(kind, key, Execute(sent, origin))
        assert answer.reply is not None, "a command without an id is no repeat"
        return answer.reply


def _state(_seq: int, held: Held) -> Any:
    return held.state


def _key(entity: Entity[Any], text: str) -> Any:
    return key_of(text, entity.key)
