"""When a run heals, no fault strikes any more: neither a new one, nor one that waited for its moment."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.memory import ModelDisk
from tests.support.checkers.history import History
from tests.support.models.model_imap import ModelImap
from tests.support.simulator.device import Device, Habits
from tests.support.simulator.faults import Faults
from tests.support.simulator.loop import Loop
from tests.support.simulator.marks import Marks
from tests.support.simulator.node import Node
from tests.support.simulator.shop import Outside
from tests.support.simulator.token_side import TokenSide

REFRESH = "refresh-0.0"


class Armed:
    """A service that is not started, what strikes it, and how it crashed."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop(seed=1)
        history = History()
        self.node = Node(self.loop, folder, "memory", history, Marks(), Outside())
        self.crashes: list[str] = []
        vars(self.node)["crash"] = self.crashes.append
        self.side = TokenSide(self.node, history, 1)
        self.side.is_kind = True
        self.device = Device(self.node, history, 0, 1, Habits(slow_s=3.0))
        self.faults = Faults(self.node, [self.device], [], ModelImap("alice", "secret", []), down_s=1.0)
        self.faults.tokens = self.side

    def crashed_in(self, work: Coroutine[Any, Any, object]) -> list[str]:
        """How it crashed until a second after `work`."""

        async def all_of_it() -> None:
            await work
            await asyncio.sleep(1.0)

        self.loop.run_until_complete(all_of_it())
        self.loop.close()
        return self.crashes

    async def refresh(self) -> None:
        """Let the token server make new tokens."""
        assert await self.side._answer(REFRESH, asyncio.StreamReader(), self.node)  # noqa: SLF001  without a network

    async def commit(self) -> None:
        """Let the disk sync once."""
        disk: ModelDisk = self.node.disk
        disk.sync(disk.hold())


@pytest.fixture
def armed(tmp_path: Path) -> Armed:
    return Armed(tmp_path)


@pytest.mark.parametrize("after", [False, True])
def test_a_power_cut_that_waits_for_a_commit_ends(armed: Armed, *, after: bool) -> None:
    armed.node.cut_at_next_commit(after=after)
    armed.faults.heal()
    assert armed.crashed_in(armed.commit()) == []


def test_a_crash_that_waits_for_new_tokens_ends(armed: Armed) -> None:
    armed.side.crash_next = "power"
    armed.faults.heal()
    assert armed.crashed_in(armed.refresh()) == []


def test_a_crash_soon_after_new_tokens_ends(armed: Armed) -> None:
    async def heal_between() -> None:
        armed.side.crash_next = "power"
        await armed.refresh()
        armed.faults.heal()

    assert armed.crashed_in(heal_between()) == []


def test_a_device_reads_as_fast_as_it_can(armed: Armed) -> None:
    """Else it may need more than the time in which everybody must have everything."""
    armed.faults.heal()
    assert armed.device.habits.slow_s == 0.0
    armed.loop.close()


def test_before_that_each_of_them_strikes(armed: Armed) -> None:
    async def both() -> None:
        armed.node.cut_at_next_commit(after=False)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await armed.commit()
        armed.side.crash_next = "kill"
        await armed.refresh()

    assert armed.crashed_in(both()) == ["power", "kill"]
