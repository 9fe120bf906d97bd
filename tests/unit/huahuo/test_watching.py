"""What blocks the loop is named once, and a process that slept as a whole names nobody."""

import asyncio
import inspect
import threading
from pathlib import Path

import structlog
from structlog.testing import capture_logs

from huahuo.actors.plugins.actions import SERVICE_ACTIONS
from huahuo.app import logs, process
from huahuo.embedding.huahuo import Huahuo
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.patience import WITHIN_S


def test_a_block_of_a_second_is_told_once() -> None:
    known = process.Look(0.0)
    assert [known.look(at_s) for at_s in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)] == [False] * 3 + [True] + [
        False
    ] * 2


def test_a_second_block_is_told_again() -> None:
    known = process.Look(0.0)
    assert known.look(0.5) is False
    assert known.look(1.0) is True
    known.beat_s = 1.5
    assert [known.look(at_s) for at_s in (1.75, 2.25, 2.5)] == [False, False, True]


def test_a_thread_that_is_late_itself_blames_nobody() -> None:
    assert process.Look(0.0).look(30.0) is False


def test_the_place_begins_with_the_function_that_runs() -> None:
    assert process.places(inspect.currentframe()).startswith("test_watching.py:")
    assert " in test_the_place_begins_with_the_function_that_runs < " in process.places(
        inspect.currentframe()
    )


def test_a_function_that_holds_the_loop_is_named_in_the_log() -> None:
    told = threading.Event()

    def greedy() -> None:
        told.wait(WITHIN_S)

    def heard(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        told.set()
        return event

    async def test() -> None:
        end = process.watch_loop(asyncio.get_running_loop(), SystemAmbient().monotonic_s)
        try:
            greedy()
        finally:
            end()

    with capture_logs(processors=[heard]) as lines:
        asyncio.run(test())
    assert [line["event"] for line in lines] == ["loop_blocked"]
    assert " in greedy < " in lines[0]["at"]


def test_an_embedded_service_shows_no_local_variables_in_its_log(tmp_path: Path) -> None:
    """Structlog's own default shows those of every frame, with the secrets in them."""

    async def test() -> None:
        async with Huahuo(data=tmp_path, port=0, plugins=[]):
            assert structlog.is_configured()
            assert structlog.processors.format_exc_info in structlog.get_config()["processors"]

    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    try:
        asyncio.run(test())
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)


def test_the_logging_of_the_application_stays() -> None:
    before = structlog.get_config() if structlog.is_configured() else None
    try:
        structlog.configure(processors=[])
        logs.configure_unless_done("INFO", as_json=False)
        assert structlog.get_config()["processors"] == []
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)


def test_an_application_cannot_take_an_action_that_every_service_registers(tmp_path: Path) -> None:
    async def test() -> None:
        async with Huahuo(data=tmp_path, port=0, plugins=[]) as application:
            assert application.app is not None
            registered = application.app.registry.commands
            jobs = {name for name in registered if name.endswith("_job")}
            assert set(registered) - jobs == SERVICE_ACTIONS

    asyncio.run(test())
