"""What a signal ends and what it waits for: drains, hangups, running checks, hanging work, sleep."""

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from huahuo.app import credentials
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.client.client import Client
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.command_line import KEYS
from tests.support.drivers.rawclient import connected, raw
from tests.support.patience import ALL_WITHIN_S, WITHIN_S, until
from tests.support.servers.evil_imap import Peer, evil
from tests.support.servers.ports import held_port
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving
from tests.support.servers.stuck_serve import send

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


LONG_S = 600.0
"""A process that waited would be there that long, or for ever: an end within `WITHIN_S` is at once."""


@contextmanager
def hanging(data: Path, action: str, drain_timeout_s: float = LONG_S) -> Iterator[subprocess.Popen[str]]:
    """A service in which the handler of `action` hangs (see `stuck_serve`)."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.servers.stuck_serve"),
            *("serve", "--data", str(data), "--port", "0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HUAHUO_DRAIN_TIMEOUT_S": str(drain_timeout_s), "HUAHUO_JWT_SECRET": JWT_SECRET},
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        token = credentials.mint(JWT_SECRET.encode(), SystemAmbient(), user_id=1, username="alice")
        asyncio.run(send(url, token, action, process.stdout))
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of_stderr(process: subprocess.Popen[str], part: str) -> str:
    """The first line with `part` in it."""
    assert process.stderr is not None
    for line in process.stderr:
        if part in line:
            return line
    raise AssertionError(f"no line with {part!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_drain_at_once_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    with hanging(tmp_path / "data", "ignore_cancellation") as process:
        process.send_signal(number)
        line_of_stderr(process, "draining")
        process.send_signal(number)
        assert process.wait(WITHIN_S) == 128 + number
        assert "second signal" in line_of_stderr(process, "at once")


def test_a_second_hangup_leaves_a_drain_to_go_on(tmp_path: Path) -> None:
    with hanging(tmp_path / "data", "ignore_cancellation") as process:
        process.send_signal(signal.SIGHUP)
        line_of_stderr(process, "draining")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 128 + signal.SIGTERM, "the hang-up did not end it"
        assert "second signal" in line_of_stderr(process, "at once")


def to_thread(process: subprocess.Popen[str], thread: int, number: signal.Signals) -> None:
    """Send a signal to one thread, as the system does when it chooses one for a signal to the process."""
    assert ctypes.CDLL(None).tgkill(process.pid, thread, number) == 0


def times_asleep(process: subprocess.Popen[str]) -> int:
    """How often the main thread went to sleep by itself."""
    status = Path(f"/proc/{process.pid}/task/{process.pid}/status").read_text(encoding="utf-8")
    return next(
        int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")
    )


@pytest.mark.parametrize("receiver", ["main thread", "another thread"])
def test_a_second_signal_ends_also_a_service_whose_loop_is_blocked(tmp_path: Path, receiver: str) -> None:
    with hanging(tmp_path / "data", "block_the_loop") as process:
        threads = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
        asleep = times_asleep(process)
        to_thread(process, process.pid, signal.SIGTERM)
        until(lambda: times_asleep(process) > asleep, lambda: "the first signal is handled, and it sleeps on")
        # Another signal, as two equal ones may be delivered as one.
        to_thread(process, threads[-1] if receiver == "another thread" else process.pid, signal.SIGINT)
        assert process.wait(WITHIN_S) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


@pytest.mark.parametrize("action", ["ignore_cancellation", "leave_a_thread"])
def test_what_hangs_does_not_hold_a_stop_beyond_its_deadline(tmp_path: Path, action: str) -> None:
    with hanging(tmp_path / "data", action, drain_timeout_s=2) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


def test_a_signal_ends_a_node_that_waits_for_its_ordered_log(tmp_path: Path) -> None:
    with held_port() as nobody:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "huahuo", "serve", "--data", str(tmp_path), "--port", "0"),
                *("--log", f"nats://127.0.0.1:{nobody}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HUAHUO_MASTER_KEY": MASTER_KEY, "HUAHUO_JWT_SECRET": JWT_SECRET},
        )
        try:
            line_of_stderr(process, "waiting_for_the_ordered_log")
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0
            assert "stopped_before_it_served" in line_of_stderr(process, "stopped")
        finally:
            process.kill()
            process.communicate()


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def ignores_hangups(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    ignored = re.search(r"SigIgn:\s*([0-9a-f]+)", status)
    assert ignored is not None
    return bool(int(ignored[1], 16) >> (signal.SIGHUP - 1) & 1)


async def told_at_hangup(server: Serving) -> tuple[dict[str, object], int]:
    """What a client is told when all processes of the service are hung up on, and the exit code."""
    async with connected(server.url) as client:
        await client.authenticate(server.token(1, "alice"))
        for child in children_of(server.pid):
            os.kill(child, signal.SIGHUP)
        ending = asyncio.create_task(asyncio.to_thread(server.hang_up))
        told = await client.until("goaway")
        return told, await ending


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_drains_the_service_as_sigterm_does(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path / "data", HUAHUO_WORKERS=workers) as server:
        told, code = asyncio.run(told_at_hangup(server))
        assert told["code"] == CloseCode.DRAINING
        assert code == 0
        server.start()
        server.stop()
        assert "log_written_by_others" not in server.log()


def test_a_service_that_was_started_to_ignore_hangups_ignores_them(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "huahuo", "serve", "--data", str(tmp_path), "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | KEYS,
    )
    try:
        assert process.stdout is not None
        assert "listening on" in process.stdout.readline()
        assert ignores_hangups(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.communicate()


async def statuses(server: Serving, last: str) -> list[dict[str, Any]]:
    """What user 42 is told of the status of checks, up to one that is `last`."""
    told: list[dict[str, Any]] = []
    async with (
        Client(server.url, token=server.token(42, "alice")) as client,
        client.events("user/42", after="start") as events,
    ):
        async for event in events:
            if event.type == "email_status_update":
                told.append(event.data)
                if event.data["status"] == last:
                    break
    return told


async def test_a_stop_waits_for_a_check_that_runs(tmp_path: Path) -> None:
    logging_in, stopping = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.until_login()
        logging_in.set()
        await stopping.wait()
        await peer.say(peer.tag + b" NO [AUTHENTICATIONFAILED] no")
        await peer.silent()

    with serving(tmp_path / "data") as server:
        async with (
            asyncio.timeout(ALL_WITHIN_S),
            evil(script) as mail,
            raw(f"ws://127.0.0.1:{server.port}/ws", "huahuo.v1") as watcher,
        ):
            await watcher.authenticate(server.token(42, "alice"))
            async with Client(server.url, token=server.token(42, "alice")) as client:
                fields = {"server": "127.0.0.1", "port": mail.port, "use_ssl": False, "mail_type": "imap"}
                added = await client.send("add_email", email="a@example.org", password="p", **fields)
                await client.send("check_emails", email_ids=[added["email_id"]])
                await logging_in.wait()
            stop = asyncio.get_running_loop().run_in_executor(None, server.stop)
            await watcher.closed()
            stopping.set()
            assert await stop == 0
            server.start()
            told = await statuses(server, "need_reauth")
            assert [one["status"] for one in told] == ["queued", "processing", "need_reauth"]
            assert len(mail.peers) == 1


V1 = "huahuo.v1"


SLEEP_S = 4.5
"""Longer than each of the limits below."""


JUDGED_S = 4.0
"""Longer than what is left of any limit after the sleep."""


async def test_a_stopped_and_continued_service_closes_nobody_and_handles_what_was_sent_meanwhile(
    tmp_path: Path,
) -> None:
    with serving(
        tmp_path / "data",
        HUAHUO_HEARTBEAT_S="2",  # a client may be silent for two; the wheel looks once a second
        HUAHUO_AUTH_TIMEOUT_S="3",
        HUAHUO_ACK_TIMEOUT_S="3",
    ) as server:
        url, token = f"ws://127.0.0.1:{server.port}/ws", server.token(1, "root", admin=True)

        async def main() -> None:
            async with AsyncExitStack() as stack:
                idle, behind = [await stack.enter_async_context(raw(url, V1)) for _ in range(2)]
                await idle.authenticate(token)
                await behind.authenticate(token)
                await behind.say(action="subscribe", id="s", stream="group/ops")
                await behind.until("subscribed")
                await idle.say(action="publish", id="p", stream="group/ops", type="noted")
                seq = (await behind.until("events"))["seq"]
                stranger = await stack.enter_async_context(raw(url, V1))
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    await idle.say(action="heartbeat", id="meanwhile")
                    await behind.say(action="ack", cursors={"group/ops": seq})
                    await stranger.say(action="authenticate", token=token)
                    await asyncio.sleep(SLEEP_S)  # the process's own clock must go on
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                await idle.until("heartbeat_response", id="meanwhile")
                assert (await stranger.until("authentication_result"))["success"]
                await asyncio.sleep(JUDGED_S)
                for client in (idle, behind, stranger):
                    await client.quiet()

        await main()
        assert "process_slept" in server.log()
