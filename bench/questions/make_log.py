"""Make a large log as a service would have left it: `python -m bench.questions.make_log DIR --events N`.

Users with mailboxes, one of them with far more than the others, and their checks one after another:
queued, running, progress, mails with a cursor, the end. Each check's events name the one that asked
for it. Rosters leave keyframes as entities do.

It writes to the log itself, because no door leads into the past: times, principals and internal events of
mail are those of a service that ran for weeks. No figure is measured while it writes.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.harness.harness import Options
from huahuo.eventstore.ambient import SystemAmbient, rfc3339
from huahuo.eventstore.model import Append, Keyframe, NewEvent, StoredEvent
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.mailcheck.events import (
    Body,
    CheckEnded,
    CheckProgress,
    CheckProgressed,
    CheckRequested,
    CheckStarted,
    CursorMoved,
    EmailAdded,
    EmailStatusUpdate,
    FoundMail,
    MailboxAdded,
    MailReceived,
)
from huahuo.mailcheck.roster.state import Roster, RosterFold
from huahuo.mailcheck.stored_events import internal, public

MASTER_KEY = bytes(32)
BUILD = "bench"
USERS = 20
MAILBOXES = 50
LARGE_USER_SHARE = 0.4
"""Of all checks that are those of user 1."""
KEYFRAME_EVERY = 1000
START_MS = 1_790_000_000_000
_ROUND_APPENDS = 2000


class Maker:
    """Writes events until there are enough; one append per step of a check."""

    def __init__(self, log: SqliteLog, seed: int) -> None:
        self._log = log
        self._chance = random.Random(seed)
        self._now_ms = START_MS
        self._position = log.position
        self._check_id = 0
        self._mail_id = 0
        self._uids: dict[int, int] = {}
        self._fold = RosterFold()
        self._rosters: dict[str, Roster] = {}
        self._framed: dict[str, int] = {}

    async def make(self, events: int) -> None:
        """Write at least `events` events."""
        await self._write(list(self._accounts()))
        while self._position < events:
            round_: list[Append] = []
            while len(round_) < _ROUND_APPENDS:
                round_ += self._check()
            await self._write(round_)

    async def _write(self, appends: list[Append]) -> None:
        # Principals take turns at the writer, but the order of a check's steps is that of their causes.
        for _, run in groupby(appends, lambda append: append.principal):
            for written in await asyncio.gather(*map(self._log.append, run)):
                await self._evolve(getattr(written, "events", ()))

    async def _evolve(self, events: tuple[StoredEvent, ...]) -> None:
        for event in events:
            if not event.stream.startswith("user/"):
                continue
            state = self._rosters.get(event.stream) or self._fold.initial(event.stream)
            self._rosters[event.stream] = state = self._fold.evolve(state, event)
            if event.seq - self._framed.get(event.stream, 0) >= KEYFRAME_EVERY:
                self._framed[event.stream] = event.seq
                fold = self._fold
                await self._log.put_keyframe(
                    Keyframe(event.stream, fold.name, fold.fingerprint, event.seq, fold.dump(state))
                )

    def _accounts(self) -> Iterator[Append]:
        for user_id in range(1, USERS + 1):
            for number in range(MAILBOXES):
                email_id = (user_id - 1) * MAILBOXES + number + 1
                reached: dict[str, Any] = {
                    "email": f"box{number}@example{user_id}.com",
                    "mail_type": "imap",
                    "server": f"imap{email_id % 7}.example.com",
                    "port": 993,
                    "use_ssl": True,
                }
                yield self._append(
                    f"user/{user_id}",
                    public(
                        user_id, email_id, EmailAdded(timestamp=self._time(), email_id=email_id, **reached)
                    ),
                    internal(
                        email_id,
                        MailboxAdded(
                            timestamp=self._time(), user_id=user_id, secrets=("password",), **reached
                        ),
                    ),
                )

    def _check(self) -> Iterator[Append]:
        chance = self._chance
        user_id = 1 if chance.random() < LARGE_USER_SHARE else chance.randrange(2, USERS + 1)
        email_id = (user_id - 1) * MAILBOXES + chance.randrange(MAILBOXES) + 1
        self._check_id += 1
        self._now_ms += chance.randrange(2_000)
        check_id, now = self._check_id, self._time()

        def status(word: str, message: str) -> NewEvent:
            return public(
                user_id,
                email_id,
                EmailStatusUpdate(
                    timestamp=now, email_id=email_id, status=word, message=message, check_id=check_id
                ),
            )

        def progress(percent: int, message: str) -> NewEvent:
            return public(
                user_id,
                email_id,
                CheckProgress(
                    timestamp=now, email_id=email_id, progress=percent, message=message, check_id=check_id
                ),
            )

        def fact(body: Body) -> NewEvent:
            return internal(email_id, body)

        requested = fact(CheckRequested(timestamp=now, check_id=check_id))
        yield self._append(f"user/{user_id}", status("queued", "等待检查"), requested)
        cause = self._position
        yield self._append(
            "service",
            fact(CheckStarted(timestamp=now, check_id=check_id)),
            status("processing", "正在连接邮箱服务器"),
            progress(0, "正在连接邮箱服务器"),
            cause=cause,
        )
        failed = chance.random() < 0.05
        for percent in (10, 20) if failed else (10, 20, 40, 60, 80, 99):
            yield self._append(
                "service",
                progress(percent, f"正在处理第 {percent} 封邮件"),
                fact(CheckProgressed(timestamp=now, check_id=check_id, progress=percent)),
                cause=cause,
            )
        count = 0 if failed else self._chance.choice((0, 0, 1, 1, 2, 5))
        if count:
            yield self._append("service", *self._mails(user_id, email_id, now, count), cause=cause)
        word = "error" if failed else "ok"
        message = f"检查完成，共 {count} 封新邮件" if count else "没有找到新邮件"
        if failed:
            message = "无法连接邮箱服务器 (mail server cannot be reached)"
        yield self._append(
            "service",
            progress(100, message),
            status(word, message),
            fact(CheckEnded(timestamp=now, check_id=check_id, status=word)),
            cause=cause,
        )

    def _mails(self, user_id: int, email_id: int, now: str, count: int) -> Iterator[NewEvent]:
        found = []
        uid = self._uids.get(email_id, 100)
        for _ in range(count):
            uid += 1
            self._mail_id += 1
            found.append(FoundMail(self._mail_id, uid, 4321, f"{self._mail_id:064x}"))
            yield public(
                user_id,
                email_id,
                MailReceived(
                    timestamp=now,
                    email_id=email_id,
                    mail_id=self._mail_id,
                    subject=f"Your order {self._mail_id} is on its way",
                    sender="Shop <orders@shop.example.com>",
                    received_time=now,
                    folder="INBOX",
                    has_attachments=False,
                ),
            )
        self._uids[email_id] = uid
        moved = CursorMoved(
            timestamp=now, check_id=self._check_id, folder="INBOX", uidvalidity=7, uid=uid, mails=tuple(found)
        )
        yield internal(email_id, moved)

    def _append(self, principal: str, *events: NewEvent, cause: int = 0) -> Append:
        self._position += len(events)
        command_id = f"c-{self._check_id}" if not cause else ""
        return Append(
            ts_ms=self._now_ms, events=events, principal=principal, command_id=command_id, cause=cause
        )

    def _time(self) -> str:
        return rfc3339(self._now_ms)


async def make(directory: Path, events: int, seed: int = 1) -> int:
    """Write a log of at least `events` events into `directory`; gives how many it has."""
    log = await SqliteLog.open(directory, ambient=SystemAmbient(), master_key=MASTER_KEY, build=BUILD)
    try:
        await Maker(log, seed).make(events)
        return log.position
    finally:
        await log.close()


async def made(options: Options, events: int) -> Path:
    """The log with `events` events that all questions of one run share. Only read it."""
    directory = options.shared / f"log-of-{events}"
    if not directory.exists():
        await make(directory, events)
    return directory


def main(arguments: list[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="bench.questions.make_log", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    print(asyncio.run(make(given.directory, given.events, given.seed)), "events")


if __name__ == "__main__":
    main(sys.argv[1:])
