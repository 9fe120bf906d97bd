"""RQ jobs whose progress their user watches, and may cancel.

def import_files(files, user):
    with task_job(publisher, user=user) as job:
        for file in job.steps(files):
            …
"""

from rq import get_current_job

from huahuo.errors import HuahuoError
from huahuo.publisher import LEASE_S, Publisher, RemoteJob, UserId


def task_job(
    publisher: Publisher, *, user: UserId | None = None, name: str = "", lease_s: float = LEASE_S
) -> RemoteJob:
    """The job of the RQ job that runs now. Its progress stands in that one's `meta` too.

    Raises HuahuoError: no RQ job runs here.
    """
    current = get_current_job()
    if current is None:
        raise HuahuoError("call it inside a job that an RQ worker runs")

    def record(percent: float, message: str) -> None:
        current.meta.update(percent=percent, message=message)
        current.save_meta()  # type: ignore[no-untyped-call]  # of the library

    return RemoteJob(publisher, name or str(current.func_name), user, lease_s, record)
