"""Clients of another program on the WebSocket: a tongue translates; sign-in and limits stay the host's."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.actions import Message, Understood
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.strict_json import VALUES_MAX
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.worlds.wire import World, world


class Shouting:
    """Says `HELLO`, `NOTE` and `TWICE` in place of actions, and hears words in capitals."""

    unchanged = (b'{"type":"echo"',)

    def hear(self, message: object, now_s: float) -> Understood:
        if not isinstance(message, dict) or message.get("fail"):
            raise RuntimeError("canary-in-exception")
        match message.get("SAY"):
            case "HELLO":
                return Understood([{"action": "authenticate", "token": message["TOKEN"]}])
            case "NOTE":
                return Understood([{"action": "note", "text": message["TEXT"], "id": message["TEXT"]}])
            case "TWICE":
                return Understood([{"action": "note", "text": t, "id": t} for t in ("one", "two")])
            case "ECHO":
                return Understood([{"action": "echo", "text": "x", "id": "e"}])
            case _:
                return Understood(said=[{"SAID": "WHAT?"}])

    def say(self, message: Message, now_s: float) -> Sequence[Message]:
        if message["type"] in ("live", "goaway", "heartbeat"):
            return []
        return [{"SAID": str(message["type"]).upper(), "ID": message.get("id")}]

    def close_code(self, code: int) -> int:
        return 3000 + code % 1000


class SaysShorter(Shouting):
    """Implements `SaysTooLarge` too."""

    def too_large(self, bytes_max: int) -> Sequence[Message]:
        return [{"SAID": "SHORTER", "MOST": bytes_max}]


class Tongue:
    """Implements `Tongue`."""

    def __init__(self, made: type[Shouting] = Shouting) -> None:
        self._made = made

    def interpreter(self, first: Message) -> Shouting | None:
        return self._made() if "SAY" in first else None


async def said(client: RawClient) -> dict[str, Any]:
    data = await client.ws.recv()
    message: dict[str, Any] = msgspec.json.decode(data)
    return message


async def hello(w: World, client: RawClient) -> None:
    await client.say(SAY="HELLO", TOKEN=w.token(), type="")
    assert (await said(client))["SAID"] == "AUTHENTICATION_RESULT"


async def test_both_directions_are_translated_in_order() -> None:
    async with world(tongues=[Tongue()]) as w, raw(w.url) as client:
        await hello(w, client)
        await client.say(SAY="TWICE")
        heard = [await said(client) for _ in range(4)]
        assert [one["ID"] for one in heard if one["SAID"] == "SUCCESS"] == ["one", "two"]
        assert [one["SAID"] for one in heard].count("NOTED") == 2
        await client.say(SAY="NOTHING")
        assert await said(client) == {"SAID": "WHAT?"}
        await client.say(SAY="ECHO")
        assert (await said(client))["type"] == "echo"  # it is sent as it is


async def test_closes_have_the_codes_of_the_other_language() -> None:
    async with world(tongues=[Tongue()]) as w, raw(w.url) as client:
        await client.say(SAY="HELLO", TOKEN="no token", type="")
        assert await client.closed() == 3500


class Forgiving(Shouting):
    """Answers what is no message."""

    def hear(self, message: object, now_s: float) -> Understood:
        return super().hear({} if message is None else message, now_s)


@pytest.mark.parametrize("all_of_it", [[0] * VALUES_MAX, [1e308] * 1_000])
async def test_a_message_that_would_take_long_to_read_is_none(all_of_it: list[float]) -> None:
    async with world(tongues=[Tongue(Forgiving)]) as w, raw(w.url) as client:
        await hello(w, client)
        await client.say(SAY="ECHO", ALL=all_of_it)
        assert await said(client) == {"SAID": "WHAT?"}
        await client.say(SAY="ECHO")
        assert (await said(client))["type"] == "echo"


async def test_a_message_that_is_too_large_is_answered_before_the_close() -> None:
    settings = TransportSettings(message_bytes_max=100_000)
    async with world(settings, tongues=[Tongue(SaysShorter)]) as w, raw(w.url) as client:
        await hello(w, client)
        await client.say(SAY="NOTE", TEXT="x" * 100_000)
        assert await said(client) == {"SAID": "SHORTER", "MOST": 100_000}
        assert await client.closed() == 1009


async def test_what_is_answered_without_the_host_counts_against_the_rate_too() -> None:
    settings = TransportSettings(messages_per_s=1)
    async with world(settings, tongues=[Tongue()]) as w, raw(w.url) as client:
        await hello(w, client)
        for _ in range(40):
            await client.say(SAY="NOTHING")
        assert await client.closed() == 3013


async def test_a_fault_of_a_tongue_ends_its_connection_only() -> None:
    async with world(tongues=[Tongue()]) as w, raw(w.url) as client, raw(w.url) as other:
        await hello(w, client)
        await hello(w, other)
        await client.say(SAY="NOTE", fail=True)
        assert await client.closed() == 1011
        await other.say(SAY="NOTE", TEXT="a")
        assert (await said(other))["SAID"] == "SUCCESS"
