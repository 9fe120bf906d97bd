"""Autobahn's cases of the WebSocket protocol (RFC 6455), on the service's socket and on the Python client's.

The groups 12 and 13 are left out: they are about a compression that is never negotiated. Group 9 measures
throughput; the service is asked those of its cases that send 4 MiB in fragments (9.3 and 9.4). Under an ASGI
server the frames are read by that server, so there is nothing of ours to judge.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver
from websockets.exceptions import ConnectionClosed

from huahuo.transport.client.connection import open_socket
from tests.support.proofs import WHOLE
from tests.support.servers.echo_socket import HEARD, echo_server

LEFT_OUT = ["9.*", "12.*", "13.*"]
WITHOUT_FRAGMENTS = ["9.1.*", "9.2.*", "9.5.*", "9.6.*", "9.7.*", "9.8.*", "12.*", "13.*"]
CASES = ["*"] if WHOLE else ["1.1.*", "2.*", "3.*", "5.*", "6.2.*", "6.4.*", "7.*"]
ALLOWED = {"7.1.5"}
"""A close frame between two fragments: the library answers with 1002 where 1000 is wanted, and ends."""
TOO_MANY_FRAGMENTS = {"9.3.1", "9.3.2", "9.4.1", "9.4.2"} if WHOLE else set()
"""65,536 and 16,384 fragments for one message: the library ends at 4,096 with 1009, so none fills memory."""
WITHIN_S = 300.0
ROUNDS_MAX = 5
LOOK_S, LATE_S = 0.02, 0.2


def failed(results: list[Any]) -> dict[str, str]:
    return {one.case_id: f"{one.result} {one.result_close}" for one in results if not one.passed}


async def judged(run: Callable[[list[str]], Awaitable[list[Any]]]) -> list[Any]:
    """What became of each case. `run` runs some.

    The tool gives each case one second. If this process has no processor for that long, its answer counts as
    wrong. So the cases with wrong answers are run again after a round in which this process came late.
    """
    results: dict[str, Any] = {}
    wanted = CASES
    for _ in range(ROUNDS_MAX):
        late = Lateness()
        watching = asyncio.create_task(late.watch())
        results |= {one.case_id: one for one in await run(wanted)}
        watching.cancel()
        wanted = sorted(failed(list(results.values())).keys() - ALLOWED - TOO_MANY_FRAGMENTS)
        if not wanted or late.most_s < LATE_S:
            break
    return list(results.values())


class Lateness:
    """How late this process was at most when it should have gone on."""

    def __init__(self) -> None:
        self.most_s = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before_s = loop.time()
            await asyncio.sleep(LOOK_S)
            self.most_s = max(self.most_s, loop.time() - before_s - LOOK_S)


@pytest.mark.slow
async def test_the_service_reads_and_writes_frames_as_the_standard_says() -> None:
    async with echo_server() as address:

        async def run(cases: list[str]) -> list[Any]:
            try:
                running = run_fuzzingclient(f"ws://{address}", cases, WITHOUT_FRAGMENTS)
                return list(await asyncio.wait_for(running, WITHIN_S))
            except FailureError as error:
                return list(error.results)

        results = await judged(run)
    assert set(failed(results)) - ALLOWED == TOO_MANY_FRAGMENTS, failed(results)
    assert len(results) > (240 if WHOLE else 80)
    assert HEARD["all"] > HEARD["slow"], "the short way was not used"
    assert HEARD["slow"] > 0, "the long way was not used"


@pytest.mark.slow
async def test_the_python_client_reads_and_writes_frames_as_the_standard_says() -> None:
    asked_for = 0

    async def run(cases: list[str]) -> list[Any]:
        nonlocal asked_for
        async with run_fuzzingserver(cases, LEFT_OUT, host="127.0.0.1", port=0) as server:
            url = f"ws://{server.address}:{server.port}"
            count = int(await asked(f"{url}/getCaseCount"))
            asked_for = asked_for or count
            for number in range(1, count + 1):
                await echo(f"{url}/runCase?case={number}&agent=huahuo")
            await echo(f"{url}/updateReports?agent=huahuo")
            try:
                results = await asyncio.wait_for(server.get_result(), WITHIN_S)
            except FailureError as error:
                results = error.results
        return list(results)

    results = await judged(run)
    assert set(failed(results)) <= ALLOWED, failed(results)
    assert len(results) == asked_for


async def asked(url: str) -> str:
    """The first message of a server."""
    socket = await open_socket(url, [], timeout_s=60)
    try:
        return str(await socket.recv())
    finally:
        await socket.close()


async def echo(url: str) -> None:
    """Send back each message until the server ends."""
    socket = await open_socket(url, [], timeout_s=60)
    try:
        with suppress(ConnectionClosed):
            async for message in socket:
                await socket.send(message)
    finally:
        await socket.close()
