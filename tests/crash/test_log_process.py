"""Real processes, real files: events that the log acknowledged survive whatever happens to its writer.

A child writes, and prints on its standard output what was acknowledged. It is killed, its disk is filled,
its syncs are made to fail. Then the files are opened here and compared with that output.
"""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from huahuo.eventstore.errors import InUse
from huahuo.eventstore.model import Appended, Duplicate
from tests.support.drivers.log_child import numbered
from tests.support.drivers.log_parent import child, lines, opened
from tests.support.patience import WITHIN_S

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)


class Said:
    """What a child printed: the history with which the log is compared."""

    def __init__(self) -> None:
        self.sent: set[int] = set()
        self.acked: dict[int, int] = {}
        self.unavailable: set[int] = set()
        self.other: dict[str, str] = {}

    def hear(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        match word:
            case "sent":
                self.sent.add(int(rest))
            case "acked":
                number, position = rest.split()
                self.acked[int(number)] = int(position)
            case "unavailable":
                self.unavailable.add(int(rest))
            case _:
                self.other[word] = rest


async def judge(directory: Path, said: Said) -> int:
    """Each acknowledged event is there once, at its place; none that was not sent. No gap; a whole chain."""
    log = await opened(directory)
    try:
        assert await log.verify() == log.position
        events = await log.read("log", 0, events_max=1 << 20, bytes_max=1 << 30)
        assert [e.position for e in events] == list(range(1, log.position + 1))
        places: dict[str, list[int]] = {}
        for event in events:
            places.setdefault(event.command_id, []).append(event.position)
        for number, position in said.acked.items():
            assert places[f"c{number}"] == [position - 1, position], number
        assert set(places) <= {f"c{number}" for number in said.sent}
        assert all(len(both) == 2 for both in places.values()), "an append is there as a whole"
        for number in sorted(said.sent)[-20:]:
            repeated = await log.append(numbered(number))
            was_there = f"c{number}" in places
            assert isinstance(repeated, Duplicate if was_there else Appended)
            if not was_there:
                said.acked[number] = repeated.position if isinstance(repeated, Appended) else 0
        return len(events)
    finally:
        await log.close()


async def test_nothing_acknowledged_is_lost_when_the_writer_is_killed_again_and_again(tmp_path: Path) -> None:
    said = Said()
    first = 0
    for round_, acks in enumerate((1, 40, 333, 150)):
        with child(tmp_path, "appends", first, 1_000_000) as process:
            goal = len(said.acked) + acks
            for line in lines(process):
                said.hear(line)
                if len(said.acked) >= goal:
                    process.send_signal(signal.SIGKILL)
                    break
            for line in lines(process):  # what it printed before it died counts as well
                said.hear(line)
        first = max(said.sent) + 1
        assert await judge(tmp_path, said) > 0, round_
    assert len(said.acked) > 500


async def test_a_second_process_is_refused_and_told_who_holds_the_log(tmp_path: Path) -> None:
    with child(tmp_path, "hold") as process:
        assert next(lines(process)).startswith("open")
        with pytest.raises(InUse) as caught:
            await opened(tmp_path)
        assert f"{tmp_path} is in use by process {process.pid}" in str(caught.value)
        process.kill()
        process.wait(WITHIN_S)
        log = await opened(tmp_path)
        await log.close()


def everything(process: subprocess.Popen[str]) -> Said:
    said = Said()
    for line in lines(process):
        said.hear(line)
    assert process.wait(WITHIN_S) == 0, said.other
    return said


def check_recovered(said: Said) -> None:
    """After a full disk has room again, all acknowledged events are there, and the failed one succeeds."""
    [failed] = said.unavailable
    assert failed > 5
    assert said.other["reason"].startswith("the log cannot write: ")
    assert "still" not in said.other
    assert failed in said.acked
    assert len(said.acked) == failed + 21
    position, verified = map(int, said.other["again"].split())
    assert position == verified == max(said.acked.values())


async def test_a_write_that_fails_is_unavailable_and_the_log_goes_on_when_writes_work(tmp_path: Path) -> None:
    with child(tmp_path, "full", 1 << 20) as process:
        said = everything(process)
    check_recovered(said)
    await judge(tmp_path, said)


def test_a_full_file_system_is_survived(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=2m tmpfs "{tmp_path}"'
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("no private mounts here")
    shell = ("unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh")
    with child(tmp_path / "data", "tmpfs", under=shell) as process:
        said = everything(process)
    assert said.other["reason"] == "the log cannot write: database or disk is full"
    check_recovered(said)


@needs_strace
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
@pytest.mark.parametrize("when", [3, 9, 14])
async def test_a_process_killed_inside_a_system_call_loses_nothing(
    tmp_path: Path, call: str, when: int
) -> None:
    """The kill hits exactly this call, after the log was opened once without a fault."""
    await judge(tmp_path, Said())
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={when}")
    with child(tmp_path, "retry", 12, under=strace) as process:
        said = Said()
        for line in lines(process):
            said.hear(line)
        assert process.wait(WITHIN_S) != 0, "the call was never made"
    await judge(tmp_path, said)


@needs_strace
@pytest.mark.parametrize("fault", ["fdatasync:error=EIO:when=7", "pwrite64:error=ENOSPC:when=25..27"])
async def test_what_a_failed_call_left_unknown_can_be_sent_again(tmp_path: Path, fault: str) -> None:
    await judge(tmp_path, Said())
    with child(
        tmp_path, "retry", 12, under=("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}")
    ) as process:
        said = everything(process)
    assert said.unavailable, "the fault was never met"
    assert set(said.acked) == set(range(12)), "each command took effect once, under its first id"
    assert said.other["verified"] == "24"
    await judge(tmp_path, said)
