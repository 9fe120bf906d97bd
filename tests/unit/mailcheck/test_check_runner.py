"""Places for running checks: bounded in all, for each user and server, and given in turns."""

import asyncio

import pytest

from huahuo.actors.plugins.principal import UserId
from huahuo.mailcheck.checks.queue import CheckRunner, Job

pytestmark = pytest.mark.virtual_time


class Checks:
    """Checks that run until they are let go; `begun` are their hosts, in order."""

    def __init__(self, *, checks_max: int, per_host_max: int, per_user_max: int = 100) -> None:
        self.owes_until_s: dict[UserId, float] = {}
        self.runner = CheckRunner(
            self._perform,
            checks_max=checks_max,
            per_host_max=per_host_max,
            waiting_max=100,
            waiting_per_user_max=per_user_max,
            wait_s=self._wait_s,
        )
        self.release = asyncio.Event()
        self.begun: list[str] = []

    async def offer(self, *hosts: str) -> None:
        for number, host in enumerate(hosts):
            assert self.runner.offer(Job(number, number, host))
        await asyncio.sleep(0)

    def _wait_s(self, user_id: UserId) -> float:
        return self.owes_until_s.get(user_id, 0.0) - asyncio.get_running_loop().time()

    async def _perform(self, job: Job) -> None:
        self.begun.append(job.host)
        await self.release.wait()


async def test_a_busy_host_does_not_keep_another_waiting() -> None:
    checks = Checks(checks_max=3, per_host_max=2)
    await checks.offer(*["busy"] * 5, "other")
    assert checks.begun == ["busy", "busy", "other"]
    checks.release.set()
    await checks.runner.idle()
    assert sorted(checks.begun) == ["busy"] * 5 + ["other"]


async def test_no_more_checks_run_than_there_are_places() -> None:
    checks = Checks(checks_max=3, per_host_max=2)
    await checks.offer(*(f"host{n}" for n in range(7)))
    assert (checks.runner.running, checks.runner.waiting) == (len(checks.begun), 4) == (3, 4)
    checks.release.set()
    await checks.runner.idle()
    assert len(checks.begun) == 7


async def test_a_host_is_one_whatever_the_case_of_its_name() -> None:
    checks = Checks(checks_max=3, per_host_max=1)
    await checks.offer("imap.example.com", "IMAP.example.com")
    assert checks.begun == ["imap.example.com"]
    checks.release.set()
    await checks.runner.idle()


async def test_a_check_that_is_stopped_gives_its_place_to_the_next() -> None:
    checks = Checks(checks_max=1, per_host_max=1)
    await checks.offer("a", "b", "a", "c")
    checks.runner.stop(1)  # waits
    checks.runner.stop(0)  # runs
    await asyncio.sleep(0.001)
    assert (checks.begun, checks.runner.running, checks.runner.waiting) == (["a", "a"], 1, 1)
    checks.release.set()
    await checks.runner.idle()
    assert checks.begun == ["a", "a", "c"]


async def test_one_users_backlog_delays_anothers_check_by_one_place() -> None:
    checks = Checks(checks_max=1, per_host_max=1)
    for number in range(20):
        assert checks.runner.offer(Job(number, number, f"host{number}", user_id=1))
    assert checks.runner.offer(Job(20, 20, "calm", user_id=2))
    checks.release.set()
    await checks.runner.idle()
    assert checks.begun.index("calm") <= 2
    assert len(checks.begun) == 21


async def test_users_take_turns_at_a_server_that_both_wait_for() -> None:
    checks = Checks(checks_max=8, per_host_max=1)
    for number in range(10):
        assert checks.runner.offer(Job(number, number, "busy", user_id=1))
    assert checks.runner.offer(Job(10, 10, "busy", user_id=2))
    running: list[int] = []
    while checks.runner.running:
        [check_id] = checks.runner.running_ids
        running.append(check_id)
        checks.runner.stop(check_id)
        await asyncio.sleep(0.001)
    assert running.index(10) <= 2
    assert [one for one in running if one != 10] == list(range(10))


async def test_a_user_with_a_full_line_is_refused_and_another_is_not() -> None:
    checks = Checks(checks_max=1, per_host_max=1, per_user_max=3)
    offered = [checks.runner.offer(Job(n, n, "a", user_id=1)) for n in range(6)]
    assert offered == [True] * 4 + [False] * 2, "one runs, three wait"
    assert checks.runner.offer(Job(7, 7, "a", user_id=2))
    assert checks.runner.waiting == 4
    checks.release.set()
    await checks.runner.idle()
    assert (checks.runner.waiting, checks.runner.users_waiting) == (0, 0)
    assert checks.runner.offer(Job(8, 8, "a", user_id=1))
    await checks.runner.idle()


async def test_checks_of_a_user_over_its_share_wait_while_anothers_begin() -> None:
    checks = Checks(checks_max=3, per_host_max=3)
    checks.owes_until_s[1] = asyncio.get_running_loop().time() + 5.0
    assert checks.runner.offer(Job(1, 1, "late", user_id=1))
    assert checks.runner.offer(Job(2, 2, "soon", user_id=2))
    await asyncio.sleep(1)
    assert checks.begun == ["soon"]
    assert checks.runner.by_user == {2: 1}
    await asyncio.sleep(4.5)
    assert checks.begun == ["soon", "late"]
    checks.release.set()
    await checks.runner.idle()
    assert not checks.runner.by_user
