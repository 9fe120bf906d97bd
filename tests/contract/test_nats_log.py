"""What the ordered log in JetStream promises beyond the contract: kills, refusals, large proposals, secrets.

The contract itself runs over it in test_sequencer.py.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import nats
import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.sequencer import nats_link
from huahuo.eventstore.sequencer.address import LogAddress, SignInRefused
from huahuo.eventstore.sequencer.nats import PROPOSAL_BYTES_MAX, NatsSequencer, object_digest, put_object
from huahuo.eventstore.sequencer.nats_link import ApiError, Link, open_link
from huahuo.eventstore.sequencer.nats_stream import check_monitors
from huahuo.eventstore.sequencer.port import InDoubt, Misconfigured, ProposalTooLarge, Unreachable
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE, whole_only
from tests.support.servers.nats import PASSWORD, NatsServers, nats_servers
from tests.support.servers.tls import Authority
from tests.support.worlds.sequencers import answered, each_once, put, read


@pytest.fixture(scope="module")
def servers() -> Iterator[NatsServers]:
    with nats_servers(1) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A log of its own for each test."""
    return f"t{abs(hash(request.node.nodeid)) % 10**12}"


@contextlib.asynccontextmanager
async def opened(servers: NatsServers, name: str, more: str = "") -> AsyncIterator[NatsSequencer]:
    sequencer = NatsSequencer(LogAddress(f"{servers.url}?name={name}{more}"), SystemAmbient())
    try:
        yield sequencer
    finally:
        await sequencer.close()


async def ask(servers: NatsServers, api: str, body: object) -> Any:
    """What an administrator does to JetStream."""
    client = await nats.connect(servers.url)
    answer = await client.request(f"$JS.API.{api}", json.dumps(body).encode(), timeout=WITHIN_S)
    await client.close()
    return json.loads(answer.data)


async def test_a_proposal_larger_than_a_message_is_kept_whole_and_in_its_place(
    servers: NatsServers, name: str
) -> None:
    async with opened(servers, name) as one, opened(servers, name) as other:
        large = os.urandom(3_000_000)
        proposals = [b"before", large, b"after"]
        offsets = [await put(one, proposal) for proposal in proposals]
        assert offsets == sorted(offsets)
        assert [ordered.proposal for ordered in await read(other, 0, 3, once=True)] == proposals
        with pytest.raises(ProposalTooLarge, match=str(PROPOSAL_BYTES_MAX)):
            await one.propose(bytes(PROPOSAL_BYTES_MAX + 1))


async def test_a_large_proposal_whose_object_is_missing_is_waited_for_and_not_skipped(
    servers: NatsServers, name: str
) -> None:
    async with opened(servers, name) as one:
        large = os.urandom(2_000_000)
        await put(one, large)
        await put(one, b"after")
        link = await answered(lambda: open_link(one.address, one.address.hosts))
        store = await link.client.jetstream().object_store(f"{name}_large")
        await store.delete(object_digest(large))
        coming = asyncio.ensure_future(read(one, 0, 2, once=True))
        async with asyncio.timeout(WITHIN_S):
            while "lacks a proposal at offset 1" not in one.trouble:  # noqa: ASYNC110  it is a state
                await asyncio.sleep(0.01)
        assert not coming.done()
        await put_object(link, name, 1, large)
        assert [ordered.proposal for ordered in await coming] == [large, b"after"]
        await link.close()


async def test_a_killed_server_loses_nothing_acknowledged_and_is_waited_for(
    servers: NatsServers, name: str
) -> None:
    async with opened(servers, name) as one, opened(servers, name) as other:
        offsets = {await put(one, b"%d" % n): b"%d" % n for n in range(20)}
        async with aclosing(other.follow(0)) as following:
            assert [(await anext(following)).offset for _ in range(20)] == list(range(1, 21))
            under_way = [asyncio.ensure_future(put(one, b"late %d" % n)) for n in range(20)]
            await asyncio.sleep(0)
            servers[0].kill()
            with pytest.raises(Unreachable):
                await other.last()
            servers[0].start()
            offsets |= {await call: b"late %d" % n for n, call in enumerate(under_way)}
            last = await answered(one.last)
            async with asyncio.timeout(WITHIN_S):
                found = [await anext(following) for _ in range(last - 20)]
        assert [ordered.offset for ordered in found] == list(range(21, last + 1))
        kept = {ordered.offset: ordered.proposal for ordered in await read(one, 0, last)}
        assert offsets.items() <= kept.items()


async def test_a_question_that_servers_dropped_while_they_had_no_leader_is_asked_again(
    servers: NatsServers, name: str
) -> None:
    address = LogAddress(f"{servers.url}?name={name}")
    link = await answered(lambda: open_link(address, address.hosts))
    leader, came = await nats.connect(servers.url), 0

    async def answer_the_second(message: Any) -> None:
        nonlocal came
        came += 1
        if came > 1:
            await message.respond(b"I lead now")

    try:
        await leader.subscribe(f"{name}.lead", cb=answer_the_second)
        for _ in range(2):  # its client writes the first ping before the subscription
            await leader.flush()
        answer = await link.request(f"{name}.lead", b"who leads", WITHIN_S)
        assert answer.data == b"I lead now"
    finally:
        await leader.close()
        await link.close()


@pytest.mark.parametrize("named", ["127.0.0.1", "elsewhere.example"])
async def test_a_server_whose_certificate_does_not_fit_is_named_and_not_waited_for(
    tmp_path: Path, name: str, named: str
) -> None:
    authority, stranger = Authority(), Authority()
    authority.server_files(tmp_path, named)
    (tmp_path / "known.pem").write_text((stranger if named == "127.0.0.1" else authority).pem())
    tls = f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key" }}\n'
    with nats_servers(extra=tls) as running:
        address = LogAddress(f"{running.url}?name={name}&tls=verify&ca={tmp_path}/known.pem")
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(Unreachable, match="certificate verify failed"):
                await open_link(address, address.hosts)


async def test_a_server_without_tls_is_told_no_password_where_tls_is_needed(name: str) -> None:
    said = b""

    async def eavesdrop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        writer.write(b'INFO {"server_id":"x","max_payload":1048576,"auth_required":true}\r\n')
        said += await reader.read()
        writer.close()

    server = await asyncio.start_server(eavesdrop, "127.0.0.1", 0)
    async with server, asyncio.timeout(WITHIN_S):
        port = server.sockets[0].getsockname()[1]
        address = LogAddress(f"nats://huahuo:{PASSWORD}@127.0.0.1:{port}?name={name}&tls=verify")
        with pytest.raises(Unreachable, match="does not require TLS"):
            await open_link(address, address.hosts)
    assert said == b""


async def test_a_server_that_is_frozen_is_left_for_another_one_without_waiting_for_its_pings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_link, "PING_S", 3600)
    with nats_servers(3) as three:
        async with opened(three, name) as sequencer:
            await put(sequencer, b"first")
            following = asyncio.create_task(read(sequencer, 0, 2, once=True))
            await asyncio.sleep(0)
            frozen = next(one for one in three if (one.ask("connz") or {}).get("num_connections"))
            frozen.send(signal.SIGSTOP)
            try:
                await put(sequencer, b"second")
                assert [one.proposal for one in await following] == [b"first", b"second"]
            finally:
                frozen.send(signal.SIGCONT)


async def test_a_connection_to_a_frozen_server_is_let_go_of_with_what_waits_in_it(name: str) -> None:
    with nats_servers(1) as alone:
        address = LogAddress(f"{alone.url}?name={name}")
        link = await answered(lambda: open_link(address, address.hosts))
        alone[0].send(signal.SIGSTOP)
        publishing = asyncio.create_task(_publish_until_closed(link))
        waiting = link.client._transport._io_writer.transport  # type: ignore[union-attr]  # noqa: SLF001
        while not waiting.get_write_buffer_size():  # noqa: ASYNC110  it is a state
            await asyncio.sleep(0.01)
        await link.close()
        publishing.cancel()  # the client lets it wait for ever
        await asyncio.gather(publishing, return_exceptions=True)
        assert waiting.is_closing()
        assert waiting.get_write_buffer_size() == 0


async def _publish_until_closed(link: Link) -> None:
    with contextlib.suppress(nats.errors.ConnectionClosedError):
        while True:
            await link.client.publish("nobody", bytes(1 << 19))


async def test_a_log_that_went_back_is_not_followed_further(servers: NatsServers, name: str) -> None:
    async with opened(servers, name) as one:
        await put(one, b"a")
        with pytest.raises(Misconfigured, match="went back"):
            await read(one, 7, 1)


@whole_only
@pytest.mark.slow
async def test_a_server_without_a_leader_is_not_believed_that_the_log_went_back(name: str) -> None:
    with nats_servers(3) as three:
        async with opened(three, name) as one:
            await put(one, b"a")
        alone, *others = three
        for other in others:
            other.kill()
        async with opened(NatsServers([alone]), name) as one:
            await _leaderless(one)
            with pytest.raises(Unreachable, match="the log has no leader now"):
                await one.last()
            following = asyncio.ensure_future(read(one, 7, 1))
            while one.trouble != "the log has no leader now":
                assert not following.done(), following
                await asyncio.sleep(0.01)
            following.cancel()


async def _leaderless(log: NatsSequencer) -> None:
    """Wait until its one server knows no leader, and has heard itself, as it does when it asks for votes."""
    link = await answered(lambda: open_link(log.address, log.address.hosts))
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(ApiError, Unreachable):
                cluster = (await link.ask(f"STREAM.INFO.{log.address.name}"))["cluster"]
                if "leader" not in cluster and any(one["active"] < 1e9 for one in cluster["replicas"]):
                    break
            await asyncio.sleep(0.01)
    await link.close()


async def test_a_stream_that_was_made_again_is_another_log(servers: NatsServers, name: str) -> None:
    async with opened(servers, name) as one:
        await put(one, b"a")
        await ask(servers, f"STREAM.DELETE.{name}", {})
        with pytest.raises(Misconfigured, match=r"another one now .* start this node again"):
            await answered(one.last)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"deny_delete": False}, "--deny-delete"),
        ({"discard": "old"}, "--discard new"),
        ({"max_age": 3_600_000_000_000}, "--max-age 0"),
        ({"storage": "memory"}, "keeps proposals in memory"),
        ({"subjects": ["orders.>"]}, "belongs to something else"),
        ({"deny_purge": True}, "can never be trimmed"),
        ({"allow_rollup_hdrs": True}, "--no-allow-rollup"),
        ({"max_msg_size": 100_000}, "--max-msg-size=-1"),
    ],
)
async def test_a_stream_that_may_lose_proposals_is_refused_with_the_line_to_change(
    servers: NatsServers, name: str, setting: dict[str, object], line: str
) -> None:
    made = _stream(name)
    if "subjects" in setting:
        setting = {"subjects": [f"{name}.other"]}
    assert "error" not in await ask(servers, f"STREAM.CREATE.{name}", made | setting)
    async with opened(servers, name) as one:
        with pytest.raises(Misconfigured, match=line):
            await answered(one.check)


def _stream(name: str) -> dict[str, object]:
    """The settings of a stream that is taken."""
    return {
        "name": name,
        "subjects": [f"{name}.proposals"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": 1,
        "deny_delete": True,
    }


@pytest.mark.parametrize("bound", [{"max_msgs": 1}, {"max_bytes": 200}])
async def test_a_stream_that_is_full_one_day_is_warned_of_and_says_so_with_the_line_when_it_is(
    servers: NatsServers, name: str, bound: dict[str, object]
) -> None:
    assert "error" not in await ask(servers, f"STREAM.CREATE.{name}", _stream(name) | bound)
    async with opened(servers, name) as one:
        assert any("--max-msgs=-1 --max-bytes=-1" in warning for warning in await answered(one.check))
        while not await answered(one.last):
            with contextlib.suppress(InDoubt, Unreachable):
                await one.propose(bytes(20))
        hint = ""
        async with asyncio.timeout(WITHIN_S):
            while "--max-msgs=-1 --max-bytes=-1" not in hint:  # an answer may be late
                with contextlib.suppress(Unreachable):
                    try:
                        await one.propose(bytes(300))
                    except InDoubt as refused:
                        hint = refused.hint


@pytest.mark.parametrize(
    ("lost", "told"), [("server", "no server serves"), ("account", "serves no JetStream")]
)
async def test_a_log_whose_server_serves_no_jetstream_any_more_is_waited_for(
    name: str, lost: str, told: str
) -> None:
    with nats_servers(1) as own:
        [server] = own
        async with opened(own, name, f"&monitor={own.monitors}") as one:
            await put(one, b"before")
            async with aclosing(each_once(one.follow(0))) as following:
                assert (await anext(following)).proposal == b"before"
                config = server.root / "nats.conf"
                whole = config.read_text(encoding="utf-8")
                kept = [line for line in whole.splitlines() if lost != "server" or "jetstream {" not in line]
                config.write_text("\n".join(kept).replace("jetstream: enabled, ", ""), encoding="utf-8")
                server.kill()
                server.start()
                coming = asyncio.ensure_future(anext(following))
                async with asyncio.timeout(WITHIN_S):
                    while told not in one.trouble:
                        assert not coming.done(), coming
                        await asyncio.sleep(0.01)
                async with asyncio.timeout(WITHIN_S):
                    while lost == "server":
                        if "serves no JetStream now" in (await check_monitors(one.address, 1))[0]:
                            break
                server.kill()
                config.write_text(whole, encoding="utf-8")
                server.start()
                await put(one, b"after")
                assert (await coming).proposal == b"after"


async def test_a_stream_with_fewer_copies_than_asked_for_is_refused(servers: NatsServers, name: str) -> None:
    async with opened(servers, name) as one:
        await put(one, b"a")
    async with opened(servers, name, "&replicas=3") as asking:
        with pytest.raises(Misconfigured, match="--replicas 3"):
            await answered(asking.check)


async def test_a_server_that_does_not_sync_is_refused_where_its_monitor_can_be_asked(name: str) -> None:
    with nats_servers(1, sync="") as lazy:
        async with opened(lazy, name, f"&monitor={lazy.monitors}") as asking:
            with pytest.raises(Misconfigured, match="sync_interval: always"):
                await answered(asking.check)
        async with opened(lazy, name) as blind:
            assert "could not check" in (await answered(blind.check))[0]


async def test_servers_that_sync_are_taken_and_one_alone_warned_of(servers: NatsServers, name: str) -> None:
    async with opened(servers, name, f"&monitor={servers.monitors}") as one:
        [warning] = await answered(one.check)
        assert "kept by one NATS server" in warning


async def test_a_wrong_password_is_told_without_any_password(servers: NatsServers, name: str) -> None:
    url = servers.url.replace(PASSWORD, "hunter2")
    one = NatsSequencer(LogAddress(f"{url}?name={name}"), SystemAmbient())
    with pytest.raises(SignInRefused, match="refuses to let us in") as refused:
        await answered(one.check)
    assert "hunter2" not in str(refused.value)
    await one.close()


async def test_a_log_that_is_not_reachable_says_so_at_each_call(name: str) -> None:
    one = NatsSequencer(LogAddress(f"nats://127.0.0.1:1?name={name}"), SystemAmbient())
    for call in (one.propose(b"a"), one.last(), one.trim(1), one.check()):
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await call
    assert one.trouble
    await one.close()


if WHOLE:  # half a minute: `make check-all`

    @pytest.mark.slow
    async def test_a_killed_leader_of_three_loses_nothing_acknowledged() -> None:
        with nats_servers(3) as servers:
            async with opened(servers, "huahuo") as one, opened(servers, "huahuo") as other:
                offsets = {await put(one, b"%d" % n): b"%d" % n for n in range(20)}
                for kill in range(3):
                    leader = await asyncio.to_thread(servers.leader, "huahuo")
                    calls = [asyncio.ensure_future(put(one, b"%d.%d" % (kill, n))) for n in range(20)]
                    await asyncio.sleep(0)
                    leader.kill()
                    offsets |= {await call: b"%d.%d" % (kill, n) for n, call in enumerate(calls)}
                    leader.start()
                    await asyncio.to_thread(servers.wait)
                last = await answered(other.last)
                kept = {ordered.offset: ordered.proposal for ordered in await read(other, 0, last)}
                assert offsets.items() <= kept.items()
                assert sorted(kept) == list(range(1, last + 1))
