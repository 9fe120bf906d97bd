"""Where events come from: the same ways of publishing inside every server that is measured.

`upto` publishes as fast as it can, up to a number that the harness raises as receivers keep up. `rate`
publishes a number each second, each stamped with the moment it was due (an event that is published late is
late for its receiver too, and the delay is reported). `feeds` publishes one event at a time to each of
many users, with a number of them in flight; `feeds_rate` does so evenly. `fill` publishes large batches.

A user's events are numbered in the order of the calls of `publish`. A server may finish these calls in any
order, but must send the events in the order of the calls.
"""

import asyncio
import json
import operator
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.processes import answer
from huahuo.eventstore.ambient import json_bytes

GROUP = 0
"""The number of the one stream that everybody reads; users count from 1."""

_WAKE_S = 0.001
"""An open loop sleeps at least this long: the shortest that timers of uvloop and node can do."""
_AT_ONCE = 256
_FILL_AT_ONCE = 1000
_FRONT = b'{"type":"check_progress","~":%d,"t":%d,'
_ABOUT = {"email_id": 1, "progress": 75, "message": "正在检查邮件 15/20", "check_id": 88}
_BACK = json_bytes(_ABOUT)[1:-1] + b',"timestamp":"2026-11-24T10:31:07.114Z"}'

type Event = tuple[int, bytes]
"""(user, the event as JSON)."""
type Publish[Content] = Callable[[Sequence[tuple[int, Content]]], Awaitable[object]]
"""Done when the events are as durable as the server makes them."""
type Make[Content] = Callable[[int, int], Content]
"""What the server is given of an event: `body`, or `fields`."""


def body(number: int, at_ns: int) -> bytes:
    """A real progress event with the mark that receivers look for (`receiver.c`)."""
    return _FRONT % (number, at_ns) + _BACK


def fields(number: int, at_ns: int) -> dict[str, Any]:
    """As `body`, for a server that encodes the event and gives it a type and a time itself."""
    return {"~": number, "t": at_ns, **_ABOUT}


class Source[Content]:
    """See the module. `make`: `body` or `fields`, as `publish` takes them."""

    def __init__(self, publish: Publish[Content], make: Make[Content]) -> None:
        self._publish = publish
        self._make = make
        self._number = 0
        self._target = 0
        self._raised = asyncio.Event()
        self._of_user: dict[int, int] = {}
        self._durable_ns: list[int] | None = None

    def raise_to(self, number: int) -> None:
        """Let the group's events go on up to `number`."""
        self._target = max(self._target, number)
        self._raised.set()

    @property
    def notes_durable(self) -> bool:
        """Whether the question wants to know when events become durable."""
        return self._durable_ns is not None

    def durable(self, count: int) -> None:
        """`count` events have become durable, in the order of the calls. For a server that can tell."""
        if self._durable_ns is not None:
            self._durable_ns += [time.monotonic_ns()] * count

    async def follow_target(self) -> None:
        """Publish to the group whatever the target allows, for ever."""
        while True:
            if self._number >= self._target:
                self._raised.clear()
                await self._raised.wait()
            first, now_ns = self._number + 1, time.monotonic_ns()
            last = min(self._target, self._number + _AT_ONCE)
            self._number = last
            await self._publish([(GROUP, self._make(n, now_ns)) for n in range(first, last + 1)])

    async def rate(self, per_s: float, count: int) -> dict[str, Any]:
        """Publish `count` events to the group, evenly."""
        return await self._open_loop(per_s, count, lambda due: [(due, self._due_in_group(due))])

    async def feeds_rate(self, users: int, per_s: float, count: int) -> dict[str, Any]:
        """Publish `count` events evenly, user after user, each by itself."""
        return await self._open_loop(
            per_s, count, lambda due: [([at_ns], self._due_in_feeds(at_ns, users)) for at_ns in due]
        )

    async def feeds(self, users: int, in_flight: int, seconds: float) -> dict[str, Any]:
        """Publish one event after the other to every user for a while, with `in_flight` of them on their way.

        More than there are users: each user has several on their way. Fewer: the users take turns.
        """
        deadline_s = time.monotonic() + seconds
        count = 0

        async def worker(number: int) -> None:
            nonlocal count
            while True:
                for user in range(number % users + 1, users + 1, in_flight):
                    await self._publish([(user, self._next(user, time.monotonic_ns()))])
                    count += 1
                    if time.monotonic() > deadline_s:
                        return

        start_ns = time.monotonic_ns()
        await asyncio.gather(*(worker(number) for number in range(in_flight)))
        return {"published": count, "start_ns": start_ns, "end_ns": time.monotonic_ns()}

    async def fill(self, users: int, first: int, each: int) -> dict[str, Any]:
        """Publish `each` events from number `first` on to every user (0: to the group), in large batches."""
        everybody = range(1, users + 1) if users else (GROUP,)
        batch: list[tuple[int, Content]] = []
        for number in range(first, first + each):
            for user in everybody:
                batch.append((user, self._make(number, time.monotonic_ns())))
                if len(batch) == _FILL_AT_ONCE:
                    await self._publish(batch)
                    batch = []
        if batch:
            await self._publish(batch)
        return {"published": each * len(everybody)}

    async def _open_loop(
        self,
        per_s: float,
        count: int,
        due: Callable[[list[int]], list[tuple[list[int], list[tuple[int, Content]]]]],
    ) -> dict[str, Any]:
        start_ns = time.monotonic_ns()
        done = published = 0
        late_ns: list[int] = []
        published_ns: list[int] = []
        durable_ns = self._durable_ns = []
        running = _UnderWay()
        while done < count:
            until = min(count, 1 + int((time.monotonic_ns() - start_ns) * per_s / 1e9))
            moments = [start_ns + int(n / per_s * 1e9) for n in range(done, until)]
            done = max(done, until)
            for at, events in due(moments) if moments else ():
                now_ns = time.monotonic_ns()
                late_ns += [now_ns - at_ns for at_ns in at]
                published_ns += [now_ns] * len(events)
                published += len(events)
                running.add(self._publish(events))
            next_s = start_ns / 1e9 + done / per_s - time.monotonic()
            await asyncio.sleep(max(_WAKE_S, next_s if done < count else 0))
        await running.end()
        late_ns.sort()
        took_ns = sorted(map(operator.sub, durable_ns, published_ns))
        self._durable_ns = None
        return {
            "published": published,
            "start_ns": start_ns,
            "end_ns": time.monotonic_ns(),
            "late_p50_ms": late_ns[len(late_ns) // 2] / 1e6,
            "late_p99_ms": late_ns[len(late_ns) * 99 // 100] / 1e6,
            **({"durable_p50_ms": took_ns[len(took_ns) // 2] / 1e6} if took_ns else {}),
        }

    def _due_in_group(self, moments: list[int]) -> list[tuple[int, Content]]:
        first = self._number + 1
        self._number = self._target = self._number + len(moments)
        return [(GROUP, self._make(n, at_ns)) for n, at_ns in enumerate(moments, first)]

    def _due_in_feeds(self, at_ns: int, users: int) -> list[tuple[int, Content]]:
        user = self._number % users + 1
        self._number += 1
        return [(user, self._next(user, at_ns))]

    def _next(self, user: int, at_ns: int) -> Content:
        number = self._of_user.get(user, 0) + 1
        self._of_user[user] = number
        return self._make(number, at_ns)


class _UnderWay:
    """Publications that are not awaited one by one."""

    def __init__(self) -> None:
        self._count = 0
        self._last = False
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, publication: Awaitable[object]) -> None:
        """Begin one."""
        self._count += 1
        asyncio.ensure_future(publication).add_done_callback(self._done)

    async def end(self) -> None:
        """Wait until all are done; raises what one of them raised."""
        self._last = True
        if self._count or self._end.done():
            await self._end

    def _done(self, publication: "asyncio.Future[object]") -> None:
        self._count -= 1
        if self._end.done():
            return
        error = publication.exception()
        if error is not None:
            self._end.set_exception(error)
        elif self._last and not self._count:
            self._end.set_result(None)


async def obey(source: Source[Any], hello: dict[str, Any]) -> None:
    """Do what the lines on stdin say and `answer` each, until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    following = asyncio.ensure_future(source.follow_target())
    answer(hello)
    while line := await reader.readline():
        message = json.loads(line)
        command = message.pop("cmd")
        if command == "upto":
            source.raise_to(message["n"])
        else:
            assert command in ("rate", "feeds", "feeds_rate", "fill"), command
            answer(await getattr(source, command)(**message))
        if following.done():
            following.result()
    following.cancel()
