"""Checks in a simulated network: every mail once and in order, whatever the server and the network do."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from simloop import SimLoop

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.mailcheck.checks.check_effect import CheckFailed, CheckLimits
from huahuo.mailcheck.events import FetchedMail, UidCursor
from huahuo.mailcheck.servers.network import Network
from tests.support.drivers.checks import Report, checked, target
from tests.support.models.model_imap import ModelImap
from tests.support.simulator.names import simulated_names

NETWORK = Network(allow_private=True, resolver=simulated_names)
LIMITS = CheckLimits(batch_mails_max=3)
SUBJECTS = [f"nonce {n}" for n in range(10)]


class Book(Report):
    """Mails and cursor as one durable thing, over many checks."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor: UidCursor | None = None
        self.begun = asyncio.Event()

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        await super().mails(batch, cursor)
        self.cursor = cursor
        self.begun.set()


def simulated(seed: int, test: Callable[[SimLoop, ModelImap], Awaitable[None]]) -> None:
    """Run `test` against a model server on the host `imap`."""
    loop = SimLoop(seed=seed)
    imap = ModelImap(
        "alice@example.com", "secret", [f"Subject: {each}\r\n\r\nx".encode() for each in SUBJECTS]
    )

    async def main() -> None:
        loop.net.set_flow_control(enabled=True)
        loop.net.set_defaults(latency=(0.001, 0.05))
        serving = loop.net.host("imap").create_task(imap.serve(143))
        await asyncio.sleep(1)
        try:
            await loop.net.host("client").create_task(_awaited(test(loop, imap)))
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def until_done(book: Book) -> list[str]:
    """Check again and again from the last durable cursor; what the failures were."""
    failures: list[str] = []
    for _ in range(20):
        book.steps.clear()
        try:
            done, _ = await checked(
                target(143, host="imap"),
                book.cursor,
                report=book,
                limits=LIMITS,
                network=NETWORK,
                ambient=FakeAmbient(),
            )
        except CheckFailed as failed:
            failures.append(failed.outcome.kind)
            await asyncio.sleep(1)
            continue
        book.cursor = done.cursor
        return failures
    raise AssertionError(f"never done: {failures}")


@pytest.mark.parametrize("seed", range(5))
def test_faults_of_the_server_cost_retries_and_no_mail(seed: int) -> None:
    async def test(loop: SimLoop, imap: ModelImap) -> None:
        imap.bye_in_fetch, imap.short_literals, imap.silences, imap.delay_s = 1, 2, 1, 0.2
        book = Book()
        failures = await until_done(book)
        assert sorted(failures) == ["bye", "lost", "lost", "timeout"]
        assert book.subjects == SUBJECTS
        assert [mail.uid for mail in book.got] == list(range(1, 11))

    simulated(seed, test)


@pytest.mark.parametrize("seed", range(5))
def test_a_partition_ends_the_check_in_time_and_the_next_goes_on(seed: int) -> None:
    async def test(loop: SimLoop, imap: ModelImap) -> None:
        imap.delay_s = 0.5
        book = Book()
        started = loop.time()
        first = asyncio.create_task(until_done(book))
        await book.begun.wait()
        loop.net.partition(["client"], ["imap"])
        await asyncio.sleep(200)
        loop.net.heal()
        failures = await first
        assert "timeout" in failures
        assert loop.time() - started < 300
        assert book.subjects == SUBJECTS

    simulated(seed, test)


def test_a_restored_mailbox_is_read_again_under_its_new_validity() -> None:
    async def test(loop: SimLoop, imap: ModelImap) -> None:
        book = Book()
        await until_done(book)
        imap.renumber()
        await until_done(book)
        assert [mail.uidvalidity for mail in book.got] == [1] * 10 + [2] * 10

    simulated(0, test)


def test_a_refused_login_and_a_throttled_one_are_told_apart() -> None:
    async def test(loop: SimLoop, imap: ModelImap) -> None:
        for text, status in (("[AUTHENTICATIONFAILED] no", "need_reauth"), ("[LIMIT] too many", "error")):
            imap.refuse_login = text
            with pytest.raises(CheckFailed) as failed:
                await checked(target(143, host="imap"), network=NETWORK, ambient=FakeAmbient())
            assert failed.value.outcome.status == status

    simulated(0, test)


def test_two_hundred_checks_at_a_time_all_end() -> None:
    async def test(loop: SimLoop, imap: ModelImap) -> None:
        reports = [Report() for _ in range(200)]
        there = target(143, host="imap")
        await asyncio.gather(
            *(checked(there, report=one, network=NETWORK, ambient=FakeAmbient()) for one in reports)
        )
        assert all(report.subjects == SUBJECTS for report in reports)

    simulated(0, test)


def test_the_same_seed_gives_the_same_run() -> None:
    def ended_at(seed: int) -> list[float]:
        times: list[float] = []

        async def test(loop: SimLoop, imap: ModelImap) -> None:
            imap.bye_in_fetch = 1
            await until_done(Book())
            times.append(loop.time())

        simulated(seed, test)
        return times

    assert ended_at(7) == ended_at(7)
    assert ended_at(7) != ended_at(8)
