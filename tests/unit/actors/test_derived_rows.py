"""Rows that follow from states: written with each decision, made anew from the log by today's code."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Decision, Entity, Event, Outcome, Put
from huahuo.actors.domain import projections
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.projections import at_rest
from huahuo.actors.domain.writing import Sent
from huahuo.actors.entities.decider import Origin
from huahuo.eventstore.model import Append, RowDrop, RowPut
from tests.support.models.faulty_log import FaultyLog
from tests.support.worlds.orders import Engine, in_engine
from tests.support.worlds.scenario import scenario


class Moved(Event, type="crate_moved"):
    place: str


class Crate(Struct, frozen=True):
    place: str = ""
    moves: int = 0


class Move(Command, action="move_crate", creates=True):
    place: str


class Give(Command, action="give_rows", creates=True):
    """Gives rows itself, to a table that follows from states."""


def by_place(state: Crate, key: int) -> Sequence[Put]:
    """Each crate lies at one place, and a crate at no place in no list."""
    return [Put("crates", state.place, f"{key:04d}", state.moves)] if state.place else []


def by_moves(state: Crate, key: int) -> Sequence[Put]:
    return [Put("crates", f"moved {state.moves}", f"{key:04d}", state.place)]


counted = 0


def count() -> None:
    global counted  # noqa: PLW0603  what changes while a process runs
    counted += 1


def by_count(state: Crate, key: int) -> Sequence[Put]:
    """Names what changes while it runs."""
    count()
    return [Put("crates", state.place, f"{key:04d}", counted)]


def crates(rows: Any = by_place) -> Entity[Crate]:
    crate = Entity("crate", Crate)

    @crate.evolve
    def moved(state: Crate, event: Moved) -> Crate:
        return replace(state, place=event.place, moves=state.moves + 1)

    @crate.decide
    def move(state: Crate, command: Move, ctx: Context) -> Outcome:
        return [Moved(command.place)]

    @crate.decide
    def give(state: Crate, command: Give, ctx: Context) -> Outcome:
        return Decision([Moved("c")], rows=[Put("crates", "c", "k", 1)])

    crate.rows("crates")(rows)
    return crate


PARTS = ("a", "b", "c", "moved 1", "moved 2", "moved 3")


async def table(log: FaultyLog) -> dict[str, dict[bytes, bytes]]:
    found = {part: dict(await log.rows("app:crates", part, limit=100)) for part in PARTS}
    return {part: rows for part, rows in found.items() if rows}


async def fill(engine: Engine) -> None:
    for place in ("a", "a", "b"):
        await engine.send("move_crate", place=place)
    await engine.api.execute(*moving(engine, 2, "b"))
    await engine.api.execute(*moving(engine, 3, ""))


def moving(engine: Engine, key: int, place: str) -> Any:
    return engine.api.catalog.by_kind["crate"], key, Sent(Move(place)), Origin("service")


AFTER = {"a": {b"0001": b"1"}, "b": {b"0002": b"2"}}


@scenario(in_engine, [crates()])
async def test_rows_follow_the_state_in_the_commit_of_each_decision(engine: Engine) -> None:
    await fill(engine)
    assert len(engine.log.appends) == 5
    assert await table(engine.log) == AFTER
    assert engine.log.head("projection/crates").seq == 0, "nothing records them a second time"


@scenario(in_engine, [crates()])
async def test_the_table_is_made_anew_from_the_events_by_the_code_of_today(engine: Engine) -> None:
    await fill(engine)
    harm = (RowDrop("app:crates", "a"), RowPut("app:crates", "b", b"0009", b"9"))
    await engine.log.append(Append(ts_ms=1, rows=harm))
    told: list[tuple[int, int]] = []
    catalog = engine.api.catalog
    count = await projections.rebuild_rows(
        engine.log, "crates", catalog, now_ms=1, told=lambda *far: told.append(far)
    )
    assert (count, told[-1], await table(engine.log)) == (2, (3, 3), AFTER)
    assert await projections.rebuild_rows(engine.log, "crates", Catalog([crates(by_moves)]), now_ms=1) == 3
    assert await table(engine.log) == {
        "moved 1": {b"0001": b'"a"'},
        "moved 2": {b"0002": b'"b"', b"0003": b'""'},
    }


@pytest.mark.parametrize("appends", range(4))
def test_a_rebuild_that_was_cut_short_is_done_again_by_the_next_start(
    appends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "_ROWS_AN_APPEND", 2)

    async def test(engine: Engine) -> None:
        await fill(engine)
        engine.log.lose = [""] * appends + ["before"]
        with pytest.raises(Exception, match="lost"):
            await projections.rebuild_rows(engine.log, "crates", engine.api.catalog, now_ms=1)
        await engine.api.work()
        assert await table(engine.log) == AFTER
        await engine.api.close()

    in_engine(test, [crates()])


@scenario(in_engine, [crates()])
async def test_a_table_is_of_the_code_as_it_was_before_it_made_the_rows(
    engine: Engine, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(engine)
    catalog = Catalog([crates(by_count)])
    await projections.rebuild_rows(engine.log, "crates", catalog, now_ms=1)
    assert counted
    assert await projections.outdated(engine.log, catalog) == []
    monkeypatch.setattr(sys.modules[__name__], "counted", 0)  # as in another process
    assert await projections.outdated(engine.log, Catalog([crates(by_count)])) == []


@scenario(in_engine, [crates()])
async def test_a_table_that_other_code_has_made_says_so_until_it_is_made_anew(engine: Engine) -> None:
    await engine.api.work()
    await fill(engine)

    async def state(catalog: Catalog) -> str:
        return {one.name: one.state for one in await at_rest(engine.log, catalog, ())}["crates"]

    old, new = engine.api.catalog, Catalog([crates(by_moves)])
    assert await state(old) == "up to date"
    assert await state(new) == "made by other code: rebuild it"
    assert await state(Catalog([])) == "not in the application"
    await projections.rebuild_rows(engine.log, "crates", new, now_ms=1)
    assert await state(new) == "up to date"
    await engine.api.close()


WRONG: dict[str, Any] = {
    "no list": lambda state, key: None,
    "another table": lambda state, key: [Put("other", "a", "k", 1)],
    "no Put": lambda state, key: [7],
    "what JSON has not": lambda state, key: [Put("crates", "a", "k", object())],
    "a key that is no text": lambda state, key: [Put("crates", "a", key, 1)],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_function_that_answers_no_rows_is_a_fault_and_nothing_is_written(what: str) -> None:
    async def test(engine: Engine) -> None:
        with pytest.raises(Exception, match=r"test_derived_rows\.py:\d+.*crates"):
            await engine.send("move_crate", place="a")
        assert engine.log.position == 0

    in_engine(test, [crates(WRONG[what])])


@scenario(in_engine, [crates(lambda state, key: [Put("crates", "a", "k" * 10_000, 1)])])
async def test_a_row_over_its_bound_is_refused(engine: Engine) -> None:
    assert (await engine.send("move_crate", place="a"))["code"] == "too_large"
    assert engine.log.position == 0


@scenario(in_engine, [crates()])
async def test_a_decision_gives_no_rows_of_a_table_that_follows_from_states(engine: Engine) -> None:
    with pytest.raises(Exception, match=r"rows of 'crates' follow from states.*leave this one out"):
        await engine.send("give_rows")
    assert engine.log.position == 0


@scenario(in_engine, [crates()])
async def test_what_a_plug_in_keeps_is_an_index_also_without_a_service(engine: Engine) -> None:
    found = await at_rest(engine.log, Catalog([]), ("to-crm", "search"), ("search",))
    assert [(one.name, one.what) for one in found[1:]] == [("search", "index"), ("to-crm", "follower")]
