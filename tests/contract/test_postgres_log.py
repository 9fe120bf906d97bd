"""What the ordered log in PostgreSQL promises beyond the contract: kills, refusals, hints, secrets.

The contract itself runs over it in test_sequencer.py.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.sequencer import postgres, postgres_link
from huahuo.eventstore.sequencer.address import LogAddress, SignInRefused
from huahuo.eventstore.sequencer.port import InDoubt, Misconfigured, ProposalTooLarge, Unreachable
from huahuo.eventstore.sequencer.postgres import PROPOSAL_BYTES_MAX, PostgresSequencer
from huahuo.eventstore.sequencer.postgres_link import Link, open_link
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.postgres import PASSWORD, Postgres
from tests.support.servers.postgres import postgres as postgres_server
from tests.support.worlds.sequencers import put, read
from tests.support.worlds.wire import until


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A log of its own for each test."""
    return f"t{abs(hash(request.node.nodeid)) % 10**12}"


@contextlib.asynccontextmanager
async def opened(server: Postgres, name: str) -> AsyncIterator[PostgresSequencer]:
    sequencer = PostgresSequencer(LogAddress(f"{server.url}?name={name}"), SystemAmbient())
    try:
        yield sequencer
    finally:
        await sequencer.close()


async def test_proposals_that_wait_share_a_commit_in_the_order_of_the_calls(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one:
        offsets = await asyncio.gather(*(one.propose(b"%d" % n) for n in range(500)))
        assert offsets == list(range(1, 501))
        assert [ordered.proposal for ordered in await read(one, 0, 500)] == [b"%d" % n for n in range(500)]


async def test_large_proposals_are_read_whole_and_over_the_bound_refused(server: Postgres, name: str) -> None:
    async with opened(server, name) as one:
        large = bytes(range(256)) * 4096 * 5
        await put(one, large)
        await put(one, b"small")
        assert [ordered.proposal for ordered in await read(one, 0, 2)] == [large, b"small"]
        with pytest.raises(ProposalTooLarge, match=str(PROPOSAL_BYTES_MAX)):
            await one.propose(bytes(PROPOSAL_BYTES_MAX + 1))


async def test_a_cancelled_call_does_not_cancel_its_commit(server: Postgres, name: str) -> None:
    async with opened(server, name) as one:
        await put(one, b"first")
        call = asyncio.ensure_future(one.propose(b"second"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        third = await put(one, b"third")
        kept = [ordered.proposal for ordered in await read(one, 0, third)]
        assert kept in ([b"first", b"second", b"third"], [b"first", b"third"])


@pytest.mark.slow
async def test_a_killed_server_loses_nothing_acknowledged_and_is_waited_for(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one, opened(server, name) as other:
        offsets = {await put(one, b"%d" % n): b"%d" % n for n in range(20)}
        async with aclosing(other.follow(0)) as following:
            assert [(await anext(following)).offset for _ in range(20)] == list(range(1, 21))
            under_way = [asyncio.ensure_future(put(one, b"late %d" % n)) for n in range(20)]
            await asyncio.sleep(0)
            server.kill()
            with pytest.raises(Unreachable):
                await other.last()
            server.start()
            offsets |= {await call: b"late %d" % n for n, call in enumerate(under_way)}
            last = await one.last()
            async with asyncio.timeout(WITHIN_S):
                found = [await anext(following) for _ in range(last - 20)]
        assert [ordered.offset for ordered in found] == list(range(21, last + 1))
        kept = {ordered.offset: ordered.proposal for ordered in await read(one, 0, last)}
        assert offsets.items() <= kept.items()


@pytest.mark.parametrize("statement", ["INSERT INTO", "LEFT JOIN LATERAL"])
async def test_a_connection_that_the_library_does_not_understand_any_more_is_replaced(
    server: Postgres, name: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncpg says when a server dies between two of its messages."""
    fetch, breaks = asyncpg.Connection.fetch, [True]

    async def broken(self: Any, query: str, *args: Any, **more: Any) -> Any:
        if statement in query and breaks:
            breaks.clear()
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation is in progress")
        return await fetch(self, query, *args, **more)

    monkeypatch.setattr(asyncpg.Connection, "fetch", broken)
    async with opened(server, name) as sequencer:
        assert await put(sequencer, b"a") == 1
        assert await put(sequencer, b"b") == 2
        assert [one.proposal for one in await read(sequencer, 0, 2)] == [b"a", b"b"]
    assert breaks == []


async def test_a_log_that_went_back_is_not_followed_further(server: Postgres, name: str) -> None:
    async with opened(server, name) as one:
        await put(one, b"a")
        await put(one, b"b")
        async with aclosing(one.follow(0)) as following:
            await anext(following)
            await anext(following)
            server.run(f"DELETE FROM {name}.proposals WHERE position = 2; UPDATE {name}.head SET last = 1")
            with pytest.raises(Misconfigured, match="went back"):
                await anext(following)


async def test_another_proposal_at_a_read_offset_is_found_after_a_reconnect(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one:
        await put(one, b"a")
        async with aclosing(one.follow(0)) as following:
            await anext(following)
            server.run(
                f"UPDATE {name}.proposals SET body = 'x'; "
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'huahuo'"
            )
            with pytest.raises(Misconfigured, match="another proposal at offset 1"):
                await anext(following)


@pytest.mark.parametrize(("rows", "told"), [(3, "no offset 2"), (2, "no offset 2: somebody deleted a row")])
async def test_a_row_that_somebody_deleted_in_the_midst_or_at_the_end_is_told_and_not_waited_for(
    server: Postgres, name: str, rows: int, told: str
) -> None:
    async with opened(server, name) as one:
        for n in range(rows):
            await put(one, b"%d" % n)
        server.run(f"DELETE FROM {name}.proposals WHERE position = 2")
        with pytest.raises(Misconfigured, match=told):
            await read(one, 0, rows)


async def test_a_row_behind_the_logs_end_is_read_by_nobody_and_told_by_what_it_is(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one, opened(server, name) as other:
        await put(one, b"a")
        server.run(f"INSERT INTO {name}.proposals VALUES (2, 'hand')")
        async with aclosing(other.follow(0)) as following:
            assert (await anext(following)).proposal == b"a"
            with pytest.raises(
                Unreachable, match="a row behind the log's end: somebody wrote into its tables"
            ):
                await one.propose(b"b")
            server.run(f"DELETE FROM {name}.proposals WHERE position = 2")
            assert await put(one, b"b") == 2
            assert (await anext(following)).proposal == b"b"


async def test_a_head_that_somebody_deleted_is_told_to_readers_and_writers(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one:
        await put(one, b"a")
        async with aclosing(one.follow(0)) as following:
            await anext(following)
            server.run(f"DELETE FROM {name}.head")
            with pytest.raises(Misconfigured, match="head has lost its row"):
                await anext(following)
        for asked in (one.propose(b"b"), one.propose(b"c"), one.last()):
            with pytest.raises((Unreachable, Misconfigured), match="head has lost its row"):
                await asked


async def test_tables_that_somebody_dropped_are_not_made_anew_by_a_node_that_runs(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one:
        await put(one, b"a")
        async with aclosing(one.follow(0)) as following:
            await anext(following)
            server.run(f"DROP SCHEMA {name} CASCADE")
            with pytest.raises(Misconfigured, match=f"the log's tables are gone from the schema {name}"):
                await anext(following)
        with pytest.raises(Unreachable):
            await one.propose(b"b")
    assert server.run(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'") == "0"


async def test_a_database_that_was_set_to_be_read_only_is_told_with_the_setting(
    server: Postgres, name: str
) -> None:
    async with opened(server, name) as one:
        await put(one, b"a")
        server.run(f"ALTER DATABASE huahuo SET default_transaction_read_only = on; {_END_ALL}")
        try:
            with pytest.raises(Unreachable, match=r"read-only transaction .*default_transaction_read_only"):
                await known(one, b"b")
        finally:
            server.run("ALTER DATABASE huahuo RESET default_transaction_read_only", database="postgres")
        assert await put(one, b"b") == 2


async def known(one: PostgresSequencer, proposal: bytes) -> int:
    """Propose until the outcome is known."""
    while True:
        with contextlib.suppress(InDoubt):
            return await one.propose(proposal)


_END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'huahuo'"


async def test_a_right_that_is_taken_and_given_back_is_waited_for(server: Postgres, name: str) -> None:
    async with opened(server, name) as one:
        await put(one, b"a")
        async with aclosing(one.follow(0)) as following:
            await anext(following)
            server.run(
                f"ALTER TABLE {name}.proposals OWNER TO postgres; ALTER TABLE {name}.head OWNER TO postgres"
            )
            waits = asyncio.ensure_future(anext(following))
            await until(lambda: "may not use the log's tables" in one.trouble)
            server.run(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO huahuo")
            assert await put(one, b"b") == 2
            assert (await waits).proposal == b"b"


@pytest.mark.parametrize(
    ("setting", "line"),
    [("synchronous_commit = off", "ALTER SYSTEM SET synchronous_commit = on")],
)
async def test_a_server_that_may_lose_commits_is_refused_with_the_line_to_change(
    server: Postgres, name: str, setting: str, line: str
) -> None:
    server.run(f"ALTER ROLE huahuo SET {setting}")
    try:
        async with opened(server, name) as one:
            with pytest.raises(Misconfigured, match=line):
                await one.check()
    finally:
        server.run("ALTER ROLE huahuo RESET ALL")


async def test_one_server_without_a_standby_is_taken_with_a_warning(server: Postgres, name: str) -> None:
    async with opened(server, name) as one:
        [warning] = await one.check()
        assert "no synchronous standby" in warning


async def test_a_wrong_password_is_told_without_any_password(
    server: Postgres, name: str, tmp_path: Path
) -> None:
    url = server.url.replace(PASSWORD, "hunter2")
    one = PostgresSequencer(LogAddress(f"{url}?name={name}"), SystemAmbient())
    with pytest.raises(SignInRefused, match="refuses to let us in") as refused:
        await one.check()
    assert "hunter2" not in str(refused.value)
    await one.close()
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    from_file = server.url.replace(f":{PASSWORD}", "") + f"?name={name}&password_file={tmp_path}/password"
    good = PostgresSequencer(LogAddress(from_file), SystemAmbient())
    assert await good.last() == 0
    await good.close()


async def test_a_log_that_is_not_reachable_says_so_at_each_call(name: str) -> None:
    one = PostgresSequencer(LogAddress(f"postgres://127.0.0.1:1/x?name={name}"), SystemAmbient())
    for call in (one.propose(b"a"), one.last(), one.trim(1), one.check()):
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await call
    assert one.trouble
    await one.close()


async def test_a_connection_that_was_opened_before_a_promotion_and_is_ready_after_it_is_not_used(
    server: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest timeline does not go back, so the replaced server is not taken for the primary again."""
    promoted = 99
    async with opened(server, name) as one:

        async def late(*how: Any) -> Link:
            link = await open_link(*how)
            one.links.succession.timeline = promoted
            return link

        monkeypatch.setattr(postgres_link, "open_link", late)
        with pytest.raises(Unreachable, match="another server was promoted in its place"):
            await one.last()
        assert one.links.succession.timeline == promoted
        assert "another server was promoted" in one.trouble


async def told(call: Callable[[], Awaitable[int]], part: str) -> str:
    """What the call says once that has `part`. It is made again until then."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await call()
            except (InDoubt, Unreachable) as error:
                said = f"{error}: {getattr(error, 'hint', '')}"
                if part in said:
                    return said


async def test_a_commit_that_waits_for_an_absent_standby_says_so_to_all_nodes_and_ends_when_it_may(
    server: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server, name) as first:
        await put(first, b"first")  # its tables are made
    monkeypatch.setattr(postgres, "ANSWER_S", 0.5)
    monkeypatch.setitem(postgres_link._SESSION, "lock_timeout", "100ms")  # noqa: SLF001  it is 8 s
    server.run("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    server.run("SELECT pg_reload_conf()")
    async with opened(server, name) as one, opened(server, name) as other:
        try:
            # A connection knows the setting as it was when it was opened.
            while server.run("SHOW synchronous_standby_names") != "absent":  # noqa: ASYNC110  it is a state
                await asyncio.sleep(0.01)
            said = await told(lambda: one.propose(b"a"), "standby may be away")
            assert "see pg_stat_replication on the primary" in said
            said = await told(lambda: one.propose(b"c"), "an earlier commit has not ended")
            assert "standby may be away" in said, "also what waits behind it on the same node"
            said = await told(lambda: other.propose(b"b"), "an earlier commit has not ended")
            assert "standby may be away" in said
            assert "standby may be away" in await told(other.last, "an earlier commit has not ended")
        finally:
            server.run("ALTER SYSTEM RESET synchronous_standby_names")
            server.run("SELECT pg_reload_conf()")
        await put(one, b"c")
        await put(other, b"d")


@pytest.mark.slow
async def test_an_address_of_a_standby_alone_is_told_to_name_the_primary_too(name: str) -> None:
    with postgres_server() as server, server.standby() as standby:
        async with opened(standby, name) as one:
            with pytest.raises(
                Unreachable, match=r"it is a standby \(postgres://primary,standby/… names both\)"
            ):
                await one.check()
        server.kill()
        both = server.url.replace(f":{server.port}/", f":{server.port},127.0.0.1:{standby.port}/")
        one = PostgresSequencer(LogAddress(f"{both}?name={name}"), SystemAmbient())
        with pytest.raises(Unreachable, match=r"; 127\.0\.0\.1:\d+: it is a standby$"):
            await one.check()
        await one.close()


if WHOLE:  # a minute: `make check-all`

    @pytest.mark.slow
    async def test_a_promoted_standby_has_all_that_was_acknowledged() -> None:
        with postgres_server() as server, server.standby() as standby:
            url = server.url.replace(f":{server.port}/", f":{server.port},127.0.0.1:{standby.port}/")
            one = PostgresSequencer(LogAddress(url), SystemAmbient())
            assert await one.check() == []
            offsets = {await put(one, b"%d" % n): b"%d" % n for n in range(20)}
            under_way = [asyncio.ensure_future(put(one, b"late %d" % n)) for n in range(20)]
            await asyncio.sleep(0)
            server.kill()
            standby.promote()
            standby.run("ALTER SYSTEM RESET synchronous_standby_names")
            standby.run("SELECT pg_reload_conf()")
            offsets |= {await call: b"late %d" % n for n, call in enumerate(under_way)}
            last = await one.last()
            kept = {ordered.offset: ordered.proposal for ordered in await read(one, 0, last)}
            assert offsets.items() <= kept.items()
            assert sorted(kept) == list(range(1, last + 1))
            await one.close()

    @pytest.mark.slow
    async def test_a_primary_that_is_frozen_and_replaced_is_left_for_good_also_when_it_wakes() -> None:
        with postgres_server() as server, server.standby() as standby:
            url = server.url.replace(f":{server.port}/", f":{server.port},127.0.0.1:{standby.port}/")
            one = PostgresSequencer(LogAddress(url), SystemAmbient())
            before = [await put(one, b"%d" % n) for n in range(5)]
            server.send(signal.SIGSTOP)
            under_way = asyncio.ensure_future(put(one, b"under way"))
            await asyncio.to_thread(standby.promote)
            await asyncio.to_thread(standby.run, "ALTER SYSTEM RESET synchronous_standby_names")
            await asyncio.to_thread(standby.run, "SELECT pg_reload_conf()")
            offset = await under_way
            server.send(signal.SIGCONT)
            assert [await put(one, b"later %d" % n) for n in range(5)] == list(range(offset + 1, offset + 6))
            kept = [ordered.offset for ordered in await read(one, 0, offset + 5)]
            assert kept == [*range(1, offset + 6)]
            assert before == kept[:5]
            fresh = PostgresSequencer(LogAddress(url), SystemAmbient())  # it finds the old one first
            async with asyncio.timeout(WITHIN_S):
                while True:
                    with contextlib.suppress(Unreachable):
                        assert await fresh.last() == offset + 5
                        break
            await fresh.close()
            await one.close()

    @pytest.mark.slow
    async def test_a_wait_for_the_standby_that_somebody_cancels_is_no_acknowledgement() -> None:
        with postgres_server() as server, server.standby() as standby:
            one = PostgresSequencer(LogAddress(server.url), SystemAmbient())
            await put(one, b"first")
            standby.kill()
            call = asyncio.ensure_future(one.propose(b"second"))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            async with asyncio.timeout(WITHIN_S):
                while await asyncio.to_thread(server.run, waiting) == "0":  # noqa: ASYNC110  a state of it
                    await asyncio.sleep(0.05)
            cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            await asyncio.to_thread(server.run, cancel)
            with pytest.raises(InDoubt):
                await call
            standby.start()
            assert await put(one, b"second") == 2
            await one.close()
