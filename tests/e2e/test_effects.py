"""Effects of a served application: who sees them, how a stop and a start treat them, what doctor says."""

import asyncio
import json
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import StreamDenied
from tests.support.drivers.command_line import huahuo, huahuo_at
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DRAIN_S = "3"
APP = """
import asyncio
from msgspec import Struct
from huahuo import Command, Decision, Effect, Entity, Event, Huahuo

class Made(Event, type="thing_made"): ...
class Thing(Struct, frozen=True): ...
class Make(Command, action="make_thing", creates=True): ...
class Wait(Effect): ...

thing = Entity("thing", Thing)

@thing.evolve
def made(state: Thing, event: Made) -> Thing:
    return state

@thing.decide
def make(state: Thing, command: Make, ctx):
    return Decision([Made()], effects=[Wait()])

@thing.readers
def may_read(state: Thing, who) -> bool:
    return True

@thing.effect
async def wait(job: Wait, run) -> None:
    await asyncio.Event().wait()

app = Huahuo(entities=[thing], plugins=[])
"""


async def make_one(server: Serving) -> None:
    async with Client(server.url, token=server.token(42, "alice")) as client:
        assert (await client.send("make_thing"))["thing_id"] == 1
        for stream in ("effect/thing/1", "log"):
            with pytest.raises(StreamDenied):
                await client.events(stream, first="start").ready()


def finding(server: Serving) -> str:
    """What doctor says about effects."""
    done = huahuo("doctor", "--json", "--data", str(server.data), **server.environ)
    return next((one["text"] for one in json.loads(done.stdout) if one["about"] == "effects"), "")


def test_an_effect_that_never_returns_is_seen_stops_in_time_and_is_refused_without_its_class(
    tmp_path: Path,
) -> None:
    (tmp_path / "things.py").write_text(APP)
    with serving(
        tmp_path / "data", app="things:app", folder=tmp_path, HUAHUO_DRAIN_TIMEOUT_S=DRAIN_S
    ) as server:
        asyncio.run(make_one(server))
        assert finding(server).startswith("1 open, the oldest for ")
        assert server.stop() == 0  # without a deadline it would take for ever
        assert "the oldest is wait of thing/1, since " in finding(server)
        (tmp_path / "things.py").write_text(APP.replace("Wait", "Resting"))
        words = ("serve", "--port", "0", "--app", "things:app", "--data", str(server.data))
        done = huahuo_at(tmp_path, *words, **{**server.environ, "COLUMNS": "400"})
        assert done.returncode != 0
        [line] = [line for line in done.stderr.splitlines() if "open" in line]
        assert "the effect 'wait' of thing/1 (number 1) is open, and nothing handles it" in line
        (tmp_path / "things.py").write_text(APP)
        server.start()
        assert finding(server).startswith("1 open, ")
