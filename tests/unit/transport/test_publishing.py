"""Published events: the rules for them, and their form in the log."""

import math
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import Reply
from huahuo.eventstore.ambient import FakeAmbient, rfc3339
from huahuo.eventstore.model import StoredEvent
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.protocol.incoming import ListedEvent
from tests.support.models.faulty_log import FaultyLog, faulty_log
from tests.support.worlds.people import ROOT
from tests.support.worlds.services import body, call

DOMAIN = ("email_added", "check_progress")
NOTE = {"message": "m", "level": "info"}


class World:
    """A publisher registered next to a domain, behind a gate."""

    def __init__(self, log: FaultyLog) -> None:
        self.log = log
        self.ambient = FakeAmbient()
        self.registry = Registry()
        self.registry.events(*DOMAIN)
        self.publisher = Publisher(log, self.ambient, self.registry)
        self.publisher.register()
        self.gate = Gate(log, self.ambient)

    async def act(self, action: str, params: dict[str, Any], **options: Any) -> Reply:
        made = call(params, action=action, **{"principal": ROOT, **options})
        return await self.gate.execute(made, self.registry.commands[action])

    async def refused(self, params: dict[str, Any], action: str = "publish") -> str:
        """The code of the refusal. Asserts that nothing was written."""
        before = self.log.position
        reply = body((await self.act(action, params)).body)
        assert self.log.position == before
        return str(reply.get("code"))

    async def events(self, stream: str) -> list[StoredEvent]:
        return await self.log.read(stream, 0, events_max=1000)

    async def recent(self, stream: str) -> tuple[int, dict[str, Any]]:
        kind = stream.partition("/")[0]
        seq, state = await self.registry.snapshots[kind](stream)
        assert isinstance(state, bytes)
        return seq, msgspec.json.decode(state)


async def world() -> World:
    return World(await faulty_log())


@pytest.mark.parametrize(
    "broken", [{"message": 7}, {"message": None}, {"level": "loud"}, {"level": 1}, {"level": []}]
)
async def test_a_system_notification_has_a_text_and_a_known_level(broken: dict[str, object]) -> None:
    w = await world()
    note = {
        "stream": "system",
        "type": "system_notification",
        "message": "维护",
        "level": "info",
        **broken,
    }
    assert await w.refused(note) == "invalid_field"


@pytest.mark.parametrize(
    ("stream", "type_", "fields", "code"),
    [
        ("user/1", "t", {"n": math.nan}, "invalid_field"),
        ("user/1", "t", {"n": 1 << 53}, "invalid_field"),
        ("user/1", "t", {"n": [1 << 53]}, "invalid_field"),
        ("user/1", "t", {"n": "\ud800"}, "invalid_field"),
        ("user/1", "t", {"n": "x" * (256 << 10)}, "too_large"),
        ("user/1", "t", {"seq": 1}, "invalid_field"),
        ("user/1", "check_progress", {"n": 1}, "invalid_field"),
        ("user/1", "system_notification", {"message": "m", "level": "info"}, "invalid_field"),
        ("system", "system_notification", {"message": "m", "level": "loud"}, "invalid_field"),
        ("auth", "t", {"n": 1}, "invalid_field"),
    ],
)
async def test_what_was_allowed_before_allows_nothing_else(
    stream: str, type_: str, fields: dict[str, Any], code: str
) -> None:
    w = await world()
    good = [("user/1", "t", {"n": 1})] * 2
    await w.publisher.publish_many([*good, ("system", "system_notification", NOTE)])
    for _ in range(2):
        with pytest.raises(PublishRefused) as caught:
            await w.publisher.publish_many([*good, (stream, type_, fields)])
        assert caught.value.refusal.code == code
    assert w.log.position == 3


@pytest.mark.parametrize(
    "fields", [{}, {"n": 1}, {"x": [1.5, None, True]}, {"x": {"y": "é"}}, MappingProxyType({"n": 1})]
)
async def test_the_second_event_of_a_type_has_the_same_bytes_as_the_first(fields: dict[str, Any]) -> None:
    w = await world()
    await w.publisher.publish_many([("user/1", "t", fields)] * 2)
    first, second = await w.events("user/1")
    assert first.body == second.body
    stamp = {"type": "t", "timestamp": rfc3339(w.ambient.now_ms())}
    assert first.body == msgspec.json.encode({**stamp, **fields})


LISTS: list[list[dict[str, Any]]] = [
    [{"stream": "user/1", "type": "t", "fields": {"n": n}} for n in range(3)],
    [{"stream": f"user/{n % 2 + 1}", "type": f"t{n % 3}", "fields": {"n": n}} for n in range(6)],
    [{"stream": "user/1", "type": "t", "fields": {}}] * 2,
    [
        {"stream": "user/1", "type": type_, "fields": fields}
        for type_, fields in (("t", {}), ("t", {}), ("", {"a": 1}))
    ],
    [{"stream": "system", "type": "system_notification", "fields": NOTE}] * 2,
    [{"stream": "user/1", "type": "t", "fields": {}}, {"stream": "log", "type": "t", "fields": {}}],
    [{"stream": "user/1", "type": "t", "fields": {"seq": 1}}],
    [{"stream": "user/1", "type": "t", "fields": {"pad": "x" * (256 << 10)}}],
]


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("given", LISTS)
async def test_events_that_were_read_together_are_written_as_those_read_one_by_one(
    given: list[dict[str, Any]], rounds: int
) -> None:
    w, other = await world(), await world()
    read = [ListedEvent(**event) for event in given]
    for _ in range(rounds):
        one_by_one = await w.act("publish", {"events": given})
        together = await other.act("publish", {"events": read})
        assert (together.body, together.at) == (one_by_one.body, one_by_one.at)
    written = [(event.stream, event.body) for event in await w.events("log")]
    assert [(event.stream, event.body) for event in await other.events("log")] == written


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"user_id": 1, "jti": "x"},
        {"user_id": "a b"},
        {"user_id": True},
        {"user_id": 2**53},
        {"user_id": None},
        {"user_id": 1.5},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 129},
        {"user_id": 1, "other": 2},
    ],
)
async def test_a_revocation_that_names_not_exactly_one_user_or_token_is_refused(
    params: dict[str, Any],
) -> None:
    assert await (await world()).refused(params, "revoke") == "invalid_field"


async def test_a_snapshot_leaves_out_what_was_compacted_away() -> None:
    w = await world()
    for n in range(5):
        await w.publisher.publish("system", "n", {"n": n})
    w.log.compacted = {2, 5}
    seq, state = await w.recent("system")
    assert seq == 5
    assert [event["n"] for event in state["recent"]] == [0, 2, 3]


async def test_the_snapshot_of_the_log_is_empty_and_stands_at_the_head() -> None:
    w = await world()
    await w.publisher.notify("…")
    assert await w.recent("log") == (1, {})
