"""What a decide may answer: an impossible answer is a fault, bounds hold, and one answer is one commit."""

import re
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    CancelEffects,
    Command,
    Context,
    Decision,
    Drop,
    Entity,
    Event,
    Every,
    Outcome,
    Put,
    Refused,
    to,
)
from huahuo.actors.domain.plugin import EntitySettings
from huahuo.actors.domain.structs import Fault
from huahuo.eventstore.model import Secret
from tests.support.worlds.orders import (
    Cancel,
    Engine,
    Expire,
    Noted,
    Placed,
    in_engine,
)
from tests.support.worlds.rooms import rooms
from tests.support.worlds.scenario import scenario


class Grown(Event, type="blob_grown"):
    text: str


class Lost(Event, type="blob_lost"): ...


class Blob(Struct, frozen=True):
    text: str = ""
    seen: list[str] = []


class Do(Command, action="do", creates=True):
    what: str


def big(count: int) -> list[Any]:
    return [Grown("x")] * count


ANSWERS: dict[str, Any] = {
    "nothing": [],
    "rows": Decision([Grown("a")], rows=[Put("blobs", "all", "k", {"n": 1})]),
    "drop": Decision([Grown("a")], rows=[Drop("blobs", "all", "k"), Drop("blobs", "all")]),
    "secret": Decision([Grown("a")], secrets={"password": Secret("hunter2"), "token": "t0k"}),
    "shred": Decision([Grown("a")], shred=True),
    "timers": Decision([Grown("a")], effects=[Every(60, Expire(), name="tick")]),
    "cancel": Decision([Grown("a")], effects=[CancelEffects()]),
    "many": big(5),
    "too many": big(6),
    "refused": Refused("not_today", "come back"),
    "raised": Refused("not_today", "raised"),
    # Faults:
    "none": None,
    "text": "grown",
    "no event": [Expire()],
    "no evolve": [Lost()],
    "a field of another type": [Grown(None)],  # type: ignore[arg-type]
    "foreign event": [Placed(1, "tea")],
    "foreign stream": [to("room/1", Noted(1))],
    "own stream": [to("blob/1", Noted(1))],
    "internal stream": [to("effect/blob/1", Noted(1))],
    "no stream": [to("auth", Noted(1))],
    "busy": Refused("busy", "again"),
    "odd code": Refused("Not Found"),
    "reply": Decision(reply={"blob_id": 7}),
    "unserialisable": Decision(reply={"x": object()}),
    "bad secret": Decision(secrets={"a b": "x"}),
    "no effect": Decision(effects=[object()]),  # type: ignore[list-item]
    "foreign timer": Decision(effects=[Every(1, Cancel())]),
    "raises": ValueError("boom"),
    "evolve raises": [Grown("raise")],
    "evolve returns another": [Grown("other")],
    "mutates": [Grown("mutate")],
}


def blobs() -> Entity[Blob]:
    blob = Entity("blob", Blob)

    @blob.evolve
    def grown(state: Blob, event: Grown) -> Blob:
        if event.text == "raise":
            raise RuntimeError("cannot fold")
        if event.text == "other":
            return "another"  # type: ignore[return-value]
        if event.text == "mutate":
            state.seen.append("x")
        return replace(state, text=state.text + event.text)

    @blob.decide
    def do(state: Blob, command: Do, ctx: Context) -> Outcome:
        if command.what == "raised":
            raise ANSWERS["raised"]
        if isinstance(ANSWERS[command.what], ValueError):
            raise ANSWERS[command.what]
        found: Outcome = ANSWERS[command.what]
        return found

    @blob.decide
    def expire(state: Blob, command: Expire, ctx: Context) -> Outcome:
        return []

    return blob


SMALL = EntitySettings(decision_events_max=5, state_bytes_max=1_000)


@pytest.mark.parametrize("what", list(ANSWERS)[list(ANSWERS).index("none") :])
@scenario(in_engine, [blobs(), rooms()], SMALL)
async def test_an_impossible_answer_is_a_fault_that_writes_nothing_and_stops_nothing(
    engine: Engine, *, what: str
) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  what it is is for the server's log
        await engine.send("do", as_id="c1", what=what)
    assert engine.log.appends == []
    assert (await engine.send("do", as_id="c1", what="many"))["type"] == "success"
    assert engine.runtime.restarts == 0
    state, _ = await engine.api.state("blob", 2)
    assert state == Blob("xxxxx")


@scenario(in_engine, [blobs(), rooms()], SMALL)
async def test_a_reply_that_no_frame_holds_is_refused_and_nothing_is_written(engine: Engine) -> None:
    ANSWERS["long reply"] = Decision([Grown("a")], reply={"text": "x" * 1_000})
    assert (await engine.send("do", what="long reply"))["code"] == "too_large"
    assert engine.log.position == 0


@scenario(in_engine, [blobs(), rooms()], SMALL)
async def test_a_state_over_the_bound_is_refused(engine: Engine) -> None:
    ANSWERS["large"] = [Grown("y" * 2_000)]
    assert (await engine.send("do", what="large"))["code"] == "too_large"
    assert engine.log.appends == []


@scenario(in_engine, [blobs(), rooms()])
async def test_an_event_over_the_bound_of_the_log_is_refused_with_its_size(engine: Engine) -> None:
    ANSWERS["large"] = [Grown("y" * (1 << 20))]
    said = await engine.send("do", what="large")
    assert said["code"] == "too_large"
    assert re.search(r"has \d+ bytes, at most 1048576", said["message"])
    assert engine.log.appends == []


@pytest.mark.parametrize(
    "row",
    [
        Put("blobs", "all", "k" * 10_000, 1),
        Drop("blobs", "all", b"k" * 10_000),
        Put("blobs", "p" * 300, "k", 1),
        Put("blobs", "all", "k", "v" * 1_000_000),
    ],
    ids=["key", "key of a Drop", "part", "value"],
)
@scenario(in_engine, [blobs(), rooms()], SMALL)
async def test_a_row_over_a_bound_is_refused_and_nothing_is_written(
    engine: Engine, *, row: Put | Drop
) -> None:
    ANSWERS["long row"] = Decision([Grown("a")], rows=[row])
    assert (await engine.send("do", what="long row"))["code"] == "too_large"
    assert engine.log.appends == []


@pytest.mark.parametrize("table", ["", "a/b", "x" * 65, "timers"])
@scenario(in_engine, [blobs(), rooms()], SMALL)
async def test_a_table_without_a_name_is_a_fault(engine: Engine, *, table: str) -> None:
    ANSWERS["no table"] = Decision([Grown("a")], rows=[Put(table, "all", "k", 1)])
    with pytest.raises(Fault, match="is no table"):
        await engine.send("do", what="no table")
    assert engine.log.position == 0


@pytest.mark.parametrize("what", ["refused", "raised"])
@scenario(in_engine, [blobs()])
async def test_a_refusal_may_be_returned_or_raised(engine: Engine, *, what: str) -> None:
    assert (await engine.send("do", what=what))["code"] == "not_today"
