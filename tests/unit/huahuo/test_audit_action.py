"""The admin actions over a log: what they answer, what they leave in it."""

from typing import Any

import msgspec
import pytest

from huahuo import admin as audit_action
from huahuo.actors.plugins.actions import Registry
from huahuo.admin import LogCare
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.executor import InlineExecutor
from huahuo.options import known
from huahuo.transport.commands.gate import Gate
from tests.support.worlds.logs import MemoryEngine, append, event, opened
from tests.support.worlds.people import ROOT
from tests.support.worlds.services import body, call


class Actions:
    """A registry with the actions, and a gate before them."""

    def __init__(self, log: StoreLog) -> None:
        self.care = LogCare(log, MemoryEngine().ambient, index=None, past=known(), executor=InlineExecutor())
        self.registry = Registry()
        self.care.register(self.registry)
        self.gate = Gate(log, MemoryEngine().ambient)

    async def do(self, action: str, *, id: str | None = None, principal: Any = ROOT, **fields: Any) -> Any:  # noqa: A002
        spec = self.registry.commands[action]
        asked = call(msgspec.convert(fields, spec.params), id=id, principal=principal, action=action)
        reply = await self.gate.execute(asked, spec)
        return (
            body(reply.body)
            | ({"at": reply.at} if reply.at else {})
            | ({"duplicate": True} if reply.duplicate else {})
        )


async def test_a_long_index_is_built_while_the_service_runs_and_the_query_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened(MemoryEngine()) as log:
        monkeypatch.setattr(audit_action, "BEHIND_EVENTS_MAX", 10)
        await log.append(append(*(event() for _ in range(50))))
        actions = Actions(log)
        first = await actions.do("audit", where={})
        assert (first["code"], "51 events" in first["details"]) == ("busy", True)
        assert actions.care.building is not None
        await actions.care.building
        assert len((await actions.do("audit", where={}))["rows"]) == 51
        await actions.care.close()


async def test_a_question_that_contradicts_itself_is_refused() -> None:
    async with opened(MemoryEngine()) as log:
        answer = await Actions(log).do("audit", where={"email_id": 1, "entity": "mailbox/2"})
        assert answer["code"] == "invalid_field"


async def test_a_record_has_a_bound() -> None:
    async with opened(MemoryEngine()) as log:
        actions = Actions(log)
        assert (await actions.do("audit_record", doing="replay state", what={"entity": "mailbox/1"}))[
            "at"
        ] == ("audit", 1)
        assert (await actions.do("audit_record", doing="x", what={"a": "x" * 20_000}))[
            "code"
        ] == "invalid_field"


async def test_facts_cannot_be_pruned() -> None:
    async with opened(MemoryEngine()) as log:
        answer = await Actions(log).do("compact", older_than_s=0, types=["email_deleted"])
        assert answer["code"] == "invalid_field"
