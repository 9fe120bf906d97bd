"""A follower that wants only some types of events: the others cost it nothing, and it passes them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from huahuo.actors.followers import follower as shell
from huahuo.actors.followers.follower import Followers
from huahuo.actors.followers.spec import Followed, FollowerRun, Spec
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from tests.support.models.faulty_log import faulty_log
from tests.support.worlds.scenario import scenario


class Reader:
    """The function of a follower of mails, and its own database, which is a number."""

    def __init__(self) -> None:
        self.got: list[list[str]] = []
        self.read: list[str] = []
        self.position = 0
        self.passed = asyncio.Event()

    async def cursor(self) -> int:
        return self.position

    async def take(self, events: Sequence[Followed], run: FollowerRun) -> None:
        self.got.append([f"{event.type}@{event.position}" for event in events])
        self.position = run.position
        if not events:
            self.passed.set()

    def event(self, event: StoredEvent) -> Followed:
        self.read.append(event.type)
        return Followed(event.position, event.stream, event.seq, event.type, {})


async def wrote(log: Log, *types: str) -> None:
    events = tuple(NewEvent(stream="user/42", type=type_, body=b"{}") for type_ in types)
    await log.append(Append(ts_ms=1, events=events))


def with_reader(test: Callable[[Log, Reader, Followers], Awaitable[None]]) -> None:
    async def run() -> None:
        log, reader = await faulty_log(), Reader()
        spec = Spec(
            name="mails", kinds={"user"}, types={"mail"}, handler=reader.take, wants_run=True,
            cursor=reader.cursor, passing=True,
        )  # fmt: skip
        followers = Followers([spec], log=log, feed=Feed(log), ambient=FakeAmbient(), read=reader.event)
        await followers.start()
        try:
            await test(log, reader, followers)
        finally:
            await followers.close()

    asyncio.run(run())


@scenario(with_reader)
async def test_it_gets_the_events_of_its_types_and_no_others(
    log: Log, reader: Reader, followers: Followers
) -> None:
    await wrote(log, "mail", "progress", "mail")
    await wrote(log, "progress")
    await wrote(log, "progress", "mail")
    await followers.idle()
    assert [one for batch in reader.got for one in batch] == ["mail@1", "mail@3", "mail@6"]


@scenario(with_reader)
async def test_an_event_of_another_type_is_not_even_read(
    log: Log, reader: Reader, followers: Followers
) -> None:
    await wrote(log, "progress", "progress")
    await followers.idle()
    assert (reader.read, reader.got) == ([], [])
    assert followers.by_name["mails"].lag == 0


def test_after_many_of_other_types_it_is_told_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_SAVE_EVERY", 3)

    async def test(log: Log, reader: Reader, followers: Followers) -> None:
        await wrote(log, "mail")
        await followers.idle()
        for _ in range(2):
            await wrote(log, "progress")
        await reader.passed.wait()
        assert (reader.got, reader.position) == ([["mail@1"], []], 3)

    with_reader(test)
