"""Lists of an application: rows of a projection, for those whom the application shows them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from huahuo import (
    Command,
    Context,
    Decision,
    DefinitionError,
    Drop,
    Entity,
    Event,
    Huahuo,
    Outcome,
    Principal,
    Put,
    Refused,
    Rows,
)
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError


class Written(Event, type="note_written"):
    text: str


class Removed(Event, type="note_removed"): ...


class Note(Struct, frozen=True):
    text: str = ""


class Write(Command, action="write_note", creates=True):
    text: str


class Remove(Command, action="remove_note", open=True): ...


class Shelf(Struct, frozen=True):
    shelf: str = ""


def notes() -> Entity[Note]:
    note = Entity("note", Note)

    @note.evolve
    def written(state: Note, event: Written) -> Note:
        return Note(event.text)

    @note.evolve
    def removed(state: Note, event: Removed) -> Note:
        return Note()

    @note.decide
    def write(state: Note, command: Write, ctx: Context) -> Outcome:
        row = Put("notes", str(ctx.user_id), f"{ctx.id:016d}", {"note_id": ctx.id, "text": command.text})
        return Decision([Written(command.text)], rows=[row])

    @note.decide
    def remove(state: Note, command: Remove, ctx: Context) -> Outcome:
        return Decision([Removed()], rows=[Drop("notes", str(ctx.user_id), f"{ctx.id:016d}")])

    return note


def application() -> Huahuo:
    app = Huahuo(entities=[notes()])

    @app.query("get_notes")
    def get_notes(who: Principal) -> Rows:
        return Rows("notes", str(who.user_id))

    @app.query("get_shelf")
    def get_shelf(who: Principal, fields: Shelf) -> Rows | Refused:
        if fields.shelf == "secret":
            return Refused("denied", "this shelf is closed")
        return Rows("shelves", fields.shelf)

    @app.query("get_nothing")
    def get_nothing(who: Principal) -> Any:
        return ["wrong"]

    return app


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(application(), tmp_path / "data")
    yield world
    world.close()


def texts(reply: dict[str, Any]) -> list[str]:
    return [row["text"] for row in reply["data"]]


def test_a_list_comes_in_pages_with_the_highest_key_first_and_each_row_once(world: AppWorld) -> None:
    alice = world.client(42)
    for text in "abcde":
        alice.send("write_note", text=text)
    pages, fields = [alice.send("get_notes", limit=2)], {"limit": 2}
    while pages[-1]["next"] is not None:
        pages.append(alice.send("get_notes", **fields, before=pages[-1]["next"]))
    assert [texts(page) for page in pages] == [["e", "d"], ["c", "b"], ["a"]]


def test_a_list_holds_at_least_what_was_written_up_to_its_position(world: AppWorld) -> None:
    alice = world.client(42)
    alice.send("write_note", text="a")
    page = alice.send("get_notes")
    assert (texts(page), page["position"], page["next"]) == (["a"], 2, None)
    alice.send("remove_note", note_id=1)
    page = alice.send("get_notes")
    assert (texts(page), page["position"]) == ([], 4)
    world.crash()
    assert texts(alice.send("get_notes")) == []


def test_each_user_sees_the_rows_that_the_application_names(world: AppWorld) -> None:
    world.send("write_note", text="a", as_user=42)
    assert texts(world.client(7).send("get_notes")) == []
    assert texts(world.send("get_notes", as_user=42)) == ["a"]


def test_a_page_ends_before_it_becomes_too_large(world: AppWorld) -> None:
    alice = world.client(42)
    for _ in range(3):
        alice.send("write_note", text="x" * 600_000)
    page = alice.send("get_notes")
    assert len(page["data"]) == 1
    assert len(alice.send("get_notes", before=page["next"])["data"]) == 1


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        ("get_shelf", {"shelf": "secret"}, "denied"),
        ("get_shelf", {"shelf": 7}, "invalid_field"),
        ("get_notes", {"limit": 0}, "invalid_field"),
        ("get_notes", {"limit": 1_001}, "invalid_field"),
        ("get_notes", {"before": "x"}, "invalid_field"),
        ("get_notes", {"before": "!!"}, "invalid_field"),
        ("get_notes", {"before": "é=="}, "invalid_field"),
        ("get_nothing", {}, "internal"),
    ],
)
def test_what_cannot_be_listed_is_refused(
    action: str, fields: dict[str, Any], code: str, world: AppWorld
) -> None:
    with pytest.raises(CommandError, match=code):
        world.client(42).send(action, **fields)


@pytest.mark.parametrize("action", ["get_notes", "write_note", "cancel_job", "get notes"])
def test_an_action_that_is_taken_or_no_name_is_an_error_at_the_declaration(action: str) -> None:
    app = application()
    with pytest.raises(DefinitionError, match="test_own_lists"):

        @app.query(action)
        def again(who: Principal) -> Rows:
            return Rows("notes")


def test_a_list_that_is_a_coroutine_is_an_error_at_the_declaration() -> None:
    app = application()
    with pytest.raises(DefinitionError, match=r"test_own_lists.*write def, not async def"):

        @app.query("get_more")
        async def more(who: Principal) -> Rows:
            return Rows("notes")


def test_a_list_takes_who_and_the_fields_of_its_message() -> None:
    app = application()
    with pytest.raises(DefinitionError, match=r"write \(who\), or \(who, fields: YourStruct\)"):

        @app.query("get_more")
        def more(a: int, b: int, c: int) -> Rows:
            return Rows("notes")
