"""The Python client's commands against the real server: executed once, answered once."""

import asyncio

import pytest

from huahuo.eventstore.memory import ModelDisk
from huahuo.transport.client.model import ClientStopped, CommandError, NotSubscribed, Offline, QueueFull
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.clients import STREAM, Heard, behind_proxy, client_of, collect, texts
from tests.support.worlds.wire import until, world


async def test_a_reply_comes_back() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        reply = await client.send("note", text="hello")
        assert (reply["type"], reply["at"]) == ("success", {"stream": STREAM, "seq": 1})


async def test_a_refusal_is_an_exception_with_its_code() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        with pytest.raises(CommandError) as refused:
            await client.send("note", text="refuse")
        assert refused.value.code == "not_found"


async def test_a_command_whose_reply_was_lost_is_executed_once() -> None:
    async with behind_proxy() as (server, proxy), client_of(server, proxy.port) as client:
        server.hold = asyncio.Event()
        waiting = asyncio.create_task(client.send("note", text="once"))
        await until(lambda: server.log.head(STREAM).seq == 1)
        proxy.cut()
        await proxy.connection(2)
        server.hold.set()
        reply = await waiting
        assert reply["at"] == {"stream": STREAM, "seq": 1}
        assert server.log.head(STREAM).seq == 1


async def test_a_command_is_executed_once_over_a_restart_of_the_server() -> None:
    disk = ModelDisk()
    async with behind_proxy(disk=disk) as (server, proxy), client_of(server, proxy.port) as client:
        server.hold = asyncio.Event()
        waiting = asyncio.create_task(client.send("note", text="once"))
        await until(lambda: server.log.head(STREAM).seq == 1)
        proxy.refuse()
        proxy.cut()
        await server.log.close()
        async with world(disk=disk, ambient=server.ambient) as again:
            proxy.redirect(again.port)
            proxy.heal()
            assert (await waiting)["duplicate"] is True
            assert again.log.head(STREAM).seq == 1


async def test_commands_given_while_offline_are_executed_once_the_server_is_there() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        client = client_of(server, proxy.port)
        heard = Heard(client)
        async with client:
            tasks = [asyncio.create_task(client.send("note", text=str(n))) for n in range(5)]
            await heard.wait(Offline)
            proxy.heal()
            seqs = [reply["at"]["seq"] for reply in await asyncio.gather(*tasks)]
        assert sorted(seqs) == [1, 2, 3, 4, 5]


async def test_more_than_the_server_allows_at_once_is_answered_all_the_same() -> None:
    settings = TransportSettings(messages_per_s=20)
    async with (
        behind_proxy(settings=settings) as (server, _),
        client_of(server, messages_per_s=0) as client,
    ):
        sends = [asyncio.create_task(client.send("echo", text=str(n))) for n in range(60)]
        while not all(send.done() for send in sends):
            await asyncio.wait(sends, timeout=0.01)
            server.tick(0.2)  # the server's clock moves only so
        assert [send.result()["text"] for send in sends] == [str(n) for n in range(60)]


async def test_the_queue_of_unanswered_commands_has_a_bound() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        async with client_of(server, proxy.port, commands_max=1) as client:
            waiting = asyncio.create_task(client.send("note", text="one"))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await client.send("note", text="two")
            proxy.heal()
            await waiting


async def test_a_command_that_was_given_up_leaves_room_for_the_next() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        async with client_of(server, proxy.port, commands_max=1) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.send("note", text="given up")
            proxy.heal()
            await client.send("note", text="next")
        assert server.executed == 1


async def test_after_wait_for_the_consumer_has_seen_the_effect() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        seen: list[str] = []

        async def consume() -> None:
            async with client.events(STREAM, "start") as events:
                while True:
                    seen.extend(texts(await collect(events, 1)))

        consumer = asyncio.create_task(consume())
        await asyncio.sleep(0)
        for text in ("a", "b"):
            reply = await client.send("note", text=text)
            await client.wait_for(reply["at"])
            assert seen[-1] == text
        consumer.cancel()


async def test_without_a_consumer_wait_for_means_that_the_event_arrived() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        reply = await client.send("note", text="a")
        await client.wait_for(reply["at"])
        await client.wait_for(None)
        with pytest.raises(NotSubscribed):
            await client.wait_for({"stream": "group/ops", "seq": 1})


async def test_an_id_of_an_earlier_run_brings_its_answer_back() -> None:
    async with behind_proxy() as (server, _):
        async with client_of(server, client="w") as client:
            await client.request("note", {"text": "a"}, command_id="mine-1")
        async with client_of(server, client="w") as client:
            again = await client.request("note", {"text": "a"}, command_id="mine-1")
        assert again["duplicate"] is True
        assert server.log.head(STREAM).seq == 1


async def test_without_a_client_id_each_object_has_command_ids_of_its_own() -> None:
    async with behind_proxy() as (server, _):
        for _ in range(2):
            async with client_of(server) as client:
                assert "duplicate" not in await client.request("note", {"text": "a"}, command_id="mine-1")
        assert server.log.head(STREAM).seq == 2


async def test_whoever_still_waits_when_the_client_closes_is_told() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        async with client_of(server, proxy.port) as client:
            events = client.events(STREAM)
            reading = asyncio.create_task(collect(events, 1))
            sending = asyncio.create_task(client.send("note", text="x"))
            await asyncio.sleep(0)
        for task in (reading, sending):
            with pytest.raises(ClientStopped):
                await task
        with pytest.raises(ClientStopped):
            await client.send("note", text="y")


async def test_two_consumers_and_commands_share_one_connection() -> None:
    async with behind_proxy() as (server, proxy), client_of(server, proxy.port) as client:
        async with client.events(STREAM, "start") as own, client.events("group/ops", "start") as group:
            await server.append("group/ops", "g1", "g2")
            await client.send("note", text="n")
            assert texts(await collect(group, 2)) == ["g1", "g2"]
            assert texts(await collect(own, 1)) == ["n"]
        assert proxy.accepted == 1
