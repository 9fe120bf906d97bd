"""A log whose events fill several pages, and damage of single ones."""

import random
from pathlib import Path

from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.spoilt import as_killed, opened, page_of

STREAMS = tuple(f"s{n}" for n in range(4))

type Truth = dict[str, list[StoredEvent]]


async def left(directory: Path, how: str) -> Truth:
    """A log whose events fill several pages, closed or killed, in `directory` / `how`."""
    log = await opened(directory / "closed")
    rng = random.Random(4)
    truth: Truth = {stream: [] for stream in STREAMS}
    for n in range(60):
        events = [NewEvent(rng.choice(STREAMS), "t", b"%d" % n + b"x" * rng.randrange(300)) for _ in range(5)]
        if n == 20:
            events.append(NewEvent("s1", "large", b"y" * 20_000))
        if n == 59:
            events += [NewEvent(stream, "last", b"z") for stream in STREAMS]
        done = await log.append(Append(ts_ms=n, events=tuple(events)))
        for event in done.events:  # type: ignore[union-attr]
            truth[event.stream].append(event)
    if how == "killed":
        as_killed(directory / "closed", directory / "killed")
    await log.close()
    return truth


def leaves(directory: Path) -> list[int]:
    """Where the pages with events begin, from the first to the last."""
    root = page_of(directory, "event")
    data = (directory / DATABASE).read_bytes()
    count = int.from_bytes(data[root + 3 : root + 5])
    places = [int.from_bytes(data[root + 12 + 2 * n : root + 14 + 2 * n]) for n in range(count)]
    pages = [int.from_bytes(data[root + at : root + at + 4]) for at in places]
    pages.append(int.from_bytes(data[root + 8 : root + 12]))
    return [(page - 1) * PAGE_BYTES for page in pages]


def write(directory: Path, at: int, content: bytes) -> None:
    with (directory / DATABASE).open("r+b") as file:
        file.seek(at)
        file.write(content)
