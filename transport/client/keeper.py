"""Keeps a client's connection alive, and hands on what the session says happened.

The shell with the timer and the tasks. `session` makes the decisions, `line` has the socket.
"""

import asyncio
import contextlib
from typing import Any, Literal, cast
from weakref import WeakValueDictionary

from huahuo.transport.client.alarm import Alarm
from huahuo.transport.client.answers import Answers
from huahuo.transport.client.cursors import CursorStore
from huahuo.transport.client.happenings import Processed, Reached, Readable, Replied, StreamEnded
from huahuo.transport.client.line import Line, Tokens
from huahuo.transport.client.model import (
    ClientStopped,
    Connecting,
    Cursor,
    Offline,
    Online,
    Outcome,
    Problem,
    Status,
    Stopped,
    TokenExpiring,
)
from huahuo.transport.client.session import ClientSession
from huahuo.transport.client.standing import Standing
from huahuo.transport.client.subscription import Subscription


class Keeper:
    """See the module. It works from `_begin` on, until the session has stopped."""

    _loop: asyncio.AbstractEventLoop
    _hurry: asyncio.Event
    """Set: do not wait before the next attempt to connect."""
    _stored: dict[str, Cursor]

    def __init__(
        self,
        url: str,
        session: ClientSession,
        tokens: Tokens,
        store: CursorStore,
        *,
        compression: bool,
        open_timeout_s: float,
        proxy: str | Literal[True] | None,
    ) -> None:
        self.url = url
        self._session = session
        self._tokens = tokens
        self._store = store
        self._standing = Standing(url)
        self._line = Line(
            url,
            session,
            tokens,
            compression=compression,
            open_timeout_s=open_timeout_s,
            proxy=proxy,
            pump=self._pump,
            arm=self._arm,
            problem=self._standing.tell,
            spawn=self._spawn,
        )
        # Weak, so that an abandoned subscription is collected (see Subscription.__del__).
        self._subscriptions: WeakValueDictionary[str, Subscription] = WeakValueDictionary()
        self._replies = Answers[str, dict[str, Any]]()
        self._reached = Answers[int, None]()
        self._retry_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm = Alarm(self._on_time)

    def _begin(self) -> None:
        """Connect, and stay connected."""
        self._loop = asyncio.get_running_loop()
        self._hurry = asyncio.Event()
        self._stored = dict(self._store.load())
        self._spawn(self._run())

    async def _run(self) -> None:
        while True:
            self._standing.change("connecting")
            self._standing.tell(Connecting())
            try:
                code, reason = await self._line.use_once()
            except Exception as error:  # noqa: BLE001  else this task ends, and the client seems to be online
                code, reason = None, f"{type(error).__name__}: {error}"
                self._standing.tell(Problem("connection_failed", reason))
                self._loop.call_exception_handler({"message": "a connection failed", "exception": error})
            self._session.closed(code, reason, self._loop.time())
            self._pump()
            if self._standing.error is not None:
                return
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._retry_s):
                    await self._hurry.wait()

    async def _refresh(self) -> None:
        try:
            if await self._tokens.renew():
                self._session.authenticate_again(cast("str", self._tokens.token))
        except Exception as error:  # noqa: BLE001  the application's own function
            self._standing.tell(Problem("no_token", type(error).__name__))
        self._pump()

    def _pump(self) -> None:
        """Hand on what happened, then let the line send what is to be sent."""
        for happening in self._session.drain():
            match happening:
                case Readable(stream=stream):
                    if (subscription := self._subscriptions.get(stream)) is not None:
                        subscription.wake()
                case Replied(id=command_id, reply=reply):
                    self._replies.give(command_id, reply)
                case Reached(token=token, error=error):
                    self._reached.give(token, error)
                case StreamEnded(stream=stream, error=error):
                    if (subscription := self._subscriptions.pop(stream, None)) is not None:
                        subscription.failed(error)
                case Processed(cursors=cursors):
                    self._save(cursors)
                case _:
                    self._status(happening)
        self._line.write.set()
        self._arm()

    def _status(self, status: Status) -> None:
        match status:
            case Online():
                self._standing.change("online")
            case Offline(retry_s=retry_s):
                self._retry_s = retry_s
                self._standing.change("offline")
            case Stopped(error=error):
                self._stop(error)
            case Outcome(stream=stream):
                if (subscription := self._subscriptions.get(stream)) is not None:
                    subscription.placed(status)
            case TokenExpiring():
                if self._tokens.renewable:
                    self._spawn(self._refresh())
            case _:
                pass
        self._standing.tell(status)

    def _stop(self, error: ClientStopped) -> None:
        self._standing.stop(error)
        for subscription in list(self._subscriptions.values()):
            subscription.failed(error)
        self._subscriptions.clear()
        self._replies.fail(error)
        self._reached.fail(error)

    def _save(self, cursors: dict[str, Cursor]) -> None:
        self._stored.update(cursors)
        try:
            self._store.save(cursors)
        except OSError as error:
            self._standing.tell(Problem("cursors_not_saved", str(error)))

    def _arm(self) -> None:
        self._alarm.set(self._session.deadline() if self._standing.error is None else None)

    def _on_time(self) -> None:
        self._session.tick(self._loop.time())
        if self._session.dead and self._line.socket is not None:
            self._line.socket.transport.abort()
        self._pump()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
