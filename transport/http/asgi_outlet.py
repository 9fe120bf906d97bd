"""The way out to a reader of server-sent events, as the messages of ASGI."""

import asyncio
from http import HTTPStatus

from huahuo.transport.http.asgi_answer import head_message, whole_headers
from huahuo.transport.http.asgi_leaving import end_all
from huahuo.transport.http.messages import Answer, Headers
from huahuo.transport.http.out_queue import OutQueue, Send
from huahuo.transport.http.outlet import Reader
from huahuo.transport.http.problems import worded
from huahuo.transport.session.speech import Speech


class AsgiOutlet:
    """The way out to a reader of server-sent events. Implements `outlet.Outlet`."""

    __slots__ = ("_deadline", "_send", "_sending", "_speech", "_task", "out", "over", "socket")

    def __init__(self, send: Send, task: asyncio.Task[None], speech: Speech) -> None:
        """`task` waits for the reader to leave; it is cancelled when the answer has ended.

        `speech`: says a refusal.
        """
        self.out = OutQueue(self._filled, self._drained, self._begin)
        self.socket: Reader | None = None
        self.over = False
        self._send = send
        self._task = task
        self._speech: Speech | None = speech
        self._sending: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """See `Outlet`."""
        return self.out.paused

    @property
    def unsent_bytes(self) -> int:
        """See `Outlet`."""
        return self.out.unsent_bytes

    def bound(self, bytes_max: int) -> None:
        """See `Outlet`."""
        self.out.bound(bytes_max)

    def refuse(self, answer: Answer) -> None:
        """See `Outlet`."""
        if self._speech is not None:
            answer = worded(answer, self._speech)
        self.out.put(head_message(answer.status, whole_headers(answer)), 0)
        self.out.end({"type": "http.response.body", "body": answer.body})

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """See `Outlet`."""
        self._speech = None
        self.out.put(head_message(status, headers), 0)

    def write(self, text: bytes) -> None:
        """See `Outlet`."""
        self.out.put({"type": "http.response.body", "body": text, "more_body": True}, len(text))

    def write_shared(self, text: bytes, chunk: bytes) -> None:  # noqa: ARG002  see below
        """See `Outlet`. The server makes its chunks by itself."""
        self.write(text)

    def end(self, deadline_s: float) -> None:
        """See `Outlet`."""
        self.out.end({"type": "http.response.body", "body": b""})
        self._deadline = asyncio.get_running_loop().call_later(deadline_s, self.abort)

    def abort(self) -> None:
        """See `Outlet`."""
        if not self.over:
            self.over = True
            self._task.cancel()

    async def gone(self) -> None:
        """Nothing can be sent any more."""
        self.over = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._sending is not None:
            await end_all(self._sending)

    def _begin(self) -> None:
        """Send what waits, in a task that lasts no longer: an idle reader has one task, the server's.

        It begins at once: a server that has room takes what is sent without a turn of the loop.
        """
        if self._sending is None and not self.over:
            loop = asyncio.get_running_loop()
            sending = asyncio.Task(self._flush(), loop=loop, eager_start=True)
            self._sending = None if sending.done() else sending

    async def _flush(self) -> None:
        try:
            await self.out.flush(self._send)
        except Exception:  # noqa: BLE001  the reader has left
            self.abort()
        else:
            if self.out.ended:
                self.abort()
        finally:
            self._sending = None

    def _filled(self) -> None:
        if self.socket is not None:
            self.socket.filled()

    def _drained(self) -> None:
        if self.socket is not None:
            self.socket.drained()
