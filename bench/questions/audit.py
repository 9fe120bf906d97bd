"""How fast are verify, the audit questions, and appends while a process asks them?

The guess before the first run: the chain is checked at 350,000 events a second and core, bound by making
Python values of SQLite's rows; a question by entity or principal is one index look-up and a page of rows,
a few milliseconds; a full-text search a little more, because of the counting. A query does not slow
the writer down: it runs in another process and reads another file.

Goals: verify at 500,000 events/s, a question within 50 ms, a search within 200 ms, appends during a
query within 10 % of those alone. Each question is asked for a page of 100 rows, and for a count with facets.
Appends are calls of `publish` of a running service. Those alone and those during queries take turns, and so
does which of them is first.
"""

import asyncio
import os
import shutil
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.harness.answers import answer
from bench.harness.harness import Metric, Options, Sheet
from bench.harness.procs import Child
from bench.questions.make_log import MASTER_KEY, made
from bench.servers.peers.recorders import FIELDS, TYPE
from huahuo import Huahuo
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.audit.query import Where
from huahuo.eventstore.audit.questions import Audit
from huahuo.eventstore.care.verify import verify
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.sqlite.view import SqliteView

EVENTS = 1_000_000
_ASKED = 10
"""How often a question is asked in a round; the median counts."""
_APPEND_CALLERS = 64
_APPEND_S = 1.0
_ambient = SystemAmbient()

WHOLE = (
    Metric("events", "1/s", compare=True),
    Metric("seconds", higher_is_better=False),
)
QUESTIONS = (
    Metric("page", "ms", higher_is_better=False, compare=True),
    Metric("count", "ms with facets", higher_is_better=False, compare=True),
    Metric("matches", "counted up to a bound"),
)
APPENDS = (Metric("events", f"1/s, durable, {_APPEND_CALLERS} appenders", compare=True),)
ALONE, BESIDE = "alone", "while another process asks"


def run(options: Options) -> list[Sheet]:
    """See the module."""
    events = 3_000 if options.quick else EVENTS
    whole = Sheet(f"a log of {events:,} events", WHOLE, baseline="")
    questions = Sheet("questions", QUESTIONS, baseline="")
    appends = Sheet("appends while questions are asked", APPENDS, baseline=ALONE)
    directory = options.folder / "log"
    shutil.copytree(asyncio.run(made(options, events)), directory)  # which is appended to here
    asyncio.run(index(directory, whole))
    for _ in range(options.rounds):
        asyncio.run(verifying(directory, whole))
        asyncio.run(asking(directory, questions, 2 if options.quick else _ASKED))
    seconds = 0.05 if options.quick else _APPEND_S
    asyncio.run(beside(directory, appends, options.rounds, seconds))
    return [whole, questions, appends]


async def index(directory: Path, sheet: Sheet) -> None:
    """Make the index, once: it is the same work every time, and the longest here."""
    view = await SqliteView.open(directory)
    audit = await Audit.open(view, directory / "audit.db")
    try:
        took_s = await _seconds(audit.catch_up)
        sheet.add("made the index", events=view.position / took_s, seconds=took_s)
        sheet.note(f"the index has {(directory / 'audit.db').stat().st_size / view.position:,.0f} B an event")
    finally:
        await audit.close()
        await view.close()


async def verifying(directory: Path, sheet: Sheet) -> None:
    """The whole chain, by one process and by as many as there are cores."""
    view = await SqliteView.open(directory)
    try:
        for processes in (1, os.cpu_count() or 1):
            took_s = await _seconds(lambda: verify(view, view.path, processes=processes))  # noqa: B023  now
            case = f"verified by {processes} process{'es' if processes > 1 else ''}"
            sheet.add(case, events=view.position / took_s, seconds=took_s)
    finally:
        await view.close()


async def asking(directory: Path, sheet: Sheet, times: int) -> None:
    """Questions of every kind."""
    view = await SqliteView.open(directory)
    audit = await Audit.open(view, directory / "audit.db")
    try:
        sample = (await view.read(LOG_STREAM, view.position // 2, events_max=1))[0]
        late = (await audit.page(Where(), after=view.position * 9 // 10, limit=1)).rows[0]
        questions = {
            "entity": Where(entity=sample.entity),
            "principal": Where(principal=sample.principal),
            "stream and type": Where(stream=sample.stream, types=(sample.type,)),
            "principal since": Where(principal=sample.principal, since=late.timestamp),
            "text, common": Where(text="正在"),
            "text, two words": Where(text="正在处理 邮件"),
            "text, rare": Where(text="nothing-of-the-kind"),
            "text and entity": Where(text="正在", entity=sample.entity),
        }
        for name, where in questions.items():
            counted = await audit.count(where)
            pages_s = [await _seconds(lambda: audit.page(where)) for _ in range(times)]  # noqa: B023
            counts_s = [await _seconds(lambda: audit.count(where)) for _ in range(times)]  # noqa: B023
            sheet.add(
                name,
                page=statistics.median(pages_s) * 1e3,
                count=statistics.median(counts_s) * 1e3,
                matches=counted.count,
            )
    finally:
        await audit.close()
        await view.close()


async def beside(directory: Path, sheet: Sheet, rounds: int, seconds: float) -> None:
    """Appends alone and while a process queries without a pause."""
    async with Huahuo(data=directory, port=0, log_level="error", master_key=MASTER_KEY.hex()) as app:
        with Child([sys.executable, "-m", "bench.questions.audit", str(directory)]) as asker:
            await publishing(app, seconds / 4)
            for turn in range(rounds):
                for asks in (True, False) if turn % 2 else (False, True):
                    (asker.resume if asks else asker.pause)()
                    sheet.add(BESIDE if asks else ALONE, events=await publishing(app, seconds))
            asker.resume()


async def publishing(app: Huahuo, seconds: float) -> float:
    """Durable events a second by callers that publish one event each, again and again."""
    count = 0
    until_s = _ambient.monotonic_s() + seconds

    async def caller(number: int) -> None:
        nonlocal count
        while _ambient.monotonic_s() < until_s:
            await app.publish(f"bench/{number}", TYPE, FIELDS)
            count += 1

    began_s = _ambient.monotonic_s()
    await asyncio.gather(*(caller(number) for number in range(_APPEND_CALLERS)))
    return count / (_ambient.monotonic_s() - began_s)


async def ask_forever(directory: Path) -> None:
    """Questions about a live log, ten a second, each for a page, a count and facets; until it is ended."""
    view = await SqliteView.open(directory)
    audit = await Audit.open(view, directory / "audit.db")
    answer({"asking": True})
    while True:
        for where in (Where(entity="mailbox/17"), Where(text="正在处理 邮件"), Where(principal="service")):
            await audit.page(where)
            await audit.count(where)
            await asyncio.sleep(0.1)


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    began_s = _ambient.monotonic_s()
    await work()
    return _ambient.monotonic_s() - began_s


if __name__ == "__main__":
    asyncio.run(ask_forever(Path(sys.argv[1])))
