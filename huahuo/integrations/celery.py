"""Celery tasks whose progress their user watches, and may cancel.

@celery.task(bind=True)
def import_files(self, files, user):
    with task_job(self, publisher, user=user) as job:
        for file in job.steps(files):
            …
"""

from typing import Any

from huahuo.publisher import LEASE_S, Publisher, RemoteJob, UserId


def task_job(
    task: Any, publisher: Publisher, *, user: UserId | None = None, name: str = "", lease_s: float = LEASE_S
) -> RemoteJob:
    """The job of a bound task. Its progress is the task's state `PROGRESS` too, for tools that poll.

    A cancel ends the block at the next report; the task then goes on behind the block.
    """

    def record(percent: float, message: str) -> None:
        if task.request.id is not None and not task.request.is_eager:
            task.update_state(state="PROGRESS", meta={"percent": percent, "message": message})

    return RemoteJob(publisher, name or task.name, user, lease_s, record)
