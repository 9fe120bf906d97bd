"""An application goes on with another version of its events: what is stored stays, what is shown changes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Principal
from huahuo.actors.plugins.past import together
from huahuo.embedding import calls
from huahuo.replay.history.history import ListHistory
from huahuo.testing.world import AppWorld
from huahuo.timetravel.check import check
from huahuo.timetravel.look import Out


class Note(Struct, frozen=True):
    text: str = ""


class Write(Command, action="write_note", creates=True):
    text: str


class Rewrite(Command, action="rewrite_note"):
    text: str


class Old(Event, type="note_written"):
    words: str


class New(Event, type="note_written"):
    text: str


def notes(version: int, *, wrong: bool = False) -> Huahuo:
    """The application in its first version, which said `words`, or in the second one, which says `text`."""
    note = Entity("note", Note, version=version, keyframe_every=3)
    event: Any = Old if version == 1 else New

    @note.evolve(event)
    def written(state: Note, event: Any) -> Note:
        return Note(event.words if version == 1 else event.text)

    @note.decide
    def write(state: Note, command: Write, ctx: Context) -> Outcome:
        return [event(command.text)]

    @note.decide
    def rewrite(state: Note, command: Rewrite, ctx: Context) -> Outcome:
        return [event(command.text)]

    @note.readers
    def anybody(state: Note, who: Principal) -> bool:
        return True

    if version == 2:

        @note.upcast("note_written", from_version=1)
        def upcast(fields: dict[str, Any]) -> dict[str, Any]:
            if wrong:
                raise ValueError("no such words")
            words = fields.pop("words")
            return {**fields, "text": words}

    return Huahuo(entities=[note])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    """A note that was written by the first version, served by the second one."""
    world = AppWorld(notes(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    world.crash(notes(2))
    world.client(44).send("rewrite_note", note_id=1, text="coffee")
    yield world
    world.close()


def texts(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "timestamp"} for one in events]


SHOWN = [
    {"type": "note_written", "text": "tea", "stream": "note/1", "seq": 1},
    {"type": "note_written", "text": "coffee", "stream": "note/1", "seq": 2},
]


def test_a_client_that_reads_from_the_beginning_gets_todays_form(world: AppWorld) -> None:
    reader = world.client(43)
    reader.follow("note/1")
    assert texts(reader.events("note/1")) == SHOWN


def test_follow_gives_todays_form(world: AppWorld) -> None:
    async def followed() -> list[dict[str, Any]]:
        events = calls.follow(world.running, "note/1")
        return [await anext(events), await anext(events)]

    assert texts(world.run(followed())) == SHOWN


def test_what_is_stored_stays(world: AppWorld) -> None:
    [first, second] = world.run(world.running.log.read("note/1", 0, events_max=9))
    assert (first.version, second.version) == (1, 2)
    assert msgspec.json.decode(first.body)["words"] == "tea"


def test_the_audit_shows_todays_form(world: AppWorld) -> None:
    root = world.client(1, admin=True)
    rows = root.send("audit", entity="note/1")["rows"]
    assert [row["data"]["text"] for row in rows] == ["tea", "coffee"]


def test_time_travel_shows_todays_form(world: AppWorld) -> None:
    [first, _] = world.run(world.running.log.read("note/1", 0, events_max=9))
    past = together([plugin.past for plugin in notes(2).plugins()])
    assert Out(as_json=True, past=past).plain(first)["data"]["text"] == "tea"


def test_an_event_that_no_upcast_can_read_is_followed_and_audited_as_it_is_stored(tmp_path: Path) -> None:
    world = AppWorld(notes(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    world.crash(notes(2, wrong=True))

    async def followed() -> dict[str, Any]:
        return await anext(calls.follow(world.running, "note/1"))

    assert world.run(followed())["words"] == "tea"
    rows = world.client(1, admin=True).send("audit", entity="note/1")["rows"]
    assert [row["data"]["words"] for row in rows] == ["tea"]
    world.close()


def test_events_of_an_application_that_is_gone_are_carried_and_shown_raw(world: AppWorld) -> None:
    world.crash(Huahuo())
    rows = world.client(1, admin=True).send("audit", entity="note/1")["rows"]
    assert [(row["type"], row["data"].get("words")) for row in rows] == [
        ("note_written", "tea"),
        ("note_written", None),
    ]
    past = together([plugin.past for plugin in Huahuo().plugins()])
    [first, _] = world.run(world.running.log.read("note/1", 0, events_max=9))
    assert Out(as_json=True, past=past).plain(first)["data"]["words"] == "tea"
    world.crash(notes(2))
    assert world.state("note", 1)[0] == Note("coffee")


def test_check_names_the_first_event_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = AppWorld(notes(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    world.client(43).send("write_note", text="coffee")
    events = tuple(world.run(world.running.log.read("log", 0, events_max=99)))
    history = ListHistory(events, "notes")

    def checked(application: Huahuo) -> tuple[int, str]:
        past = together([plugin.past for plugin in application.plugins()])
        code = asyncio.run(check(history, len(events), None, None, None, Out(as_json=False, past=past)))
        return code, capsys.readouterr().out

    code, said = checked(notes(2))
    assert (code, "2 of entities folded again, 0 differences" in said) == (0, True)
    code, said = checked(notes(2, wrong=True))
    [first, second] = [event for event in events if event.type == "note_written"]
    assert code == 1
    assert f"first at @{first.position}, note/1" in said
    assert "note_written (version 1) raised ValueError: no such words" in said
    assert "test_evolution.py" in said
    assert second.position > first.position


def test_check_says_which_events_no_handler_knows_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Renamed(Event, type="note_filed"):
        text: str

    note = Entity("note", Note)

    @note.evolve(Renamed)
    def filed(state: Note, event: Renamed) -> Note:
        return Note(event.text)

    world = AppWorld(notes(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    history = ListHistory(world.run(world.running.log.read("log", 0, events_max=99)), "notes")
    past = together([plugin.past for plugin in Huahuo(entities=[note]).plugins()])
    for as_json in (False, True):
        out = Out(as_json=as_json, past=past)
        assert asyncio.run(check(history, history.position, None, None, None, out)) == 1
    said, _, told = capsys.readouterr().out.partition("\n{")
    assert "carried, and without effect: 1 event of note_written: no evolve handles such a type" in said
    assert msgspec.json.decode("{" + told)["unknown"] == {"note_written": 1}


def test_keyframe_every_says_how_far_apart_the_keyframes_of_a_kind_are(world: AppWorld) -> None:
    client = world.client(45)
    for text in ("one", "two", "three", "four", "five"):
        client.send("rewrite_note", note_id=1, text=text)
    world.run(asyncio.sleep(1))
    log, fold = world.running.log, notes(2).plugins()[-1].past.own_subject("note/1")
    assert fold is not None
    part = fold.parts[0].fold
    frame = world.run(log.keyframe("note/1", part.name, part.fingerprint))
    assert frame is not None
    assert frame.seq == 6
