"""Token streams of language models that survive reloads, other tabs, and restarts of the web process.

The entity `answer` is a text that a model writes piece by piece on `answer/<id>`; its decisions are pure.
A reader that comes late gets the text so far in one piece, as the stream's state. The process that writes
renews a lease; a timer ends an answer whose process is gone as `interrupted`, so nobody waits for ever.

`resumable` writes what a model generates, whether or not clients read it. `ui_message_stream` is the
answer as the Vercel AI SDK reads it (UI message stream, version 1, as server-sent events). The SDK cannot
say where it was: a page that comes back reads from the beginning, and what was written by then comes as
one piece.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Mapping
from typing import Any, Final, Literal, cast

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from huahuo.actors.actor.messages import where
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import After, Command, Context, Decision, Event, Outcome, Refused
from huahuo.actors.plugins.calls import USER_ID_RULE, Principal, UserId, user_id_of
from huahuo.embedding.huahuo import Huahuo, running_here
from huahuo.errors import HuahuoError

__all__ = ["UI_MESSAGE_HEADERS", "Answer", "Running", "answer", "resumable", "ui_message_stream"]

KIND: Final = "answer"
LEASE_S: Final = 15.0
_TIMER: Final = "lease"

type AnswerOutcome = Literal["done", "failed", "cancelled", "interrupted"]


class AnswerBegan(Event, type="answer_began"):
    """A model begins to write. `user`: who reads it; `public`: every signed-in user does."""

    user: int | str | None = None
    public: bool = False


class AnswerText(Event, type="answer_text"):
    """What comes next."""

    text: str


class AnswerCancelRequested(Event, type="answer_cancel_requested"):
    """Somebody has read enough."""


class AnswerEnded(Event, type="answer_ended"):
    """Its end. `error` is the type of an exception, never its text."""

    outcome: AnswerOutcome
    error: str = ""


class Answer(Struct, frozen=True):
    """The whole answer so far. `status`: `new`, `writing`, `cancelling`, or how it ended."""

    text: str = ""
    status: str = "new"
    user: int | str | None = None
    public: bool = False
    error: str = ""

    @property
    def outcome(self) -> AnswerOutcome | None:
        """How it ended, None before."""
        return None if self.status in ("new", *_OPEN) else cast("AnswerOutcome", self.status)


_OPEN: Final = ("writing", "cancelling")


class Begin(Command, creates=True, name="begin_answer"):
    """Begin, unless it has begun. Sent by the service alone."""

    user: int | str | None = None
    public: bool = False


class Write(Command, name="write_answer"):
    """Add text. Sent by the service alone."""

    text: str


class Keep(Command, name="keep_answer"):
    """Its process is there. Sent by the service alone."""


class End(Command, name="end_answer"):
    """End it. Sent by the service alone."""

    outcome: AnswerOutcome
    error: str = ""


class Lapse(Command, name="lapse_answer"):
    """The lease has run out. Sent by the timer."""


class Cancel(Command, action="cancel_answer"):
    """Stop writing. Its readers may send it."""


answer: Final = Entity(KIND, Answer, key=str)
"""Give it to your application: `Huahuo(entities=[answer])`."""


@answer.evolve
def _began(state: Answer, event: AnswerBegan) -> Answer:
    return replace(state, status="writing", user=event.user, public=event.public)


@answer.evolve
def _wrote(state: Answer, event: AnswerText) -> Answer:
    return replace(state, text=state.text + event.text)


@answer.evolve
def _cancelling(state: Answer, event: AnswerCancelRequested) -> Answer:
    del event
    return replace(state, status="cancelling")


@answer.evolve
def _ended(state: Answer, event: AnswerEnded) -> Answer:
    return replace(state, status=event.outcome, error=event.error)


@answer.decide
def _begin(state: Answer, command: Begin, ctx: Context) -> Outcome:
    del ctx
    if state.status != "new":
        return Decision(reply={"new": False})
    return Decision([AnswerBegan(command.user, command.public)], effects=[_lease()], reply={"new": True})


@answer.decide
def _write(state: Answer, command: Write, ctx: Context) -> Outcome:
    del ctx
    return [AnswerText(command.text)] if state.status in _OPEN else _over(state)


@answer.decide
def _keep(state: Answer, command: Keep, ctx: Context) -> Outcome:
    del command, ctx
    return Decision(effects=[_lease()]) if state.status in _OPEN else _over(state)


@answer.decide
def _cancel(state: Answer, command: Cancel, ctx: Context) -> Outcome:
    del command, ctx
    if state.status == "cancelling":
        return []
    return [AnswerCancelRequested()] if state.status == "writing" else _over(state)


@answer.decide
def _end(state: Answer, command: End, ctx: Context) -> Outcome:
    del ctx
    return [AnswerEnded(command.outcome, command.error)] if state.status in _OPEN else []


@answer.decide
def _lapse(state: Answer, command: Lapse, ctx: Context) -> Outcome:
    del command, ctx
    return [AnswerEnded("interrupted")] if state.status in _OPEN else []


@answer.readers
def _may_read(state: Answer, who: Principal) -> bool:
    return state.public or (state.user is not None and who.user_id == state.user)


def _lease() -> After:
    return After(LEASE_S, Lapse(), name=_TIMER)


def _over(state: Answer) -> Refused:
    return Refused("conflict", f"the answer has ended: {state.status}")


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


UI_MESSAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}
"""The headers of the answer that carries it."""
_TEXT: Final = "text"
_DONE: Final = "data: [DONE]\n\n"


async def ui_message_stream(stream: str, *, app: Huahuo, user: UserId) -> AsyncIterator[str]:
    """The answer on `stream` for `user`, from its beginning to its end.

    Raises Refused: `not_found`, also if it is not this user's.
    """
    key = stream.partition("/")[2]
    found, seq = await app.state(KIND, key)
    state = cast("Answer", found)
    user_id = user_id_of(user)
    if user_id is None or not answer_of(state, Principal(user_id)):
        raise Refused("not_found", "there is no such answer")
    return _parts(app, stream, state, seq)


def answer_of(state: Answer, who: Principal) -> bool:
    """Whether the answer is there for this user."""
    return state.status != "new" and (state.public or state.user == who.user_id)


async def _parts(app: Huahuo, stream: str, state: Answer, seq: int) -> AsyncIterator[str]:
    yield _part(type="start", messageId=stream)
    yield _part(type="text-start", id=_TEXT)
    if state.text:
        yield _part(type="text-delta", id=_TEXT, delta=state.text)
    outcome, error = state.outcome, state.error
    if outcome is None:
        async for event in app.follow(stream, after=seq):
            if event["type"] == "answer_text":
                yield _part(type="text-delta", id=_TEXT, delta=event["text"])
            elif event["type"] == "answer_ended":
                outcome, error = event["outcome"], event["error"]
                break
    yield _part(type="text-end", id=_TEXT)
    if outcome == "failed":
        yield _part(type="error", errorText=error)
    elif outcome in ("cancelled", "interrupted"):
        yield _part(type="abort")
    else:
        yield _part(type="finish")
    yield _DONE


def _part(**members: Any) -> str:
    return f"data: {msgspec.json.encode(members).decode()}\n\n"
