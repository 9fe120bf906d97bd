"""`python -m tests.support.soak --minutes 30`; `make soak` calls it. See the room.

First clients come and go for a while, so that all that is made once is made. When all are gone, what the
service holds is the base line. Then they come and go for the minutes asked for, and at the end the same must
be left: memory, descriptors, tasks and timers. How each of them rises under load is printed too.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.processes import Child, free_port, raise_files_max
from huahuo.app import credentials
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.chaos.crowd import Member
from tests.support.chaos.judging import complaints
from tests.support.checkers.history import History
from tests.support.checkers.work_side import back_at_base_line
from tests.support.drivers.http import ask
from tests.support.soak.guests import CIRCLES, MAIL_PASSWORD, AnyonesImap, Guests
from tests.support.soak.samples import Samples
from tests.support.soak.service import SECRET

JUDGED = ("tasks", "timers", "descriptors", "but for pages")
WARM_S = 30.0
REST_S = 75.0
"""How long after the last client what is left is looked at: a minute after any storm (I25), and a bit."""
MEMBERS, GUESTS = 40, 8
RATE = 20.0
"""Messages a second of all members together."""


def main() -> int:
    """Run, and print what was found. 0: all is back, and no client missed or got anything twice."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="for how long clients come and go")
    parser.add_argument("--seed", type=int, default=1, help="of what they do")
    parser.add_argument("--warm", type=float, default=WARM_S, help="seconds until the base line")
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds behind the last client")
    given = parser.parse_args()
    raise_files_max()
    with tempfile.TemporaryDirectory(prefix="huahuo-soak-") as folder:
        command = [sys.executable, "-m", "tests.support.soak.service", str(Path(folder) / "data")]
        with Child(command) as child:
            found = asyncio.run(_soak(child, given))
    for text in found:
        print(f"NOT BACK: {text}")
    print("failed" if found else "all is back at its base line, and no client missed anything")
    return bool(found)


async def _soak(child: Child, given: argparse.Namespace) -> list[str]:
    url, seconds = child.hello["url"], given.minutes * 60
    imap = AnyonesImap("", MAIL_PASSWORD, [b"Subject: hello\r\n\r\nworld"])
    port = free_port()
    mail = asyncio.create_task(imap.serve(port, "127.0.0.1"))
    try:
        samples = Samples(child)
        guests = Guests(url, _token, port, given.seed)
        print(f"warming up for {given.warm:.0f} s", flush=True)
        found = await _load(url, guests, given.warm, 0)
        await samples.rest(given.rest)
        before = samples.last
        guests.came.clear()
        print(
            f"base line {before}; {seconds:.0f} s of {MEMBERS} members and {GUESTS} guests at a time",
            flush=True,
        )
        samples.begin()
        found += await _load(url, guests, seconds, MEMBERS, samples)
        risen = samples.end()
        await samples.rest(given.rest)
        print(samples.table(before, risen))
        print(f"of the memory: {', '.join(await asyncio.to_thread(gauges, url))}")
        print("guests: " + ", ".join(f"{kind} {count:,}" for kind, count in sorted(guests.came.items())))
        return [*found, *guests.faults[:5], *left_over(before, samples.last)]
    finally:
        mail.cancel()
        await asyncio.gather(mail, return_exceptions=True)


def left_over(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What is not back at its base line."""
    history = History(base_lines=[(what, float(before[what]), float(after[what])) for what in JUDGED])
    verdict = back_at_base_line(history)
    return [] if verdict.holds else [verdict.text]


def gauges(url: str) -> list[str]:
    """What the service itself says of its memory."""
    lines = ask(f"{url}/metrics").text.splitlines()
    return [
        line.removeprefix("huahuo_")
        for line in lines
        if line.partition(" ")[0].endswith(("_bytes", "_memory"))
    ]


async def _load(
    url: str, guests: Guests, seconds: float, first: int, samples: Samples | None = None
) -> list[str]:
    """Members and guests for a while; what the members complain of at the end."""
    over, leaving = asyncio.Event(), asyncio.Event()
    members = [
        Member(number, url, lambda n: _token(n + 1), MEMBERS / RATE)
        for number in range(first, first + MEMBERS)
    ]
    running = [asyncio.create_task(member.run(over)) for member in members]
    visiting = [asyncio.create_task(guests.visit(leaving)) for _ in range(GUESTS)]
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        await asyncio.sleep(min(5.0, max(0.0, until_s - time.monotonic())))
        if samples is not None:
            samples.take()
    leaving.set()
    for member in members:
        member.stop_writing()
    await asyncio.gather(*visiting)
    await _all_read(members)
    over.set()
    await asyncio.gather(*running)
    return complaints(members)


async def _all_read(members: Sequence[Member]) -> None:
    """Wait until all members of a circle have as much as the others; not longer than a minute."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        written = sum(len(member.acknowledged) for member in members)
        read = {member.stream: len(member.got) for member in members}
        same = all(len(member.got) == read[member.stream] for member in members)
        if same and sum(read.values()) >= written:
            return
        await asyncio.sleep(0.2)


def _token(number: int) -> str:
    return credentials.mint(
        SECRET.encode(), SystemAmbient(), user_id=number, username=f"u{number}", admin=True,
        groups=CIRCLES, ttl_s=86_400,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
