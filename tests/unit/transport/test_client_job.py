"""A job as the Python client shows it: its state after each event."""

from typing import Any

import pytest

from huahuo.transport.client.model import Event
from huahuo.transport.client.subscription import Job, job_after

RUNNING = Job("import", 40, "4 of 10", "running")


def event(type_: str, **data: Any) -> Event:
    return Event("job/1", 1, type_, {"type": type_, **data})


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (event("job_started", name="import"), Job("import", 40, "4 of 10", "running")),
        (event("job_progress", percent=50, message="5 of 10"), Job("import", 50, "5 of 10", "running")),
        (event("job_progress", percent=50, message=""), Job("import", 50, "4 of 10", "running")),
        (event("job_message", message="slow"), Job("import", 40, "slow", "running")),
        (event("job_cancel_requested", user=42), Job("import", 40, "4 of 10", "cancelling")),
        (
            event("job_ended", outcome="failed", error="ValueError", message=""),
            Job("import", 40, "4 of 10", "failed", "ValueError"),
        ),
        (event("skipped", first=1, reason="compacted"), RUNNING),
        (event("job_painted"), RUNNING),
    ],
    ids=lambda value: value.type if isinstance(value, Event) else value.status,
)
def test_an_event_changes_what_it_says(said: Event, shown: Job) -> None:
    assert job_after(RUNNING, said) == shown


def test_a_snapshot_replaces_everything() -> None:
    state = {"name": "other", "user": 42, "percent": 1, "message": "", "status": "done", "error": ""}
    assert job_after(RUNNING, event("snapshot", state=state, outcome="gap")) == Job("other", 1, "", "done")


def test_a_job_is_over_when_it_has_an_outcome() -> None:
    running = [Job(status=status).ended for status in ("new", "running", "cancelling")]
    assert (running, Job(status="done").ended) == ([False] * 3, True)
