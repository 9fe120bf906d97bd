"""`huahuo projections` as an operator uses it: with a running service and without one."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.patience import WITHIN_S, until
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

APP = """
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from huahuo import After, Command, Context, Decision, Entity, Event, Followed, Huahuo, Outcome, Put

class Written(Event, type="note_written"):
    text: str
class Note(Struct, frozen=True):
    text: str = ""
class Write(Command, action="write_note", creates=True):
    text: str
class Fade(Command): ...

note = Entity("note", Note)

@note.evolve
def written(state: Note, event: Written) -> Note:
    return Note(event.text)
@note.decide
def write(state: Note, command: Write, ctx: Context) -> Outcome:
    row = Put("notes", "", f"{ctx.id:016d}", command.text)
    return Decision([Written(command.text)], rows=[row], effects=[After(86_400, Fade())])
@note.decide
def fade(state: Note, command: Fade, ctx: Context) -> Outcome:
    return []
@note.rows("lengths")
def lengths(state: Note, id: int) -> list[Put]:
    return [Put("lengths", "", f"{len(state.text):04d} {id}", id)]
@note.readers
def may_read(state: Note, who: object) -> bool:
    return True

app = Huahuo(entities=[note], plugins=[])

@app.follower("notes-to-file", kinds=["note"], retries=0)
async def to_file(events: Sequence[Followed]) -> None:
    if any(event.data["text"] == "bad" for event in events) and not Path("repaired").exists():
        raise RuntimeError
    with Path("out.txt").open("a") as file:
        file.writelines(f"{event.stream}\\n" for event in events)
"""


class Desk:
    """The application in its folder, and the commands about it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.data = folder / "data"
        (folder / "desk.py").write_text(APP, encoding="utf-8")
        monkeypatch.chdir(folder)

    def run(self, *words: str, code: int = 0) -> str:
        """A command of the group, and what it printed."""
        where = ("--data", str(self.data), "--app", "desk:app")
        done = huahuo("projections", *words, *where, **KEYS)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr.strip()

    def listed(self) -> dict[str, dict[str, Any]]:
        """What `list` says, by name."""
        rows = [json.loads(line) for line in self.run("list", "--json").splitlines()]
        return {row["name"]: row for row in rows}

    def wrote(self) -> list[str]:
        """What the follower wrote."""
        file = self.folder / "out.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def settled(self) -> dict[str, dict[str, Any]]:
        """`listed`, once the follower has a place behind all that it was given: it writes before it has."""
        self.until(lambda: self.listed()["notes-to-file"]["state"] == "up to date")
        return self.listed()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that the follower does by itself."""
        until(true, lambda: (self.folder / "serve.log").read_text(encoding="utf-8")[-2000:])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def write(server: Serving, *texts: str) -> None:
    """Write notes, as a client."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(42, "alice")) as client:
            for text in texts:
                await client.send("write_note", text=text)

    asyncio.run(main())


def test_a_running_service_tells_pauses_resumes_and_retries(desk: Desk) -> None:
    with serving(desk.data, app="desk:app", folder=desk.folder) as server:
        write(server, "a", "bad", "b")
        desk.until(lambda: desk.wrote() == ["note/1", "note/3"])
        rows = desk.settled()
        assert set(rows) == {"timers", "notes", "lengths", "notes-to-file"}
        assert (rows["notes"]["what"], rows["notes"]["lag"]) == ("rows", 0)
        told = rows["notes-to-file"]
        assert (told["what"], told["dead_letters"], told["state"]) == ("follower", 1, "up to date")
        assert desk.run("pause", "notes-to-file") == "notes-to-file: paused\n"
        write(server, "c")
        paused = desk.listed()["notes-to-file"]
        assert (paused["state"], paused["lag"] > 0) == ("paused", True)
        assert desk.run("resume", "notes-to-file") == "notes-to-file: goes on\n"
        desk.until(lambda: desk.wrote()[-1] == "note/4")
        (desk.folder / "repaired").touch()
        assert desk.run("retry", "notes-to-file") == "notes-to-file: 1 dead letter is tried again\n"
        desk.until(lambda: desk.wrote()[-1] == "note/2")
        desk.until(lambda: desk.listed()["notes-to-file"]["dead_letters"] == 0)
        assert desk.run("rebuild", "notes") == "notes: made anew from 4 changes of rows\n"
        assert desk.run("rebuild", "lengths") == "lengths: made anew from 4 rows of states\n"
        refused = desk.run("rebuild", "timers", code=1)
        assert "a service runs on" in refused
        assert len(refused.splitlines()) == 1
        assert "there is no follower 'nobody'" in desk.run("pause", "nobody", code=1)


def test_without_a_service_the_same_is_done_in_the_directory(desk: Desk) -> None:
    with serving(desk.data, app="desk:app", folder=desk.folder) as server:
        write(server, "a", "bad")
        desk.until(lambda: desk.wrote() == ["note/1"])
        desk.settled()
        assert server.stop() == 0
        assert desk.listed()["notes-to-file"]["dead_letters"] == 1
        assert "\tnotes-to-file" not in desk.run("list"), "one line a name, which begins it"
        (desk.folder / "repaired").touch()
        desk.run("pause", "notes-to-file")
        desk.run("retry", "notes-to-file")
        assert desk.run("rebuild", "notes") == "notes: made anew from 2 changes of rows\n"
        assert desk.run("rebuild", "lengths") == "lengths: made anew from 2 rows of states\n"
        alone = huahuo("projections", "rebuild", "lengths", "--data", str(desk.data), **KEYS)
        assert "say --app MODULE:NAME" in alone.stderr
        assert desk.run("rebuild", "timers") == "timers: made anew from 2 timers\n"
        server.start()
        assert desk.listed()["notes-to-file"]["state"] == "paused"
        assert desk.wrote() == ["note/1"]
        desk.run("resume", "notes-to-file")
        desk.until(lambda: desk.wrote() == ["note/1", "note/2"])
        server.stop()
        assert "is a follower" in desk.run("rebuild", "notes-to-file", code=2)
        assert "is a table" in desk.run("pause", "notes", code=2)
        assert "there is no table 'nothing'" in desk.run("rebuild", "nothing", code=2)
        assert "there is no follower 'nobody'" in desk.run("retry", "nobody", code=2)
        report = huahuo("doctor", "--data", str(desk.data), **KEYS).stdout
        assert "followers: 1, the last of them" in report


def test_a_directory_without_a_log_is_one_line(desk: Desk) -> None:
    assert "there is no log in" in desk.run("list", code=2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ('kinds=["nite"]', "desk.py:38: follower('notes-to-file'): no entity is of the kind 'nite'"),
        ("kinds=[]", "follower('notes-to-file'): it follows nothing"),
    ],
)
def test_a_follower_that_cannot_work_ends_the_start_with_one_line(desk: Desk, wrong: str, says: str) -> None:
    app = desk.folder / "desk.py"
    app.write_text(APP.replace('kinds=["note"]', wrong), encoding="utf-8")
    done = huahuo("serve", "--app", "desk:app", "--data", str(desk.data), "--port", "0", **KEYS)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_index_of_a_plug_in_is_made_anew_with_a_service_and_without_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rebuild = ("projections", "rebuild", "mail-search", "--data", str(data))
    with serving(data) as server:
        listed = huahuo("projections", "list", "--json", "--data", str(data), **KEYS).stdout
        rows = {row["name"]: row for row in map(json.loads, listed.splitlines())}
        assert rows["mail-search"]["what"] == "index"
        assert huahuo(*rebuild, **KEYS).stdout == "mail-search: is made anew from the log, now\n"
        assert server.stop() == 0
    assert huahuo(*rebuild, **KEYS).stdout == "mail-search: is made anew from the log, with the next start\n"
    assert not (data / "mail-search.db").exists()


def test_lists_into_a_pipe_begin_with_the_columns_names_between_tabs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data):
        names, *rows = huahuo("projections", "list", "--data", str(data), **KEYS).stdout.splitlines()
        assert names.split("\t") == ["name", "what", "cursor", "lag", "state", "dead letters", "error"]
        assert {len(row.split("\t")) for row in rows} == {7}
        names, own, _count = huahuo("clients", "--data", str(data), **KEYS).stdout.splitlines()
        assert names.split("\t") == ["user", "name", "client", "connected at", "events behind", "streams"]
        assert own.split("\t")[:2] == ["user/0", "huahuo"]
