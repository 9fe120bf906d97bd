"""What waits for an ASGI server to take it: the write buffer of a socket that another server has.

`send` of ASGI waits while the socket's own buffer is full, so what is written meanwhile waits here.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

type Message = dict[str, Any]
type Send = Callable[[Message], Awaitable[None]]
type Receive = Callable[[], Awaitable[Message]]

_LOW_WATER = 4


class OutQueue:
    """See the module. `filled` is called when it becomes full, and `drained` when it has room again."""

    __slots__ = (
        "_begin", "_bytes_max", "_drained", "_filled", "_items", "_paused", "_wake", "ended", "unsent_bytes",
    )  # fmt: skip

    def __init__(
        self,
        filled: Callable[[], None],
        drained: Callable[[], None],
        begin: Callable[[], None] | None = None,
    ) -> None:
        """`begin` is called when there is something to send, or the end: `flush` must follow.

        Without it, `run` waits all the time. That is a task with its frames, some KiB, for each connection.
        """
        self._items: deque[tuple[Message, int]] | None = None  # an empty one takes 760 bytes
        self._filled = filled
        self._drained = drained
        self._begin = begin
        self._bytes_max = 1 << 16
        self.ended = False
        self._paused = False
        self._wake: asyncio.Future[None] | None = None
        self.unsent_bytes = 0

    @property
    def paused(self) -> bool:
        """Whether it is full, or was and has not been emptied to a quarter."""
        return self._paused

    def bound(self, bytes_max: int) -> None:
        """Be full from `bytes_max` on."""
        self._bytes_max = bytes_max

    def put(self, message: Message, size: int) -> None:
        """Send this after all that waits. Nothing more is taken after `end`."""
        if self.ended:
            return
        if self._items is None:
            self._items = deque()
        self._items.append((message, size))
        self.unsent_bytes += size
        self._awake()
        if not self._paused and self.unsent_bytes > self._bytes_max:
            self._paused = True
            self._filled()

    def end(self, message: Message | None) -> None:
        """Send this as the last message."""
        if message is not None:
            self.put(message, 0)
        self.ended = True
        self._awake()

    async def run(self, send: Send) -> None:
        """Send everything, until `end`. Raises as `send`."""
        while True:
            await self.flush(send)
            if self.ended:
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    async def flush(self, send: Send) -> None:
        """Send what waits. Raises as `send`."""
        while self._items:
            message, size = self._items.popleft()
            await send(message)
            self.unsent_bytes -= size
            if self._paused and self.unsent_bytes <= self._bytes_max // _LOW_WATER:
                self._paused = False
                self._drained()
        self._items = None

    def _awake(self) -> None:
        if self._begin is not None:
            self._begin()
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
