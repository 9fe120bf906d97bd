"""Plug-ins: a service without any, and the one of the documents."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog

from huahuo import ConfigError, HuahuoError, Plugin, Service
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.command_line import huahuo
from tests.support.drivers.rawclient import raw
from tests.support.drivers.snippets import snippet
from tests.support.patience import WITHIN_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(autouse=True)
def own_log_lines() -> Any:
    """A service sets up structlog for its process; other tests shall not see that."""
    yield
    structlog.reset_defaults()


def service_of(data: Path, plugins: list[Plugin], **settings: Any) -> Service:
    return Service(data, port=0, environ={}, log_level="error", plugins=plugins, **settings)


def told[T](service: Service, ask: Callable[[Client], Coroutine[Any, Any, T]], *, admin: bool = False) -> T:
    async def connected() -> T:
        token = service.token(42, "alice", admin=admin, groups=("ops",))
        async with asyncio.timeout(WITHIN_S), Client(service.url, token=token) as client:
            return await ask(client)

    return asyncio.run(connected())


async def snapshot(client: Client) -> tuple[int, dict[str, Any]]:
    """The state of the user's own stream."""
    async with client.events("user/42", after="snapshot") as events:
        async for event in events:
            if event.type == "snapshot":
                return event.seq, event.data["state"]
    raise AssertionError("a stream never ends")


def counting() -> Plugin:
    names: dict[str, Any] = {}
    exec(snippet("docs/plugins.md", "plugin"), names)
    made: Plugin = names["Counting"]()
    return made


def test_without_a_plug_in_a_user_has_a_stream_with_an_empty_state(tmp_path: Path) -> None:
    with service_of(tmp_path, []) as service:
        assert told(service, snapshot) == (0, {})


def test_without_a_plug_in_events_are_published_and_mail_is_unknown(tmp_path: Path) -> None:
    async def publish(client: Client) -> dict[str, Any]:
        return await client.send("publish", stream="group/ops", type="deploy", version=1)

    async def add(client: Client) -> str:
        with pytest.raises(CommandError) as caught:
            await client.send("add_email", email="a@b.example", password="x")
        return caught.value.code

    with service_of(tmp_path, []) as service:
        assert service.publish("system", "notice", {"text": "x"}) == 1
        assert told(service, publish, admin=True)["at"] == {"stream": "group/ops", "seq": 1, "position": 2}
        assert told(service, add) == "unknown_action"
        with pytest.raises(HuahuoError, match="no plug-in 'mail'"):
            service.update_email_status(1, "ok")


def test_a_directory_without_mail_is_looked_over_replayed_and_audited(tmp_path: Path) -> None:
    with service_of(tmp_path, []) as service:
        service.publish("group/ops", "deploy", {"version": 1})
    for command in (
        ("doctor",),
        ("replay", "state", "group/ops"),
        ("replay", "check"),
        ("audit", "query", "--type", "deploy"),
        ("audit", "verify"),
    ):
        # Something may listen on the default port.
        done = huahuo(*command, "--data", str(tmp_path), "--json", HUAHUO_PORT="0")
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_without_mail_no_module_of_mail_is_loaded(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from huahuo.app.config import Settings
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from pathlib import Path

async def main():
    app = App(Settings(data=Path({str(tmp_path / "data")!r}), port=0), SystemAmbient())
    await app.start()
    await app.stop()

asyncio.run(main())
print([name for name in sys.modules if "imap" in name or "mailcheck" in name])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_plug_in_of_the_page_counts_each_command_once_and_over_a_restart(tmp_path: Path) -> None:
    async def count(service: Service, *commands: tuple[str, int]) -> list[int]:
        counts = []
        async with raw(service.url.replace("http", "ws") + "/ws", "huahuo.v1") as client:
            await client.authenticate(service.token(42, "alice"), client="laptop")
            for command_id, by in commands:
                await client.say(action="count", id=command_id, by=by)
                counts.append((await client.until("success", id=command_id))["count"])
        return counts

    with service_of(tmp_path, [counting()]) as service:
        assert asyncio.run(count(service, ("c1", 2), ("c2", 3), ("c1", 2))) == [2, 5, 2]
    with service_of(tmp_path, [counting()]) as service:
        assert asyncio.run(count(service, ("c1", 2))) == [2]
        assert told(service, snapshot) == (2, {"count": 5})


def test_the_plug_in_of_the_page_has_settings_and_its_event_types_are_reserved(tmp_path: Path) -> None:
    async def count(client: Client) -> str:
        with pytest.raises(CommandError) as caught:
            await client.send("count", by=3)
        return caught.value.code

    with service_of(tmp_path, [counting()], count_max=2) as service:
        assert told(service, count) == "too_large"
        with pytest.raises(HuahuoError, match="belongs to the protocol or to a domain"):
            service.publish("group/ops", "counted")


def test_a_plug_in_that_is_there_twice_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'counting' is there twice"):
        service_of(tmp_path, [counting(), counting()]).start()
