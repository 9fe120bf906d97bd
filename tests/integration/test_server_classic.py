"""PROTOCOL 8, the document dialect over real sockets."""

from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.rawclient import raw
from tests.support.drivers.session import types
from tests.support.worlds.wire import world


async def test_a_classic_client_talks_and_listens() -> None:
    async with world() as w, raw(w.url) as client:
        assert client.ws.subprotocol is None
        assert (await client.authenticate(w.token()))["success"]
        await client.say(action="note", id="c", text="hello")
        reply = await client.until("success")
        event = await client.next()
        assert reply["at"] == {"stream": "user/42", "seq": 1}
        assert (event["type"], event["text"], event["stream"], event["seq"]) == (
            "noted",
            "hello",
            "user/42",
            1,
        )
        await client.say(action="ack", cursors={"user/42": 1})
        assert types(await client.quiet()) == []


async def test_a_classic_client_resumes() -> None:
    async with world() as w, raw(w.url) as client:
        await w.append("user/42", *[str(n) for n in range(1000)])
        resume = {"log": w.log.log_id, "cursors": {"user/42": 990}}
        await client.authenticate(w.token(), resume=resume)
        await client.until("live", stream="user/42")
        assert [seq for seq, _ in client.events("user/42")] == list(range(991, 1001))


async def test_its_heartbeat_comes_and_its_silence_ends_with_1001() -> None:
    async with world() as w, raw(w.url) as client:
        await client.authenticate(w.token())
        await client.quiet()
        w.tick(30)
        await client.until("heartbeat")
        await client.quiet()
        client.ws.transport.pause_reading()
        w.tick(91)
        client.ws.transport.resume_reading()
        assert await client.closed() == CloseCode.GOING_AWAY


async def test_a_drain_closes_it_with_1012() -> None:
    async with world() as w, raw(w.url) as client:
        await client.authenticate(w.token())
        await w.delivering.drain(2)
        assert await client.closed() == CloseCode.RESTART
        assert client.seen[-1]["code"] == CloseCode.RESTART
