"""Jobs of other processes (`Publisher.job`): begun, told and ended by commands of administrators. Pure.

Nobody sees such a process end. So each command renews a lease, and a timer of the job ends it as
`interrupted` once the lease has run out. A timer that fires late, because the service was away, grants
another lease: the process may be there, trying to reach us.
"""

from typing import Annotated, Final

from msgspec import Meta

from huahuo.actors.domain import jobs
from huahuo.actors.domain.decision import After, Context, Decision, Outcome, Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command

LEASE_S: Final = 60.0
_LATE_MS: Final = 2_000
_TIMER: Final = "lease"

type _Lease = Annotated[float, Meta(ge=1, le=86_400)]


class BeginRemoteJob(Command, action="begin_remote_job", creates=True):
    """Begin a job that another process does."""

    name: jobs.Name
    user: int | str | None = None
    lease_s: _Lease = LEASE_S


class TellRemoteJob(Command, action="tell_remote_job"):
    """Say how far it is, or something, or only that the process is there."""

    percent: jobs.Percent | None = None
    message: jobs.Text = ""
    lease_s: _Lease = LEASE_S


class EndRemoteJob(Command, action="end_remote_job"):
    """End it. A second end changes nothing."""

    outcome: jobs.JobOutcome
    error: str = ""
    message: jobs.Text = ""


class LapseJob(Command):
    """The lease has run out. Sent by the timer alone."""

    lease_s: float
    due_ms: int


def add_to(job: Entity[jobs.Job]) -> None:
    """Let the built-in kind decide these commands."""

    @job.decide
    def begin(state: jobs.Job, command: BeginRemoteJob, ctx: Context) -> Outcome:
        del state
        if not ctx.is_admin:
            return _not_yours()
        started = jobs.starting(command.name, command.user)
        event = jobs.JobStarted(started.name, started.user)
        return Decision([event], effects=[_lease(command.lease_s, ctx)])

    @job.decide
    def tell(state: jobs.Job, command: TellRemoteJob, ctx: Context) -> Outcome:
        if not ctx.is_admin:
            return _not_yours()
        over = jobs.over(state)
        if over is not None:
            return over
        events: list[jobs.JobProgress | jobs.JobMessage] = []
        if command.percent is not None:
            events = [jobs.JobProgress(command.percent, command.message)]
        elif command.message:
            events = [jobs.JobMessage(command.message)]
        return Decision(events, effects=[_lease(command.lease_s, ctx)], reply={"status": state.status})

    @job.decide
    def end(state: jobs.Job, command: EndRemoteJob, ctx: Context) -> Outcome:
        if not ctx.is_admin:
            return _not_yours()
        if jobs.over(state) is not None:
            return Decision(reply={"status": state.status})
        outcome = jobs.outcome_of(state, command.outcome)
        event = jobs.JobEnded(outcome, command.error, command.message)
        return Decision([event], reply={"status": outcome})

    @job.decide
    def lapse(state: jobs.Job, command: LapseJob, ctx: Context) -> Outcome:
        if jobs.over(state) is not None:
            return []
        if ctx.now_ms - command.due_ms > _LATE_MS:
            return Decision(effects=[_lease(command.lease_s, ctx)])
        return [jobs.JobEnded("interrupted")]


def _lease(lease_s: float, ctx: Context) -> After:
    return After(lease_s, LapseJob(lease_s, ctx.now_ms + round(lease_s * 1000)), name=_TIMER)


def _not_yours() -> Refused:
    return Refused("forbidden", "only administrators' processes do jobs")
