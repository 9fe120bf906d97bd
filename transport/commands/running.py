"""A command that has not ended: who is to hear its answer, and what its answer will be."""

import asyncio
from collections.abc import Callable
from typing import Any

from huahuo.actors.plugins.calls import Call, Reply, from_record
from huahuo.eventstore.model import Appended, Duplicate

type Done = Callable[[Reply | None], None]
"""Called once with the answer; with None if the service stops and cut the command short."""


class Running:
    """See the module. `done` hears the answer; `others` are repeats of the command, which hear it too.

    `began_s` None: it is not counted among the commands that were answered.
    """

    __slots__ = ("_body", "_ended", "_stream", "began_s", "call", "done", "others", "over", "reply", "task")

    def __init__(self, call: Call[Any], done: Done, began_s: float | None) -> None:
        self.call = call
        self.done = done
        self.began_s = began_s
        self.others: list[Running] | None = None
        self.over = False
        self.task: asyncio.Task[Reply] | None = None
        self.reply: Reply | None = None
        """The answer, if it is known before the append of its record."""
        self._body = b""
        self._stream = ""
        self._ended: asyncio.Future[None] | None = None

    def answers(self, body: bytes, stream: str) -> None:
        """The answer will be `body`, with the place of the append's last event, on `stream`."""
        self._body, self._stream = body, stream

    def reply_to(self, written: Appended | Duplicate) -> Reply:
        """The answer now that the append is durable."""
        if written.__class__ is Duplicate:
            return from_record(written.command)
        if self.reply is not None:
            return self.reply
        assert isinstance(written, Appended), "the other one is a duplicate"
        return Reply(self._body, (self._stream, written.events[-1].seq), recorded=self.call.key is not None)

    def ended(self) -> asyncio.Future[None]:
        """Done when the answer was told. It is to be waited for, not cancelled."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            if self.over:
                self._ended.set_result(None)
        return self._ended

    def tell(self, reply: Reply | None) -> None:
        """Tell the answer."""
        try:
            self.done(reply)
        finally:
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
