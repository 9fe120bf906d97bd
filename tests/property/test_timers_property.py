"""Timers under any mixture of settings, faults, lost signals, crashes and clock jumps.

A model says which timers should have fired. Never twice for one due time, and none is lost.
"""

import asyncio
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import EntityError
from huahuo.actors.timers.timer import (
    PendingTimers,
    Timer,
    TimerFired,
    TimersCancelled,
    TimerSet,
    due_key,
    series_of,
    which,
)
from huahuo.actors.timers.window import Window
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from tests.support.proofs import examples
from tests.support.worlds.bells import SetEvery, SetOnce, Silence, Tower, in_tower

BELLS = ("b", "c", "d")
bells = st.sampled_from(BELLS)
names = st.sampled_from(("x", "y"))
seconds = st.integers(0, 120)
hows = st.sampled_from(("ring", "ring", "refuse", "nothing", "again", "silence"))
wishes = st.one_of(
    st.tuples(st.just("once"), bells, names, seconds, hows),
    st.tuples(st.just("every"), bells, names, st.integers(30, 60), hows),
    st.tuples(st.just("silence"), bells),
    st.tuples(st.just("pause"), st.sampled_from((0.001, 0.5, 5.0, 40.0, 200.0))),
    st.tuples(st.just("crash")),
    st.tuples(st.just("lose"), st.sampled_from(("before", "after"))),
    st.tuples(st.just("deaf"), st.booleans()),
    st.tuples(st.just("jump"), st.sampled_from((1_000.0, 0.0, 50.0))),
)


async def play(tower: Tower, wish: tuple[Any, ...]) -> None:
    try:
        match wish:
            case ("once", bell, name, after, how):
                await tower.do(SetOnce(after, name=name, how=how), bell)
            case ("every", bell, name, interval, how):
                await tower.do(SetEvery(interval, name=name, how=how), bell)
            case ("silence", bell):
                await tower.do(Silence(), bell)
            case ("pause", pause):
                await asyncio.sleep(pause)
            case ("crash",):
                await tower.again()
            case ("lose", moment):
                tower.log.lose.append(moment)
            case ("deaf", deaf):
                tower.log.deaf = deaf
            case ("jump", jump):
                tower.clock.jump_s = jump
    except (EventStoreError, EntityError, AskTimeout):
        pass  # unknown or undone: the log knows which


@settings(deadline=None, max_examples=examples(150))
@given(todo=st.lists(wishes, max_size=25), seed=st.integers(0, 1 << 32))
def test_no_timer_fires_twice_for_one_due_time_and_none_is_lost(
    todo: list[tuple[Any, ...]], seed: int
) -> None:
    async def test(tower: Tower) -> None:
        for bell in BELLS[1:]:
            await tower.hang(bell)
        for wish in todo:
            await play(tower, wish)
        tower.log.lose.clear()
        tower.log.deaf = False
        await tower.judge()
        await asyncio.sleep(1_500)
        await tower.judge()
        now_ms = tower.clock.now_ms()
        assert all(timer.due_ms > now_ms - 1_000 for timer in await tower.pending()), "none is late"

    in_tower(test, seed)


def timer_of(number: int, due_ms: int, seq: int) -> Timer:
    return Timer("bell/b", f"n{number}", due_ms, "ring", b"{}", 0, seq)


moves = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 12), st.integers(0, 50)),
    st.tuples(st.just("end"), st.integers(0, 12), st.just(0)),
    st.tuples(st.just("begin"), st.just(0), st.just(0)),
    st.tuples(st.just("page"), st.just(0), st.just(0)),
    st.tuples(st.just("again"), st.just(0), st.just(0)),
    st.tuples(st.just("pop"), st.just(0), st.integers(0, 5)),
)


@settings(deadline=None, max_examples=examples(500))
@given(todo=st.lists(moves, max_size=60))
def test_a_window_gives_every_timer_of_the_table_in_the_end(todo: list[tuple[str, int, int]]) -> None:
    window, size = Window(4), 4
    table: dict[bytes, Timer] = {}
    page: list[Timer] | None = None
    now_ms = seq = 0

    def begin() -> list[Timer]:
        after = window.begin_page()
        return sorted((t for t in table.values() if t.key > after), key=lambda t: t.key)[:size]

    def end(rows: list[Timer]) -> None:
        window.end_page([(row.key, row) for row in rows], rows[-1].key if len(rows) == size else None)

    def fire() -> None:
        for key, timer in window.pop(now_ms, 100):
            assert key == timer.key
            if table.get(which(key)) == timer:
                del table[which(key)]

    for move, number, value in todo:
        name = which(due_key(0, "bell/b", f"n{number}"))
        match move:
            case "set":
                seq += 1
                table[name] = timer_of(number, now_ms + 1 + value, seq)
                window.add(table[name])
            case "end" if name in table:
                del table[name]
                window.remove_named(name)
            case "begin" if window.wants_page:
                page = begin()
            case "page" if page is not None:
                end(page)
                page = None
            case "again" if not window.reading:
                window.start_again()
            case "pop":
                now_ms += value
                fire()
        assert len(window) <= 2 * size + 1
    if page is not None:
        end(page)
    for _ in range(100):
        now_ms += 1
        while window.wants_page:
            end(begin())
            fire()
        fire()
    assert table == {}


facts = st.one_of(
    st.tuples(st.just("set"), st.sampled_from("ab"), st.booleans()),
    st.tuples(st.just("fire"), st.sampled_from("ab"), st.booleans()),
    st.tuples(st.just("cancel"), st.sampled_from("ab"), st.booleans()),
)


@given(story=st.lists(facts, max_size=30))
def test_older_firings_of_a_timer_say_nothing_about_what_is_pending(
    story: list[tuple[str, str, bool]],
) -> None:
    fold, now = PendingTimers(), "2026-11-24T10:31:07.114Z"
    whole: dict[str, Timer] = {}
    events: list[StoredEvent] = []
    for seq, (what, name, every) in enumerate(story, 1):
        due_ms = 10 * seq
        fact: TimerSet | TimerFired | TimersCancelled | None = None
        match what:
            case "set":
                fact = TimerSet(now, name, "ring", Raw(b"{}"), due_ms, 5 if every else 0)
            case "fire" if name in whole:
                next_ms = due_ms if whole[name].every_ms else 0
                fact = TimerFired(now, name, whole[name].due_ms, next_ms)
            case "cancel" if whole:
                fact = TimersCancelled(now, sorted(whole))
        if fact is not None:
            body = msgspec.json.encode(fact)
            type_ = msgspec.json.decode(body)["type"]
            event = StoredEvent(seq, "timer/bell/b", seq, type_, body, 1, 0, "bell/b", "", "", 0, "", b"")
            events.append(event)
            fold.evolve(whole, event)
    last = {series_of(event): event.seq for event in events if event.type == "timer_fired"}
    left: dict[str, Timer] = {}
    for event in events:
        if event.type != "timer_fired" or last[series_of(event)] == event.seq:
            fold.evolve(left, event)
    assert left == whole
