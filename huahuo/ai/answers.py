"""The kind `answer`: a text that a model writes piece by piece on `answer/<id>`. Pure.

A reader that comes late gets the text so far in one piece, as the stream's state. The process that writes
renews a lease; a timer ends an answer whose process is gone as `interrupted`, so nobody waits for ever.
"""

from typing import Final, Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from huahuo.actors.domain.decision import After, Context, Decision, Outcome, Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command, Event
from huahuo.actors.plugins.principal import Principal

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
