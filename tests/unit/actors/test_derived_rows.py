"""Rows of projections: recorded in the commit of their decision, or following from states, and made anew."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Decision, Drop, Entity, Event, Outcome, Put
from huahuo.actors.domain import projections
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.projections import at_rest, rebuild_rows
from huahuo.actors.domain.writing import Sent
from huahuo.actors.entities.decider import Origin
from tests.support.models.faulty_log import FaultyLog
from tests.support.worlds.effects import Works, on_nodes
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


class Filed(Event, type="paper_filed"): ...


class Paper(Struct, frozen=True):
    pass


class File(Command, action="file_paper", creates=True):
    what: str


class Again(Command, action="file_again"):
    what: str


ROWS: dict[str, list[Put | Drop]] = {
    "three": [Put("papers", "a", f"{n}", {"n": n}) for n in range(3)],
    "bytes": [Put("papers", "b", b"\xff\x00", "raw"), Put("papers", "", "", None)],
    "gone": [Drop("papers", "a", "1")],
    "whole part": [Drop("papers", "a"), Put("papers", "a", "9", [9])],
    "two tables": [Put("papers", "c", "k", 1), Put("index.v2", "c", "k", 2)],
    "large": [Put("papers", f"l{n}", "k", "x" * 400_000) for n in range(4)],
    "none": [],
}


def papers() -> Entity[Paper]:
    paper = Entity("paper", Paper)

    @paper.evolve
    def filed(state: Paper, event: Filed) -> Paper:
        return state

    def decided(state: Paper, command: Any, ctx: Context) -> Outcome:
        return Decision([Filed()], rows=ROWS[command.what])

    paper.decide(File)(decided)
    paper.decide(Again)(decided)
    return paper


async def table_of_papers(log: FaultyLog, name: str = "papers") -> dict[str, list[tuple[bytes, bytes]]]:
    """The rows of all parts."""
    found = {part: await log.rows("app:" + name, part, limit=100) for part in ("", *"abcd")}
    for n in range(4):
        found[f"l{n}"] = await log.rows("app:" + name, f"l{n}", limit=100)
    return {part: rows for part, rows in found.items() if rows}


async def file_all(engine: Engine) -> None:
    for what in ROWS:
        await engine.send("file_paper", what=what)


@pytest.mark.parametrize("appends", range(4))
def test_a_rebuild_of_recorded_rows_that_was_cut_short_is_done_again_by_the_next_start(
    appends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.actors.domain.projections._PAGE_EVENTS", 2)

    async def test(engine: Engine) -> None:
        await file_all(engine)
        before = await table_of_papers(engine.log)
        engine.log.lose = [""] * appends + ["before"]
        with pytest.raises(Exception, match="lost"):
            await rebuild_rows(engine.log, "papers", Catalog([]), now_ms=1)
        await engine.api.work()
        assert await table_of_papers(engine.log) == before
        assert await engine.log.rows("projection", "rebuilding", limit=10) == []
        await engine.api.close()

    in_engine(test, [papers()])


class Paid(Event, type="account_paid"):
    cents: int


class Account(Struct, frozen=True):
    cents: int = 0


class Pay(Command, action="pay_account", creates=True):
    cents: int


def in_cents(state: Account, key: int) -> list[Put]:
    return [Put("sums", "", f"{key:04d}", state.cents)]


def in_euros(state: Account, key: int) -> list[Put]:
    return [Put("sums", "euros", f"{key:04d}", state.cents // 100)]


def accounts(rows: Any) -> Entity[Account]:
    account = Entity("account", Account)

    @account.evolve
    def paid(state: Account, event: Paid) -> Account:
        return Account(state.cents + event.cents)

    @account.decide
    def pay(state: Account, command: Pay, ctx: Context) -> Outcome:
        return [Paid(command.cents)]

    account.rows("sums")(rows)
    return account


async def sums(node: Works) -> dict[str, list[int]]:
    found = {part: await node.log.rows("app:sums", part, limit=1000) for part in ("", "euros")}
    return {part: sorted(int(value) for _, value in rows) for part, rows in found.items() if rows}


def of_two_versions(test: Callable[[Works, Works], Awaitable[None]]) -> None:
    """The nodes `older` and `newer`. The older one was there first, so its version writes the rows."""

    async def run(older: Works, newer: Works) -> None:
        await test(older, newer)
        await asyncio.sleep(1)
        assert await sums(older) == await sums(newer)

    on_nodes(run, lambda node: node.open([accounts(in_cents if node.node == "a" else in_euros)]))


def finalize(node: Works) -> Awaitable[None]:
    return projections.finalize(node.log, node.engine.api.catalog, now_ms=1, by="user/1")


@scenario(of_two_versions)
async def test_rows_are_written_by_the_version_that_is_final_and_made_anew_by_the_next_one(
    older: Works, newer: Works
) -> None:
    await older.send("pay_account", cents=10_000)
    await asyncio.sleep(1)
    await newer.send("pay_account", cents=500)
    await asyncio.sleep(1)
    assert await sums(older) == {"": [10_000]}, "the newer one is not final yet"
    await finalize(newer)
    assert await sums(newer) == {"euros": [5, 100]}
    await older.send("pay_account", cents=700)
    await asyncio.sleep(1)
    assert await sums(newer) == {"euros": [5, 100]}, "the older one is final no more"
    assert await projections.outdated(newer.log, newer.engine.api.catalog) == ["sums"]
