"""Time travel compares an application with another version of it: a folder, or a commit of its repository."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.app import application
from huahuo.app.application import load
from huahuo.embedding.huahuo import Huahuo
from huahuo.errors import ConfigError
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.timetravel.check import examine, said_counts
from huahuo.timetravel.findings import Report

APP = """
from msgspec import Struct
from huahuo import Command, Entity, Event, Huahuo

class Written(Event, type="note_written"):
    text: str
class Note(Struct, frozen=True):
    text: str = ""
class Write(Command, action="write_note", creates=True):
    text: str

note = Entity("note", Note)

@note.evolve
def written(state: Note, event: Written) -> Note:
    return Note(event.text)
@note.decide
def write(state: Note, command: Write, ctx):
    return [Written(command.text)]

app = Huahuo(entities=[note], data="data", port=0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That of the application `noted:app`, which is chosen."""
    (tmp_path / "noted.py").write_text(APP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "noted", raising=False)
    application.choose(load("noted:app"), "noted:app")
    yield tmp_path
    application.choose(None)


async def compared(folder: Path, code: Path | None, ref: str | None) -> Report:
    app = application.chosen()
    assert isinstance(app, Huahuo)
    async with app:
        for text in ("tea", "coffee"):
            await app.send("write_note", text=text)
    view = await SqliteView.open(folder / "data")
    try:
        return await examine(app.entities.past, view, view.position, code, ref)
    finally:
        await view.close()


def other(folder: Path) -> None:
    """Another version of the application."""
    folder.mkdir(exist_ok=True)
    (folder / "noted.py").write_text(
        APP.replace("Note(event.text)", "Note(event.text[:3])"), encoding="utf-8"
    )


async def test_a_folder_with_another_version_is_compared_state_by_state(folder: Path) -> None:
    other(folder / "old")
    report = await compared(folder, folder / "old", None)
    [difference] = report.differences
    assert (difference.kind, difference.entity) == ("state", "note/2")
    assert difference.what == ['text: today\'s "coffee", the other "cof"']
    assert difference.line == "noted.py:16"
    assert said_counts(report) == f"{report.events} events, 1 difference"


async def test_a_commit_of_the_applications_repository_is_compared(folder: Path) -> None:
    other(folder)
    for words in (["init", "-q"], ["add", "noted.py"], ["commit", "-q", "-m", "first"]):
        name = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *name, *words], cwd=folder, check=True)  # noqa: ASYNC221  nothing else runs
    (folder / "noted.py").write_text(APP, encoding="utf-8")
    [difference] = (await compared(folder, None, "HEAD")).differences
    assert (difference.kind, difference.entity) == ("state", "note/2")


async def test_a_folder_without_the_application_is_refused(folder: Path) -> None:
    (folder / "none").mkdir()
    with pytest.raises(ConfigError, match=r"holds no version of noted:app \(there is no noted.py in it\)"):
        await compared(folder, folder / "none", None)
