"""Users with passwords: who may be added, what ends sessions, and how sign-in treats failures."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from argon2 import PasswordHasher

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import ModelDisk
from huahuo.refusals import ChangeRefused
from huahuo.transport.access.revocations import AUTH_STREAM
from huahuo.transport.access.tokens import Authenticator
from huahuo.users import book
from huahuo.users.book import UserBook
from huahuo.users.login import Failures, Login, Refused, SignedIn
from tests.support.models.faulty_log import FaultyLog

UNKNOWN = book.UNKNOWN
SECRET = b"a secret of tests, of no worth elsewhere"
PASSWORD = "canary-password"


class CountingExecutor(InlineExecutor):
    """Counts the passwords that are verified or hashed."""

    def __init__(self) -> None:
        self.jobs = 0

    async def run[T](self, job: Callable[[], T]) -> T:
        self.jobs += 1
        return await super().run(job)


class World:
    """A log with users, and sign-in."""

    def __init__(self) -> None:
        self.ambient = FakeAmbient()
        self.disk = ModelDisk()
        self.executor = CountingExecutor()
        self.authenticator = Authenticator(SECRET)

    async def open(self) -> None:
        self.log = await FaultyLog.open(
            self.disk,
            ambient=self.ambient,
            master_key=bytes(32),
            build="test",
            executor=InlineExecutor(),
        )
        self.book = UserBook(self.log, self.ambient, self.executor)
        await self.book.start()
        self.login = Login(self.book, self.authenticator, self.ambient, token_ttl_s=3600)

    async def add(self, name: str = "alice", *, is_admin: bool = False) -> int:
        return (await self.book.add(name, PASSWORD, is_admin=is_admin, principal="test")).user_id

    async def sign_in(
        self, name: str = "alice", password: str = PASSWORD, address: str = "192.0.2.1"
    ) -> object:
        return await self.login.attempt(name, password, address)

    async def revoked(self) -> list[int]:
        events = await self.log.read(AUTH_STREAM, 0, events_max=100)
        return [msgspec.json.decode(event.body)["user_id"] for event in events]


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of tests need not be slow."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(book, "hasher", lambda: quick)
    monkeypatch.setattr(book, "UNKNOWN", quick.hash("nobody's"))


@pytest.fixture
async def world(_quick_hashes: None) -> AsyncIterator[World]:
    made = World()
    await made.open()
    yield made
    await made.log.close()


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "x" * 65, "a\u202eb"])
async def test_a_name_that_cannot_be_read_is_refused(world: World, name: str) -> None:
    with pytest.raises(ChangeRefused):
        await world.add(name)
    assert len(world.book.users) == 0


def test_the_hash_of_nobody_costs_what_a_real_one_costs() -> None:
    assert not PasswordHasher().check_needs_rehash(UNKNOWN)


def test_failures_are_remembered_for_a_bounded_number_of_names() -> None:
    failures = Failures(keys_max=2)
    for key in ("a", "b", "c"):
        failures.failed(key, 0)
    assert len(failures) == 2


async def test_a_token_is_renewed_for_a_user_who_may_sign_in(world: World) -> None:
    user_id = await world.add()
    fresh = world.login.renew(user_id, 1_000)
    assert fresh is not None
    assert fresh.user.name == "alice"
    assert "ey" not in repr(fresh)
    assert world.login.renew(999, 1_000) is None
    await world.book.set_disabled("alice", disabled=True, principal="test")
    assert world.login.renew(user_id, 1_000) is None


async def test_more_sign_ins_than_may_run_at_once_are_told_to_come_back(world: World) -> None:
    class Slow(CountingExecutor):
        async def run[T](self, job: Callable[[], T]) -> T:
            await asyncio.sleep(0)
            return job()

    await world.add()
    world.book = UserBook(world.log, world.ambient, Slow())
    await world.book.catch_up()
    world.login = Login(world.book, world.authenticator, world.ambient, token_ttl_s=3600)
    answers = await asyncio.gather(*(world.sign_in(address=f"192.0.2.{n}") for n in range(20)))
    assert answers.count(Refused(1.0)) == 4
    assert sum(isinstance(one, SignedIn) for one in answers) == 16


async def test_a_device_that_signed_in_before_is_let_in_while_strangers_guess_and_counts_for_itself(
    world: World,
) -> None:
    await world.add()
    await world.add("bob")
    signed = await world.sign_in()
    assert isinstance(signed, SignedIn)
    cookie = signed.cookie.partition(";")[0]
    assert "HttpOnly; SameSite=Strict" in signed.cookie

    async def attempt(cookies: str, password: str = PASSWORD, name: str = "alice") -> object:
        return await world.login.attempt(name, password, "192.0.2.9", cookies)

    for guess in range(11):
        await world.sign_in(password="wrong", address=f"198.51.100.{guess}")
    assert isinstance(await world.sign_in(), Refused), "the name is locked"
    assert isinstance(await attempt(""), Refused)
    assert isinstance(await attempt(cookie[:-2] + "xx"), Refused), "it is signed"
    again = await attempt(f"other=1; {cookie}")
    assert isinstance(again, SignedIn)
    assert again.cookie == "", "it is known already"
    for guess in range(11):
        await world.sign_in("bob", password="wrong", address=f"198.51.100.{guess}")
    assert isinstance(await attempt(cookie, name="bob"), Refused), "it is of one user"
    for _ in range(10):
        await world.login.attempt("alice", "wrong", "203.0.113.5", cookie)
    assert isinstance(await attempt(cookie), Refused), "a device that fails waits, too"
