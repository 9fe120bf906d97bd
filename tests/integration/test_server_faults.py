"""A fault of ours in whatever a connection does: the client is told, comes back, and has lost nothing."""

import asyncio
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.hub import Hub
from huahuo.transport.session.liveness import Liveness
from huahuo.transport.wire.connection_ref import ConnectionEnded, ConnectionRef
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.drivers.session import seqs
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
STREAM = "user/42"


def breaks(*_args: object, **_fields: object) -> NoReturn:
    raise RuntimeError("canary")


async def ended_by_a_fault(w: World, client: RawClient) -> None:
    """The connection ended with `goaway` and 1011. The fault is not quoted, and nothing is left behind."""
    assert await client.closed() == CloseCode.SERVER_FAULT
    goaway = client.seen[-1]
    assert (goaway["type"], goaway["code"], goaway["reason"]) == ("goaway", 1011, "internal error")
    assert "canary" not in str(client.seen)
    await until(lambda: not (len(w.ticked) or w.runtime.alive or w.delivering.sockets))


def an_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "note_ack", breaks)


def a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "overdue", breaks)


@pytest.mark.parametrize("broken", [an_ack, a_tick])
async def test_a_fault_in_an_urgent_message_is_said_with_goaway(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await w.append(STREAM, "a")
        await client.until("events")
        broken(monkeypatch)
        await client.say(action="ack", cursors={STREAM: 1})
        if broken is a_tick:
            await client.quiet()
            w.tick(1)
        await ended_by_a_fault(w, client)


async def test_a_fault_in_the_first_message_is_said_with_goaway() -> None:
    async with world() as w, raw(w.url, V1) as client:
        w.auth.verify = breaks  # type: ignore[method-assign]
        await client.say(action="authenticate", token=w.token())
        await ended_by_a_fault(w, client)


async def test_a_fault_while_a_message_waits_ends_that_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await w.append(STREAM, "a")
        await client.until("events")
        for _ in range(10):
            w.door.auth_failed("127.0.0.1", w.ambient.monotonic_s())
        await client.say(action="authenticate", token="wrong")  # the verdict is held back
        await until(lambda: w.connections[0].session.busy)
        a_tick(monkeypatch)
        w.tick(1)
        await ended_by_a_fault(w, client)


async def test_a_reply_of_which_no_message_can_be_made_is_answered_internal() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), client="dev")
        w.unspeakable = True
        await client.say(action="note", id="c1", text="once")
        error = await client.until("error")
        assert (error["id"], error["code"]) == ("c1", "internal")
        await ended_by_a_fault(w, client)


async def test_a_command_answered_internal_can_be_sent_again_and_has_one_effect() -> None:
    async with world() as w:
        async with raw(w.url, V1) as client:
            await client.authenticate(w.token(), client="dev")
            w.unspeakable = True
            await client.say(action="note", id="c1", text="once")
            await client.closed()
        w.unspeakable = False
        async with raw(w.url, V1) as client:
            await client.authenticate(w.token(), client="dev")
            await client.say(action="note", id="c1", text="once")
            assert (await client.until("success"))["duplicate"]
        assert w.log.head(STREAM).seq == 1


async def test_a_fault_behind_the_gate_is_answered_internal() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        w.gate.execute = breaks  # type: ignore[method-assign]
        await client.say(action="echo", id="q", text="x")
        error = await client.until("error")
        assert (error["id"], error["code"]) == ("q", "internal")
        await ended_by_a_fault(w, client)


class Broken:
    """A long answer that breaks in its second part."""

    def pieces(self) -> Iterator[bytes]:
        raise AssertionError

    def part(self, start: int, _bytes_max: int) -> tuple[bytes, int | None]:
        return (b'{"type":"echo"}', 1) if start == 0 else breaks()


async def test_a_fault_in_the_middle_of_an_answer_is_answered_internal() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), parts=True)
        w.parted = Broken()
        await client.say(action="echo", id="q", text="x")
        error = await client.until("error")
        assert (error["id"], error["code"]) == ("q", "internal")
        await ended_by_a_fault(w, client)


async def test_an_ack_makes_room_while_a_command_waits_for_its_turn() -> None:
    settings = TransportSettings(commands_outstanding_max=1)
    async with world(settings) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), window=3)
        await client.quiet()
        await w.append(STREAM, *"abcd")
        assert seqs([await client.until("events")], STREAM) == [1, 2, 3]
        w.hold = held = asyncio.Event()
        await client.say(action="note", id="c1", text="x")
        await client.say(action="note", id="c2", text="y")  # waits until c1 is answered
        await until(lambda: w.gate.running)
        await client.say(action="ack", cursors={STREAM: 3})
        assert seqs([await client.until("events")], STREAM)[0] == 4
        held.set()
        await client.until("success", id="c2")


async def test_what_is_told_to_a_connection_after_its_end_is_ignored() -> None:
    async with world() as w:
        async with raw(w.url, V1) as client:
            await client.authenticate(w.token())
            (ref,) = w.hub.connections
            assert isinstance(ref, ConnectionRef)
            assert list(ref.cursors()) == ["user/42", "system"]
        await until(lambda: not len(w.ticked))
        await until(lambda: not ref.is_alive())
        ref.tick(1.0)
        ref.close(CloseCode.DRAINING, "late")
        ref.drained()
        assert not ref.took(b'{"action":"ack","cursors":{"user/42":1}}')
        assert ref.heard([b"{}"]) == 1
        assert ref.cursors() == {}
        with pytest.raises(ConnectionEnded):
            ref.step(breaks)
