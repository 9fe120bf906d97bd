"""The built-in kind `job`: work of the application that users watch and may cancel. Pure.

`job/<id>` begins with `job_started` and ends with one `job_ended`, whatever happens to the process. Only
the service starts, reports and ends a job; its user and administrators read it and send `cancel_job`.

Jobs of other processes (`Publisher.job`): begun, told and ended by commands of administrators. Pure.

Nobody sees such a process end. So each command renews a lease, and a timer of the job ends it as
`interrupted` once the lease has run out. A timer that fires late, because the service was away, grants
another lease: the process may be there, trying to reach us.
"""

from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import After, Command, Context, Decision, Drop, Event, Outcome, Put, Refused
from huahuo.actors.plugins.calls import USER_ID_RULE, Principal, UserId, user_id_of

KIND: Final = "job"
TABLE: Final = "huahuo:jobs"
OPEN: Final = "open"
"""The part of the table that has a row for each job without an end."""
_NAME_CHARS_MAX: Final = 200
_MESSAGE_CHARS_MAX: Final = 2_000
_WHOLE: Final = 100

type JobOutcome = Literal["done", "failed", "cancelled", "interrupted"]
type Name = Annotated[str, Meta(min_length=1, max_length=_NAME_CHARS_MAX)]
type Percent = Annotated[int, Meta(ge=0, le=_WHOLE)] | Annotated[float, Meta(ge=0, le=_WHOLE)]
type Text = Annotated[str, Meta(max_length=_MESSAGE_CHARS_MAX)]


class JobStarted(Event, type="job_started"):
    """A job began. `user`: who may read and cancel it besides administrators."""

    name: str
    user: int | str | None = None


class JobProgress(Event, type="job_progress", prunable=True):
    """How far it is, 0 to 100."""

    percent: int | float
    message: str = ""


class JobMessage(Event, type="job_message"):
    """A line for those who watch."""

    message: str


class JobCancelRequested(Event, type="job_cancel_requested"):
    """Somebody wants it to end. It goes on until its program notices."""

    by: int | str | None = None


class JobEnded(Event, type="job_ended"):
    """Its end. `error` is the type of an exception, never its text; `message` is the application's own."""

    outcome: JobOutcome
    error: str = ""
    message: str = ""


class Job(Struct, frozen=True):
    """The state of a job. `status`: `new`, `running`, `cancelling`, or how it ended."""

    name: str = ""
    user: int | str | None = None
    percent: int | float = 0
    message: str = ""
    status: str = "new"
    error: str = ""

    @property
    def outcome(self) -> JobOutcome | None:
        """How it ended, None before."""
        return None if self.status in ("new", "running", "cancelling") else cast("JobOutcome", self.status)


class StartJob(Command, creates=True):
    """Begin. Sent by the service alone. `by`: the incarnation that does it, where nodes share the log."""

    name: Name
    user: int | str | None = None
    by: str = ""


class ReportJob(Command):
    """Say how far it is. Sent by the service alone."""

    percent: Percent
    message: Text = ""


class SayOfJob(Command):
    """Say something about it. Sent by the service alone."""

    message: Text


class EndJob(Command):
    """End it. A second end changes nothing. Sent by the service alone."""

    outcome: JobOutcome
    error: str = ""
    message: Text = ""


class CancelJob(Command, action="cancel_job", frees=True):
    """Ask it to end. Its user and administrators may send it."""


class _OpenRow(Struct):
    """The row of an open job, where nodes share the log. A service alone writes the name."""

    name: str
    by: str


_ROW: Final = msgspec.json.Decoder(str | _OpenRow)


class _BuiltIn(Entity[Job]):
    """An entity of the service itself, whose kind no application may take."""

    reserved = frozenset[str]()


def job_entity() -> Entity[Job]:
    """The declaration of the kind `job`."""
    job = _BuiltIn(KIND, Job)

    @job.evolve
    def started(state: Job, event: JobStarted) -> Job:
        return replace(state, name=event.name, user=event.user, status="running")

    @job.evolve
    def progressed(state: Job, event: JobProgress) -> Job:
        return replace(state, percent=event.percent, message=event.message or state.message)

    @job.evolve
    def said(state: Job, event: JobMessage) -> Job:
        return replace(state, message=event.message)

    @job.evolve
    def cancelling(state: Job, event: JobCancelRequested) -> Job:
        del event
        return replace(state, status="cancelling")

    @job.evolve
    def ended(state: Job, event: JobEnded) -> Job:
        message = event.message or state.message
        return replace(state, status=event.outcome, error=event.error, message=message)

    @job.decide
    def start(state: Job, command: StartJob, ctx: Context) -> Outcome:
        del state
        value = {"name": command.name, "by": command.by} if command.by else command.name
        row = Put(TABLE, OPEN, _key(ctx), value)
        return Decision([JobStarted(command.name, command.user)], rows=[row])

    @job.decide
    def report(state: Job, command: ReportJob, ctx: Context) -> Outcome:
        del ctx
        return refusal_if_over(state) or [JobProgress(command.percent, command.message)]

    @job.decide
    def say(state: Job, command: SayOfJob, ctx: Context) -> Outcome:
        del ctx
        return refusal_if_over(state) or [JobMessage(command.message)]

    @job.decide
    def cancel(state: Job, command: CancelJob, ctx: Context) -> Outcome:
        del command
        if state.status == "cancelling":
            return []
        return refusal_if_over(state) or [JobCancelRequested(ctx.user_id)]

    @job.decide
    def end(state: Job, command: EndJob, ctx: Context) -> Outcome:
        if refusal_if_over(state) is not None:
            return []
        event = JobEnded(outcome_of(state, command.outcome), command.error, command.message)
        return Decision([event], rows=[Drop(TABLE, OPEN, _key(ctx))])

    @job.readers
    def may_read(state: Job, who: Principal) -> bool:
        return state.user is not None and who.user_id == state.user

    return job


def outcome_of(state: Job, outcome: JobOutcome) -> JobOutcome:
    """How a job in this state ends, if its program says so."""
    # The client that cancelled it has had this answer.
    return "cancelled" if state.status == "cancelling" and outcome == "done" else outcome


def is_open(state: Job) -> bool:
    """Whether it has begun and not ended."""
    return state.status in ("running", "cancelling")


def begun_by(row: bytes) -> str:
    """The incarnation that does the open job of this row, empty where the row does not say it."""
    value = _ROW.decode(row)
    return "" if isinstance(value, str) else value.by


def starting(name: str, user: UserId | None, by: str = "") -> StartJob:
    """The command that begins a job. Raises Refused: the name or the user is none."""
    if not 0 < len(name) <= _NAME_CHARS_MAX:
        raise Refused("invalid_field", f"a job needs a name of 1 to {_NAME_CHARS_MAX} characters")
    user_id = user_id_of(user)
    if user is not None and user_id is None:
        raise Refused("invalid_field", f"user: {USER_ID_RULE}")
    return StartJob(name, user_id, by)


def report_of(percent: float, message: str) -> ReportJob:
    """The command for a progress. Raises Refused: it is no percentage."""
    given: object = percent
    if not isinstance(given, int | float) or not 0 <= given <= _WHOLE:
        raise Refused("invalid_field", f"percent: {given!r:.40} is not between 0 and 100")
    return ReportJob(percent, _text(message))


def say_of(message: str) -> SayOfJob:
    """The command for a message."""
    return SayOfJob(_text(message))


def _text(message: str) -> str:
    given: object = message
    if not isinstance(given, str):
        raise Refused("invalid_field", f"message: {given!r:.40} is no text")
    if len(message) > _MESSAGE_CHARS_MAX:
        raise Refused("invalid_field", f"message: it has more than {_MESSAGE_CHARS_MAX} characters")
    return message


def refusal_if_over(state: Job) -> Refused | None:
    """The refusal, if it has ended."""
    return None if is_open(state) else Refused("conflict", f"the job has ended: {state.status}")


def _key(ctx: Context) -> str:
    return f"{ctx.id:016d}"


LEASE_S: Final = 60.0
_LATE_MS: Final = 2_000
_TIMER: Final = "lease"

type _Lease = Annotated[float, Meta(ge=1, le=86_400)]


class BeginRemoteJob(Command, action="begin_remote_job", creates=True):
    """Begin a job that another process does."""

    name: Name
    user: int | str | None = None
    lease_s: _Lease = LEASE_S


class TellRemoteJob(Command, action="tell_remote_job"):
    """Say how far it is, or something, or only that the process is there."""

    percent: Percent | None = None
    message: Text = ""
    lease_s: _Lease = LEASE_S


class EndRemoteJob(Command, action="end_remote_job"):
    """End it. A second end changes nothing."""

    outcome: JobOutcome
    error: str = ""
    message: Text = ""


class LapseJob(Command):
    """The lease has run out. Sent by the timer alone."""

    lease_s: float
    due_ms: int


def add_to(job: Entity[Job]) -> None:
    """Let the built-in kind decide these commands."""

    @job.decide
    def begin(state: Job, command: BeginRemoteJob, ctx: Context) -> Outcome:
        del state
        if not ctx.is_admin:
            return _not_yours()
        started = starting(command.name, command.user)
        event = JobStarted(started.name, started.user)
        return Decision([event], effects=[_lease(command.lease_s, ctx)])

    @job.decide
    def tell(state: Job, command: TellRemoteJob, ctx: Context) -> Outcome:
        if not ctx.is_admin:
            return _not_yours()
        over = refusal_if_over(state)
        if over is not None:
            return over
        events: list[JobProgress | JobMessage] = []
        if command.percent is not None:
            events = [JobProgress(command.percent, command.message)]
        elif command.message:
            events = [JobMessage(command.message)]
        return Decision(events, effects=[_lease(command.lease_s, ctx)], reply={"status": state.status})

    @job.decide
    def end(state: Job, command: EndRemoteJob, ctx: Context) -> Outcome:
        if not ctx.is_admin:
            return _not_yours()
        if refusal_if_over(state) is not None:
            return Decision(reply={"status": state.status})
        outcome = outcome_of(state, command.outcome)
        event = JobEnded(outcome, command.error, command.message)
        return Decision([event], reply={"status": outcome})

    @job.decide
    def lapse(state: Job, command: LapseJob, ctx: Context) -> Outcome:
        if refusal_if_over(state) is not None:
            return []
        if ctx.now_ms - command.due_ms > _LATE_MS:
            return Decision(effects=[_lease(command.lease_s, ctx)])
        return [JobEnded("interrupted")]


def _lease(lease_s: float, ctx: Context) -> After:
    return After(lease_s, LapseJob(lease_s, ctx.now_ms + round(lease_s * 1000)), name=_TIMER)


def _not_yours() -> Refused:
    return Refused("forbidden", "only administrators' processes do jobs")
