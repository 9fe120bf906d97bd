"""A command gate over a log in memory, and handlers to call through it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from huahuo.actors.plugins.actions import Action, OneAppend
from huahuo.actors.plugins.calls import Call, Reply, from_record, json_reply
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append, CommandRecord, Duplicate, NewEvent
from huahuo.transport.commands.gate import Gate
from tests.support.models.faulty_log import FaultyLog, faulty_log

CANARY = "canary-pa55w0rd"
DONE = json_reply({"type": "success", "message": "好"})


class Handler:
    """A handler that answers as told and counts its executions."""

    def __init__(self, answer: Callable[[Call[Any]], Awaitable[Reply]] | Reply | Exception) -> None:
        self._answer = answer
        self.executed = 0

    async def __call__(self, made: Call[Any]) -> Reply:
        self.executed += 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer if isinstance(self._answer, Reply) else await self._answer(made)


def spec(handler: Handler, *, query: bool = False, admin: bool = False) -> Action:
    return Action("act", dict, handler, query=query, admin=admin)


class Held(Handler):
    """A handler that answers when told to."""

    def __init__(self) -> None:
        super().__init__(self._slow)
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def _slow(self, _: Call[Any]) -> Reply:
        self.begun.set()
        await self.go.wait()
        return DONE


class World:
    """A gate over a real log in memory."""

    def __init__(self, log: FaultyLog, **options: Any) -> None:
        self.log = log
        self.ambient = FakeAmbient()
        self.observed: list[tuple[str, str]] = []
        self.gate = Gate(log, self.ambient, observe=lambda a, o, s: self.observed.append((a, o)), **options)

    async def record(self, made: Call[Any], reply: Reply) -> Reply:
        """What is answered to a call whose answer was found before any handler ran."""
        answer: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self.gate.record(made, reply, answer.set_result)
        found = await answer
        assert found is not None
        return found

    def one_append(self) -> Action:
        """An action whose handler is no coroutine: all that it does is one append."""
        event = NewEvent("user/42", "done", b'{"type":"done"}')
        return Action("act", dict, lambda _: OneAppend(1, (event,), DONE.body))

    def appending(self) -> Handler:
        """A handler with an effect: one event, kept with its answer in one append."""

        async def handle(made: Call[Any]) -> Reply:
            record = None
            if made.key is not None:
                record = CommandRecord(made.key, made.fingerprint, DONE.body, "user/42")
            event = NewEvent("user/42", "done", b'{"type":"done"}')
            written = await self.log.append(Append(ts_ms=1, events=(event,), command=record))
            if isinstance(written, Duplicate):
                return from_record(written.command)
            return Reply(DONE.body, ("user/42", written.seq_of("user/42")), recorded=record is not None)

        return Handler(handle)


async def world(**options: Any) -> World:
    return World(await faulty_log(), **options)
