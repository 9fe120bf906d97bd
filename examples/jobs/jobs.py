"""A job runner: work with progress bars that its user watches and cancels in the browser.

Run it with `python jobs.py` and open the address that it prints, or serve `huahuo serve --app jobs:app`.
"""

import asyncio
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Huahuo,
    HuahuoError,
    Outcome,
    Principal,
    Refused,
    UserId,
)

SHOWN = 20
FILES_MAX = 10_000
FILE_S = 0.05


class Opened(Event, type="desk_opened"):
    owner: UserId


class Wanted(Event, type="desk_job_wanted"):
    number: int


class Began(Event, type="desk_job_began"):
    number: int
    job_id: int


class Entry(Struct, frozen=True):
    number: int
    job_id: int


class Desk(Struct, frozen=True):
    owner: UserId | None = None
    wanted: int = 0
    jobs: tuple[Entry, ...] = ()


class OpenDesk(Command, action="open_desk", creates=True): ...  # the message carries `desk_id`


class StartJob(Command, action="start_job"):
    title: str
    files: int


class Work(Effect):
    number: int
    title: str
    files: int


desk = Entity("desk", Desk, key=str)  # desk/1 belongs to user 1: which jobs are theirs


@desk.evolve
def opened(state: Desk, event: Opened) -> Desk:
    return replace(state, owner=event.owner)


@desk.evolve
def wanted(state: Desk, event: Wanted) -> Desk:
    return replace(state, wanted=event.number)


@desk.evolve
def began(state: Desk, event: Began) -> Desk:
    return replace(state, jobs=(*state.jobs, Entry(event.number, event.job_id))[-SHOWN:])


@desk.decide
def open_desk(state: Desk, command: OpenDesk, ctx: Context) -> Outcome:
    if str(ctx.user_id) != ctx.id:
        return Refused("forbidden", "a desk has the id of its user")
    return [Opened(owner=ctx.user_id or 0)] if state.owner is None else []


@desk.decide
def start_job(state: Desk, command: StartJob, ctx: Context) -> Outcome:
    if not 0 < command.files <= FILES_MAX:
        return Refused("invalid_field", f"files: 1 to {FILES_MAX}")
    number = state.wanted + 1
    return Decision([Wanted(number=number)], effects=[Work(number, command.title, command.files)])


@desk.effect(retries=0, at_once=4)
async def work(task: Work, run: EffectRun) -> None:
    if any(entry.number == task.number for entry in run.state.jobs):
        return  # a crash cut the work short and ended its job as `interrupted`: its user decides what follows
    async with app.job(task.title, user=run.state.owner) as job:
        await run.emit(Began(number=task.number, job_id=job.id))
        for done in range(1, task.files + 1):
            await asyncio.sleep(FILE_S)  # the work itself; a cancel ends the block here
            await job.progress(100 * done // task.files, f"{done} of {task.files} files")


@desk.readers
def may_read(state: Desk, who: Principal) -> bool:
    return who.user_id == state.owner


app = Huahuo(entities=[desk], data="jobs-data")


async def main() -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(Path(__file__).parent))
    pages = ThreadingHTTPServer(("127.0.0.1", 8000), handler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    async with app:
        print(f"http://127.0.0.1:8000/jobs.html#{app.token(1, 'alice')}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except (OSError, HuahuoError) as error:
        sys.exit(f"{error}: ports 8000 and 8765 must be free, so end the other example or program first")
