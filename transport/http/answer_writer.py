"""The answers of a connection of plain HTTP: each is made by one task, framed by h11, and written.

After an answer comes the next request, or the connection ends. Before it ends, the part of a refused request
that has not come is read and dropped.
"""

import asyncio
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import Final, Protocol

import h11
import structlog

from huahuo.transport.http import heads
from huahuo.transport.http.api import Api
from huahuo.transport.http.messages import Answer
from huahuo.transport.http.problems import problem, worded
from huahuo.transport.http.time_limit import LINGER_S, LINGER_SILENCE_S, TimeLimit
from huahuo.transport.protocol.problem import code_of
from huahuo.transport.server.server import Server
from huahuo.transport.session.speech import Speech
from huahuo.transport.words import http_zh

BODY_S: Final = 60.0
"""A body must have come within this."""
_COPIED_BYTES_MAX: Final = 64 << 10
"""A longer body is not copied to be written in one piece with its head: a state of some MiB takes 2 ms."""

_log = structlog.get_logger(__name__)


class Service(Protocol):
    """What answers come from. `open_timeout_s`: to read an answer in, without a token."""

    server: Server
    api: Api
    open_timeout_s: float


class AnswerWriter(asyncio.Protocol, ABC):
    """See the module."""

    def __init__(self, owner: Service, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._owner = owner
        self._api = owner.api
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=heads.HEAD_BYTES_MAX)
        self._request: h11.Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._limit = TimeLimit(transport.abort)
        """In which a request, its body, or the reading of an answer must come."""
        self._trusted = False
        """Whether a token was accepted."""
        self._paused = False
        self._writing = False
        self._sending = False
        self._ends = False
        self._discards = False
        transport.set_write_buffer_limits(0)

    @abstractmethod
    def _next(self) -> None:
        """Ready for another request on this connection."""
        ...

    @abstractmethod
    def _go_on(self) -> None:
        """Look at the next request, if it came already."""
        ...

    @abstractmethod
    def _end_visit(self) -> None:
        """The request is dealt with."""
        ...

    def pause_writing(self) -> None:
        """Part of an answer waits to be sent."""
        self._writing = True

    def resume_writing(self) -> None:
        """All of it was sent."""
        self._writing = False
        # Later: if the transport is closed in this call, asyncio tells twice that the connection is lost.
        asyncio.get_running_loop().call_soon(self._resumed)

    def _resumed(self) -> None:
        if self.transport.is_closing():
            return
        if self._sending:
            self._written()
        elif self._task is None:
            self._resume_reading()
        self._go_on()

    def _respond(self, answer: Answer) -> None:
        if self.transport.is_closing():
            return
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if (
            self._request is not None
            and self._h11.their_state is h11.SEND_BODY
            and not heads.has_body(self._request)
        ):
            self._h11.next_event()  # the end of the request, so that nothing is waited for behind the answer
        answer = worded(answer, self._speech)
        ends = answer.ends or not self._owner.server.is_serving() or self._h11.their_state is h11.SEND_BODY
        said = [self._h11.send(heads.head_of(answer, ends=ends)) or b""]
        if answer.body and not heads.without_body(answer, self._request):
            said.append(self._h11.send(h11.Data(data=answer.body)) or b"")
        said.append(self._h11.send(h11.EndOfMessage()) or b"")
        self._ends, self._sending = ends, True
        if len(answer.body) > _COPIED_BYTES_MAX:
            for part in said:  # asyncio's `writelines` never gets rid of an empty part
                self.transport.write(part)
        else:
            self.transport.write(b"".join(said))
        if self._writing:
            # To read the answer in; no other request is looked at before.
            self._limit.set(BODY_S if self._trusted else self._owner.open_timeout_s)
        else:
            self._written()

    def _written(self) -> None:
        """The answer has left for the client."""
        self._sending = False
        self._end_visit()
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self._ends:
            self._next()
        elif self._h11.their_state in (h11.SEND_BODY, h11.ERROR):
            # Unread bytes would turn the close into a reset, and the answer would be lost.
            self._discards = True
            self._resume_reading()
            self._limit.set_last(LINGER_S)
            self._limit.set(LINGER_SILENCE_S)
        else:
            self.transport.close()

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _answer_bad(self, error: h11.RemoteProtocolError) -> None:
        """What came is no request. Where no answer is possible any more, only close."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(HTTPStatus(error.error_status_hint))
        elif not self._sending:
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Refuse a request that cannot be read."""
        self._respond(problem(code_of(status), http_zh.NO_REQUEST, status=status, ends=True))

    @property
    def _speech(self) -> Speech:
        """Says texts in the language that the request prefers, if one was read."""
        return self._api.speech(heads.languages(self._request))

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        self._limit.set(None)
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("http_connection_failed", exc_info=task.exception())
            self.transport.abort()
