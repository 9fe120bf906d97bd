"""Rows of an application's projections: recorded with their decision, and made anew from that."""

from typing import Any

import pytest
from msgspec import Struct

from huahuo import Command, Context, Decision, Drop, Entity, Event, Outcome, Put
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.projections import rebuild_rows, recorded
from huahuo.eventstore.model import Append, RowDrop, RowPut
from tests.support.models.faulty_log import FaultyLog
from tests.support.worlds.orders import Engine, in_engine
from tests.support.worlds.scenario import scenario


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


async def table(log: FaultyLog, name: str = "papers") -> dict[str, list[tuple[bytes, bytes]]]:
    """The rows of all parts."""
    found = {part: await log.rows("app:" + name, part, limit=100) for part in ("", *"abcd")}
    for n in range(4):
        found[f"l{n}"] = await log.rows("app:" + name, f"l{n}", limit=100)
    return {part: rows for part, rows in found.items() if rows}


async def fill(engine: Engine) -> None:
    for what in ROWS:
        await engine.send("file_paper", what=what)


@scenario(in_engine, [papers()])
async def test_rows_are_recorded_in_the_commit_of_their_decision(engine: Engine) -> None:
    await engine.send("file_paper", what="three")
    assert len(engine.log.appends) == 1
    assert await engine.bodies("projection/papers") == [
        {
            "type": "rows_changed",
            "changes": [{"part": "a", "key": f"{n}", "value": {"n": n}} for n in range(3)],
        }
    ]


@scenario(in_engine, [papers()])
async def test_a_decision_without_rows_records_none(engine: Engine) -> None:
    await engine.send("file_paper", what="none")
    assert engine.log.position == 1


@scenario(in_engine, [papers()])
async def test_large_rows_are_recorded_by_events_of_less_than_their_bound(engine: Engine) -> None:
    await engine.send("file_paper", what="large")
    sizes = [len(event.body) for event in engine.log.appends[0].events[1:]]
    assert len(sizes) == 4
    assert max(sizes) < 1 << 19


@scenario(in_engine, [papers()])
async def test_the_rows_of_jobs_are_not_recorded(engine: Engine) -> None:
    await engine.api.jobs.start("import", 42)
    assert recorded(engine.log) == []


@scenario(in_engine, [papers()])
async def test_a_table_that_is_made_anew_is_the_same(engine: Engine) -> None:
    await fill(engine)
    before, other = await table(engine.log), await table(engine.log, "index.v2")
    assert before["a"] == [(b"9", b"[9]")]
    harm = (RowDrop("app:papers", "a"), RowPut("app:papers", "b", b"\xff\x00", b'"wrong"'))
    await engine.log.append(Append(ts_ms=1, rows=(*harm, RowPut("app:papers", "c", b"more", b"1"))))
    assert recorded(engine.log) == ["index.v2", "papers"]
    told: list[tuple[int, int]] = []
    await rebuild_rows(
        engine.log, "papers", Catalog([]), now_ms=1, told=lambda *how_far: told.append(how_far)
    )
    assert await table(engine.log) == before
    assert await table(engine.log, "index.v2") == other
    head = engine.log.head("projection/papers").seq
    assert told[-1] == (head, head)


@pytest.mark.parametrize("appends", range(4))
def test_a_rebuild_that_was_cut_short_is_done_again_by_the_next_start(
    appends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.actors.domain.projections._PAGE_EVENTS", 2)

    async def test(engine: Engine) -> None:
        await fill(engine)
        before = await table(engine.log)
        engine.log.lose = [""] * appends + ["before"]
        with pytest.raises(Exception, match="lost"):
            await rebuild_rows(engine.log, "papers", Catalog([]), now_ms=1)
        await engine.api.work()
        assert await table(engine.log) == before
        assert await engine.log.rows("projection", "rebuilding", limit=10) == []
        await engine.api.close()

    in_engine(test, [papers()])
