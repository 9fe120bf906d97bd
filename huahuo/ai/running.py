"""`resumable`: writes what a model generates to a stream, whether or not clients read it."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any, Final, cast

import structlog

from huahuo.actors.actor.errors import where
from huahuo.actors.domain.decision import Refused
from huahuo.actors.plugins.principal import USER_ID_RULE, UserId, user_id_of
from huahuo.ai.answers import KIND, LEASE_S, Answer, AnswerOutcome, Begin, End, Keep, Write
from huahuo.embedding.huahuo import Huahuo, running_here
from huahuo.errors import HuahuoError

GATHER_S: Final = 0.03
"""Pieces that come within this are one event: people read no faster, and they share one commit."""
_PIECE_CHARS_MAX: Final = 16_384

_log = structlog.get_logger(__name__)

_running: Final[set["Running"]] = set()
"""Strong references: a task that only its own loop knows may be collected."""


async def resumable(
    stream: str,
    generator: AsyncIterable[str | None],
    *,
    app: Huahuo | None = None,
    user: UserId | None = None,
    public: bool = False,
) -> "Running":
    """Write the texts of `generator` to `stream`, such as `answer/7f3a`, and return when it has begun.

    `user` may read and cancel it, with `public` every signed-in user. It goes on when the request that began
    it has ended. If the stream has begun before, the generator is closed unread: the answer is there already,
    or is being written. `app` None: the one that runs in this process.

    Raises:
        HuahuoError: it is no stream `answer/<id>`, no async iterator, or not one application runs here.
        Refused: the id or the user cannot be, or the application has no `answer` among its entities.
    """
    kind, _, key = stream.partition("/")
    if kind != KIND or not key:
        raise HuahuoError(f"{stream!r} is no stream {KIND}/<id>")
    _refuse_what_is_no_iterator(generator)
    user_id = user_id_of(user)
    if user is not None and user_id is None:
        raise Refused("invalid_field", f"user: {USER_ID_RULE}")
    app = app or running_here()
    reply = await app.send(Begin(user_id, public), answer_id=key)
    running = Running(app, key, generator)
    if reply["new"]:
        running.begin(reply["at"]["seq"])
    else:
        await _close(generator)
    return running


class Running:
    """An answer that this process, or another one, writes. `await` it for its end, and how it ended."""

    def __init__(self, app: Huahuo, key: str, generator: AsyncIterable[str | None]) -> None:
        self._app = app
        self._key = key
        self._generator = generator
        self._body: asyncio.Task[AnswerOutcome] | None = None

    @property
    def stream(self) -> str:
        """Where it can be followed."""
        return f"{KIND}/{self._key}"

    @property
    def ours(self) -> bool:
        """Whether this call began it."""
        return self._body is not None

    def begin(self, seq: int) -> None:
        """Start to write. `seq`: of the event that it began with."""
        self._body = body = asyncio.get_running_loop().create_task(self._write_all(seq), name=self.stream)
        _running.add(self)
        forget = self._app.running.on_stop(lambda: body)

        def ended(_: object) -> None:
            _running.discard(self)
            forget()

        body.add_done_callback(ended)

    def __await__(self) -> Generator[Any, None, AnswerOutcome]:
        return self._ended().__await__()

    async def _ended(self) -> AnswerOutcome:
        if self._body is not None:
            return await asyncio.shield(self._body)
        state = await self.state()
        if state.outcome is None:
            async for event in self._app.follow(self.stream):
                if event["type"] == "answer_ended":
                    return cast("AnswerOutcome", event["outcome"])
        return cast("AnswerOutcome", state.outcome)

    async def state(self) -> Answer:
        """The whole answer so far."""
        found, _seq = await self._app.state(KIND, self._key)
        return cast("Answer", found)

    async def _write_all(self, seq: int) -> AnswerOutcome:
        generating = asyncio.ensure_future(self._generate())
        cancelling = asyncio.ensure_future(self._cancelled(seq))
        keeping = asyncio.ensure_future(self._keep())
        outcome: AnswerOutcome = "done"
        error = ""
        try:
            await asyncio.wait({generating, cancelling}, return_when=asyncio.FIRST_COMPLETED)
            if not generating.done():
                asked = cancelling.exception() is None and cancelling.result()
                outcome = "cancelled" if asked else "interrupted"
            elif (fault := generating.exception()) is not None:
                outcome, error = "failed", type(fault).__name__
                self._tell(fault)
        except asyncio.CancelledError:
            outcome = "interrupted"
            raise
        finally:
            for task in (generating, cancelling, keeping):
                task.cancel()
            await asyncio.gather(generating, cancelling, keeping, return_exceptions=True)
            with contextlib.suppress(Exception):  # a stop: the lease ends it
                await self._app.send(End(outcome, error), answer_id=self._key)
        return outcome

    def _tell(self, fault: BaseException) -> None:
        """Say in the log what the readers are not told: not the text, which may quote what was asked."""
        reason = str(fault) if isinstance(fault, HuahuoError) else ""
        _log.error(
            "answer_failed", stream=self.stream, error=type(fault).__name__, at=where(fault), reason=reason
        )

    async def _generate(self) -> None:
        """Write the pieces as they come; those that come close together as one."""
        loop, pieces, waiting = asyncio.get_running_loop(), aiter(self._generator), ""
        coming: asyncio.Future[str | None] | None = None
        due_s = 0.0
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(pieces))
                left_s = max(0.0, due_s - loop.time()) if waiting else None
                await asyncio.wait({coming}, timeout=left_s)
                if coming.done():
                    try:
                        piece = coming.result()
                    except StopAsyncIteration:
                        break
                    finally:
                        coming = None
                    if piece is None:  # as libraries give for a piece without text
                        continue
                    if not isinstance(piece, str):
                        raise HuahuoError(f"the generator gave {type(piece).__name__}, and not text")
                    due_s = due_s if waiting else loop.time() + GATHER_S
                    waiting += piece
                if waiting and (loop.time() >= due_s or len(waiting) >= _PIECE_CHARS_MAX):
                    waiting = await self._say(waiting)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await _close(self._generator)
            if waiting:
                await self._say(waiting)

    async def _say(self, text: str) -> str:
        """Write a piece. Returns what still waits: nothing."""
        for at in range(0, len(text), _PIECE_CHARS_MAX):
            await self._app.send(Write(text[at : at + _PIECE_CHARS_MAX]), answer_id=self._key)
        return ""

    async def _cancelled(self, seq: int) -> bool:
        """Wait for a cancel. False: the service stops."""
        async for event in self._app.follow(self.stream, after=seq):
            if event["type"] == "answer_cancel_requested":
                return True
        return False

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(Exception):  # the next one may be written again
                await self._app.send(Keep(), answer_id=self._key)


def _refuse_what_is_no_iterator(generator: object) -> None:
    if isinstance(generator, AsyncIterable):
        return
    hint = "an async iterator of texts is needed"
    if inspect.iscoroutine(generator):
        generator.close()
        hint += ": `await` what you call, and give what comes of it"
    elif callable(generator):
        hint += ": call the function"
    elif isinstance(generator, Iterable):
        hint += ": a plain one would hold up the event loop; take the async client of your library"
    raise HuahuoError(f"resumable(…, {type(generator).__name__}): {hint}")


async def _close(generator: AsyncIterable[str | None]) -> None:
    if isinstance(generator, AsyncGenerator):
        await generator.aclose()
