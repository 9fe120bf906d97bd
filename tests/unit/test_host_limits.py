"""Places for running checks: bounded in all and for each server, and nobody waits for a stranger."""

import asyncio

from mailcheck.hosts import HostLimits


async def holding(limits: HostLimits, host: str, release: asyncio.Event, inside: list[str]) -> None:
    async with limits.place(host):
        inside.append(host)
        await release.wait()


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_busy_host_does_not_keep_another_waiting() -> None:
    async def main() -> None:
        limits = HostLimits(checks_max=3, per_host_max=2)
        release, inside = asyncio.Event(), list[str]()
        async with asyncio.TaskGroup() as group:
            for host in ["busy"] * 5 + ["other"]:
                group.create_task(holding(limits, host, release, inside))
            await settled()
            assert inside == ["busy", "busy", "other"]
            release.set()
        assert sorted(inside) == ["busy"] * 5 + ["other"]

    asyncio.run(main())


def test_no_more_checks_run_than_there_are_places() -> None:
    async def main() -> None:
        limits = HostLimits(checks_max=3, per_host_max=2)
        release, inside = asyncio.Event(), list[str]()
        async with asyncio.TaskGroup() as group:
            for number in range(7):
                group.create_task(holding(limits, f"host{number}", release, inside))
            await settled()
            assert len(inside) == 3
            release.set()
        assert len(inside) == 7

    asyncio.run(main())


def test_the_table_forgets_hosts_that_nobody_uses_also_after_a_cancel() -> None:
    async def main() -> None:
        limits = HostLimits(checks_max=1, per_host_max=1)
        release, inside = asyncio.Event(), list[str]()
        tasks = [asyncio.create_task(holding(limits, f"h{n % 3}", release, inside)) for n in range(9)]
        await settled()
        assert len(limits) == 3
        for task in tasks[1:]:
            task.cancel()
        await settled()
        assert len(limits) == 1
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(limits) == 0
        async with limits.place("again"):
            pass

    asyncio.run(main())
