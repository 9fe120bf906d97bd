"""An application whose events changed: it starts only if it can read its log, and shows today's form."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Principal
from huahuo.actors.plugins.past import together
from huahuo.app import application
from huahuo.app.foundation import World
from huahuo.cli.doctor import examine
from huahuo.embedding import calls
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.log import open_log
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.options import table
from huahuo.replay.history.history import ListHistory
from huahuo.testing.world import AppWorld
from huahuo.timetravel.check import check
from huahuo.timetravel.look import Out
from huahuo.transport.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer


class Note(Struct, frozen=True):
    texts: tuple[str, ...] = ()


class Write(Command, action="write_note", creates=True): ...


class First(Event, type="note_written"):
    text: str


class Many(Event, type="note_written"):
    text: str
    tags: list[str]


class Renamed(Event, type="note_written"):
    words: str


class RenamedWithDefault(Event, type="note_written"):
    words: str = ""


class Retyped(Event, type="note_written"):
    text: int


class OtherType(Event, type="note_put"):
    text: str


class WithDefault(Event, type="note_written"):
    text: str
    tags: tuple[str, ...] = ()


class Wider(Event, type="note_written"):
    text: str | int | None


def notes(event: Any, **more: Any) -> Huahuo:
    """An application that writes this event."""
    note = Entity("note", Note, **more)
    text = 7 if event is Retyped else "tea"

    @note.evolve(event)
    def written(state: Note, event: Any) -> Note:
        return Note((*state.texts, str(getattr(event, "text", "?"))))

    @note.decide
    def write(state: Note, command: Write, ctx: Context) -> Outcome:
        made: dict[str, Any] = {"tags": []} | dict.fromkeys(("text", "words"), text)
        return [event(**{name: made[name] for name in event.__struct_fields__})]

    note.readers(lambda state, who: True)
    if note.version > 1:
        note.upcast("note_written", from_version=1)(lambda fields: {"words": fields["text"]})
    return Huahuo(entities=[note])


async def on_sqlite(folder: Path, *apps: Huahuo) -> None:
    """Each of them starts on the log of the one before, writes and stops."""
    for app in apps:
        app.settings |= {"data": folder, "port": 0}
        async with app:
            await app.send("write_note")


WRONG = [
    (
        Many,
        "the field 'tags', which has no default, is not in all of them: give it a default, or write",
    ),
    (
        Renamed,
        "the field 'words', which has no default, is not in all of them: give it a default, or write",
    ),
    (RenamedWithDefault, "their field 'text' is missing now: keep it, with a default, or write version=2"),
    (Retyped, "the field 'text' was str there and is int now: give the field its old type,"),
    (
        OtherType,
        "no evolve takes them: keep a class with type='note_written' and its evolve, or write retired=",
    ),
]


@pytest.mark.parametrize(("event", "said"), WRONG)
async def test_events_that_changed_without_an_upcast_are_refused_at_the_start(
    tmp_path: Path, event: type, said: str
) -> None:
    with pytest.raises(ConfigError, match="note_written") as refused:
        await on_sqlite(tmp_path, notes(First), notes(event))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    await on_sqlite(tmp_path, notes(First))  # nothing was written: the former version goes on


@pytest.mark.parametrize(
    "apps",
    [
        (notes(First), notes(WithDefault), notes(First), notes(WithDefault)),
        (notes(First), notes(Wider), notes(Wider)),
        (notes(First), notes(Renamed, version=2), notes(Renamed, version=2)),
        (notes(First), notes(OtherType, retired=["note_written"])),
        (notes(First), Huahuo(), notes(First)),
    ],
    ids=["default", "wider", "upcast", "retired", "without the entity"],
)
async def test_what_can_be_read_starts(tmp_path: Path, apps: tuple[Huahuo, ...]) -> None:
    for app in apps:
        app.settings |= {"data": tmp_path, "port": 0}
        async with app:
            if app.entities.catalog.by_action.get("write_note"):
                await app.send("write_note")


async def test_a_type_that_was_widened_is_not_narrowed_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'text' was int there and is str now"):
        await on_sqlite(tmp_path, notes(First), notes(Wider), notes(First))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_fold_that_fails_is_not_told_as_a_right(tmp_path: Path, workers: int) -> None:
    await on_sqlite(tmp_path, *[notes(First)] * 4)
    broken = Huahuo(entities=[failing()], data=tmp_path, port=0, workers=workers)
    async with broken, client(broken.url) as http:
        root, user = broken.token(1, admin=True), broken.token(42)
        for path, token, accept in (
            ("/streams/note/1", root, "application/json"),
            ("/streams/note/2", user, "text/event-stream"),
            ("/ds/note/3?offset=-1", user, "application/json"),
        ):
            answer = await http.get(path, headers={"Authorization": f"Bearer {token}", "Accept": accept})
            assert answer.status_code == 500
            assert "the application's code fails on its events" in answer.text
        async with Client(broken.url, token=user) as reader:
            with pytest.raises(CommandError, match="corrupt"):
                await anext(reader.events("note/4"))


def failing() -> Entity[Note]:
    """The kind whose fold fails, as after a mistake in an `evolve`."""
    note = Entity("note", Note)

    @note.evolve
    def written(state: Note, event: First) -> Note:
        raise KeyError(event.text)

    note.readers(lambda state, who: True)
    return note


async def test_nodes_over_one_ordered_log_refuse_and_carry_alike(tmp_path: Path) -> None:
    order = MemoryOrder()

    def node(name: str, app: Huahuo) -> Huahuo:
        async def opened(*_: object) -> Log:
            way = MemorySequencer(order)
            key = b"k" * 32
            return await open_log(
                tmp_path / name, ambient=SystemAmbient(), master_key=key, build="t", sequencer=way, node=name
            )

        world = World(open_log=opened)
        entities = [one for kind, one in app.entities.catalog.by_kind.items() if kind != "job"]
        return Huahuo(entities=entities, data=tmp_path / name, port=0, world=world, jwt_secret="s" * 32)

    async with node("a", notes(First)) as a, node("b", notes(First)) as b:
        await a.send("write_note")
        await b.send("write_note")
    with pytest.raises(ConfigError, match="the field 'words'"):
        await node("b", notes(Renamed)).start()
    async with node("b", notes(Renamed, version=2)) as newer, node("a", notes(First)) as older:
        await newer.send("write_note")
        await older.send("write_note")
    with pytest.raises(ConfigError, match="start the version of the application that wrote it"):
        await node("a", notes(First)).start()


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        (notes(RenamedWithDefault), True),
        (notes(OtherType), True),
        (notes(OtherType, retired=["note_written"]), False),
        (notes(WithDefault), False),
    ],
    ids=["renamed", "type", "retired", "default"],
)
async def test_the_doctor_and_the_replay_check_say_it_before_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: Huahuo, wrong: bool
) -> None:
    await on_sqlite(tmp_path, notes(First))
    application.choose(after, "noted:after")
    try:
        settings = table().load(environ={}, flags={"data": tmp_path, "port": 0})
        findings = [one for one in await examine(settings, SystemAmbient(), {}) if one.about == "events"]
        view = await SqliteView.open(tmp_path)
        out = Out(as_json=False, past=together([one.past for one in after.plugins()]))
        code = await check(view, view.position, None, None, None, out)
        await view.close()
    finally:
        application.choose(None)
    assert (code, [one.level for one in findings]) == ((1, ["error"]) if wrong else (0, []))
    if wrong:
        after.settings |= {"data": tmp_path, "port": 0}
        with pytest.raises(ConfigError) as refused:
            await after.start()
        assert findings[0].text == str(refused.value)
        assert findings[0].text in " ".join(capsys.readouterr().out.split())


class Page(Struct, frozen=True):
    text: str = ""


class WritePage(Command, action="write_note", creates=True):
    text: str


class Rewrite(Command, action="rewrite_note"):
    text: str


class Old(Event, type="note_written"):
    words: str


class New(Event, type="note_written"):
    text: str


def pages(version: int, *, wrong: bool = False) -> Huahuo:
    """The application in its first version, which said `words`, or in the second one, which says `text`."""
    note = Entity("note", Page, version=version, keyframe_every=3)
    event: Any = Old if version == 1 else New

    @note.evolve(event)
    def written(state: Page, event: Any) -> Page:
        return Page(event.words if version == 1 else event.text)

    @note.decide
    def write(state: Page, command: WritePage, ctx: Context) -> Outcome:
        return [event(command.text)]

    @note.decide
    def rewrite(state: Page, command: Rewrite, ctx: Context) -> Outcome:
        return [event(command.text)]

    @note.readers
    def anybody(state: Page, who: Principal) -> bool:
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
    world = AppWorld(pages(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    world.crash(pages(2))
    world.client(44).send("rewrite_note", note_id=1, text="coffee")
    yield world
    world.close()


def texts(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "timestamp"} for one in events]


SHOWN = [
    {"type": "note_written", "text": "tea", "stream": "note/1", "seq": 1},
    {"type": "note_written", "text": "coffee", "stream": "note/1", "seq": 2},
]


def test_each_who_reads_gets_todays_form_and_what_is_stored_stays(world: AppWorld) -> None:
    reader = world.client(43)
    reader.follow("note/1")
    assert texts(reader.events("note/1")) == SHOWN
    assert texts(world.run(followed(world, 2))) == SHOWN
    rows = world.client(1, admin=True).send("audit", entity="note/1")["rows"]
    assert [row["data"]["text"] for row in rows] == ["tea", "coffee"]
    [first, second] = world.run(world.running.log.read("note/1", 0, events_max=9))
    assert (first.version, second.version) == (1, 2)
    assert msgspec.json.decode(first.body)["words"] == "tea"
    past = together([plugin.past for plugin in pages(2).plugins()])
    assert Out(as_json=True, past=past).plain(first)["data"]["text"] == "tea"


async def followed(world: AppWorld, count: int) -> list[dict[str, Any]]:
    events = calls.follow(world.running, "note/1")
    return [await anext(events) for _ in range(count)]


def test_an_event_that_no_upcast_can_read_is_followed_and_audited_as_it_is_stored(tmp_path: Path) -> None:
    world = AppWorld(pages(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    world.crash(pages(2, wrong=True))
    [shown] = world.run(followed(world, 1))
    assert shown["words"] == "tea"
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
    world.crash(pages(2))
    assert world.state("note", 1)[0] == Page("coffee")


def test_check_names_the_first_event_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = AppWorld(pages(1), tmp_path / "data")
    world.client(42).send("write_note", text="tea")
    world.client(43).send("write_note", text="coffee")
    events = tuple(world.run(world.running.log.read("log", 0, events_max=99)))
    history = ListHistory(events, "notes")

    def checked(application: Huahuo) -> tuple[int, str]:
        past = together([plugin.past for plugin in application.plugins()])
        code = asyncio.run(check(history, len(events), None, None, None, Out(as_json=False, past=past)))
        return code, capsys.readouterr().out

    code, said = checked(pages(2))
    assert (code, "2 of entities folded again, 0 differences" in said) == (0, True)
    code, said = checked(pages(2, wrong=True))
    [first, second] = [event for event in events if event.type == "note_written"]
    assert code == 1
    assert f"first at @{first.position}, note/1" in said
    assert "note_written (version 1) raised ValueError: no such words" in said
    assert "test_shapes.py" in said
    assert second.position > first.position


def test_check_says_which_events_no_handler_knows_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Renamed(Event, type="note_filed"):
        text: str

    note = Entity("note", Page)

    @note.evolve(Renamed)
    def filed(state: Page, event: Renamed) -> Page:
        return Page(event.text)

    world = AppWorld(pages(1), tmp_path / "data")
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
    log, fold = world.running.log, pages(2).plugins()[-1].past.own_subject("note/1")
    assert fold is not None
    part = fold.parts[0].fold
    frame = world.run(log.keyframe("note/1", part.name, part.fingerprint))
    assert frame is not None
    assert frame.seq == 6
