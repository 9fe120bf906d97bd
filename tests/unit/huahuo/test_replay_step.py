"""The terminal program: what its keys do, on a screen without a terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Ack
from huahuo.mailcheck.plugin.past import subject_of
from huahuo.replay.history.history import ListHistory
from huahuo.replay.history.timeline import Stepper, View
from huahuo.timetravel.step import StepApp
from tests.support.worlds.replaying import U, tell


class Acked(ListHistory):
    """With one stored ack."""

    async def acks(self, user: str | None = None) -> list[Ack]:
        return [Ack("user/7", "phone", U, 10)]


@asynccontextmanager
async def screen() -> AsyncIterator[tuple[StepApp, Pilot[None]]]:
    """The program over the broken mailbox of the story."""
    history = Acked(tell().history.events, "story")
    subject = await subject_of(history, "mailbox/2")
    assert subject is not None
    app = StepApp(Stepper(history, subject), FakeAmbient())
    async with app.run_test() as pilot:
        await pilot.pause()
        yield app, pilot


def now(app: StepApp) -> View:
    assert app.now is not None
    return app.now


async def answer(pilot: Pilot[None], key: str, text: str) -> None:
    await pilot.press(key)
    await pilot.press(
        *[{" ": "space", "=": "equals_sign", "'": "apostrophe", "@": "at"}.get(c, c) for c in text]
    )
    await pilot.press("enter")
    await pilot.pause()


async def test_it_begins_at_the_newest_event_and_steps_back_and_forward() -> None:
    async with screen() as (app, pilot):
        newest = now(app)
        assert (newest.number, newest.state["status"]) == (newest.count, "error")
        await pilot.press("left")
        await pilot.press("p")
        assert now(app).number == newest.count - 2
        await pilot.press("right")
        assert now(app).number == newest.count - 1
        await pilot.press("home")
        assert (now(app).number, now(app).event) == (0, None)
        await pilot.press("left")
        assert now(app).number == 0
        await pilot.press("end")
        assert now(app) == newest


async def test_it_goes_to_a_moment_finds_text_and_conditions_and_watches_fields() -> None:
    async with screen() as (app, pilot):
        await answer(pilot, "g", "2")
        event = now(app).event
        assert event is not None
        assert event.type == "check_requested"
        await pilot.press("home")
        await answer(pilot, "slash", "processing")
        assert now(app).state["status"] == "processing"
        await answer(pilot, "question_mark", "status == 'error'")
        assert now(app).state["status"] == "error"
        await answer(pilot, "w", "progress")
        assert now(app).watched == [("progress", 100)]
        await answer(pilot, "w", "progress")
        assert now(app).watched == []


async def test_what_it_cannot_understand_or_find_leaves_it_where_it_is() -> None:
    async with screen() as (app, pilot):
        await pilot.press("home")
        for key, text in (("g", "nonsense"), ("question_mark", "= ="), ("slash", "zzz"), ("w", "..")):
            await answer(pilot, key, text)
            assert now(app).number == 0
