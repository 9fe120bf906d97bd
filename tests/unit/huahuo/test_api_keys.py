"""API keys: what the log keeps of them, for whom they stand, what they may do, and what ends them."""

from collections.abc import AsyncIterator

import pytest

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Principal, Reply
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.model import CommandKey
from huahuo.refusals import ChangeRefused
from huahuo.transport.access.revocations import AUTH_STREAM, RevocationWatch
from huahuo.transport.access.rights import AuthFailure, Verified, may_call, may_read
from huahuo.transport.access.tokens import Authenticator
from huahuo.users.api_keys import API_KEYS, KEYS_PER_USER_MAX, AddKey, KeyBook, admit_keys
from huahuo.users.book import UserBook
from tests.support.models.faulty_log import FaultyLog

ALICE = Principal(42, "alice", groups=("ops",))
ROOT = Principal(1, "root", is_admin=True)
DAY_S = 86_400


async def _nothing(_call: Call[object]) -> Reply:
    return Reply(b"{}")


class World:
    """A log with keys, users, revocations, and three actions to have rights to."""

    async def open(self, disk: ModelDisk, ambient: FakeAmbient) -> None:
        self.ambient = ambient
        self.log = await FaultyLog.open(
            disk, ambient=ambient, master_key=bytes(32), build="test", executor=InlineExecutor()
        )
        self.users = UserBook(self.log, ambient, InlineExecutor())
        await self.users.start()
        self.tokens = Authenticator(b"a secret of tests, of no worth elsewhere")
        self.ended: list[str] = []
        watch = RevocationWatch(self.log, self.tokens.revocations, lambda one: self.ended.append(one.jti))
        await watch.start()
        self.registry = Registry()
        self.look = Action("look", dict, _nothing, query=True)
        self.change = Action("change", dict, _nothing)
        self.publish = Action("publish", dict, _nothing, admin=True)
        for action in (self.look, self.change, self.publish):
            self.registry.command(action)
        self.book = KeyBook(self.log, ambient)
        await self.book.start()
        self.verifier = admit_keys(self.book, self.users, self.tokens, self.tokens.revocations, self.registry)

    async def add(self, *rights: str, owner: Principal = ALICE, days: int = 30) -> str:
        made = await self.book.add(owner, "ci", rights, days, by="user/42")
        assert isinstance(made, tuple)
        return made[1]

    def who(self, token: str) -> Principal:
        found = self.verifier.verify(token, self.ambient.now_ms())
        assert isinstance(found, Verified), found
        assert self.verifier.still_good(found, self.ambient.now_ms()) is None
        return found.principal

    def refusal(self, token: str) -> str:
        found = self.verifier.verify(token, self.ambient.now_ms())
        assert isinstance(found, AuthFailure)
        return found.code


@pytest.fixture
async def w() -> AsyncIterator[World]:
    world = World()
    await world.open(ModelDisk(), FakeAmbient())
    yield world
    await world.log.close()


async def test_the_log_keeps_a_hash_of_a_key_and_not_the_key(w: World) -> None:
    key = await w.add("read")
    stored = b"".join(event.body for event in await w.log.read(API_KEYS, 0, events_max=9))
    assert key.rpartition("_")[2].encode() not in stored
    assert key.encode() not in stored
    assert w.who(key).rights == ("read",)


async def test_nothing_is_kept_in_memory_of_keys_that_were_revoked(w: World) -> None:
    for number in range(1, 9):
        key = await w.add("read")
        w.who(key)
        await w.book.revoke(number, by="user/42")
        assert w.refusal(key) == "token_invalid"
    assert len(w.ended) == 8
    assert (len(w.book.state), len(w.book.state.used_ms), len(w.tokens.revocations)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("rights", "calls", "reads"),
    [
        (("read",), {"look"}, True),
        (("write",), {"change"}, False),
        (("read", "write"), {"look", "change"}, True),
        (("change",), {"change"}, False),
        (("codes",), set(), False),
        (("publish",), {"publish"}, False),
        (("read", "write", "admin"), {"look", "change", "publish"}, True),
    ],
)
async def test_a_key_may_do_what_its_rights_say_and_nothing_about_keys(
    w: World, rights: tuple[str, ...], calls: set[str], *, reads: bool
) -> None:
    who = w.who(await w.add(*rights, owner=ROOT))
    assert {name for name, one in w.registry.commands.items() if may_call(who, one)} == calls
    assert may_read(who, "user/1") == reads
    assert may_read(who, "log") == ("admin" in rights)


async def test_a_right_of_administrators_ends_when_its_user_is_none_any_more(w: World) -> None:
    await w.users.add("boss", "canary-password", is_admin=True, principal="test")
    made = await w.users.add("carol", "canary-password", is_admin=False, principal="test")
    key = await w.add("read", "admin", "publish", owner=Principal(made.user_id, "carol", is_admin=True))
    assert w.who(key).rights == ("read",)
    assert not w.who(key).is_admin


async def test_a_key_ends_when_it_expires(w: World) -> None:
    key = await w.add("read", days=2)
    w.ambient.advance(2 * DAY_S - 1)
    assert w.who(key).user_id == 42
    w.ambient.advance(1)
    assert w.refusal(key) == "token_expired"


async def test_a_revoked_key_ends_with_its_connections_and_is_seen_in_the_audit(w: World) -> None:
    key, other = await w.add("read"), await w.add("read")
    before = w.verifier.verify(key, w.ambient.now_ms())
    assert isinstance(before, Verified)
    with pytest.raises(ChangeRefused):
        await w.book.revoke(1, by="user/7", only=7)
    await w.book.revoke(1, by="user/42", only=42)
    assert w.refusal(key) == "token_invalid"
    waiting = w.verifier.still_good(before, w.ambient.now_ms())
    assert waiting is not None
    assert waiting.code == "token_revoked"
    assert w.who(other).user_id == 42
    assert w.ended == ["key.1"]
    events = await w.log.read(API_KEYS, 0, events_max=9)
    assert [(one.type, one.principal) for one in events][-1] == ("api_key_revoked", "user/42")


async def test_keys_end_with_the_sessions_of_their_user(w: World) -> None:
    key = await w.add("read")
    w.ambient.advance(1)
    await w.users.end_sessions(42, principal="user/42")
    assert w.refusal(key) == "token_revoked"
    w.ambient.advance(1)
    assert w.who(await w.add("read")).user_id == 42
    assert w.log.head(AUTH_STREAM).seq == 1


async def test_a_user_has_a_bounded_number_of_keys_and_expired_ones_do_not_count(w: World) -> None:
    for _ in range(KEYS_PER_USER_MAX):
        await w.add("read", days=1)
    with pytest.raises(ChangeRefused, match="revoke one first"):
        await w.add("read")
    await w.add("read", owner=ROOT)
    w.ambient.advance(DAY_S)
    await w.add("read")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"rights": ("nothing",)}, "invalid_field"),
        ({"rights": ("add_key",)}, "invalid_field"),
        ({"rights": ("admin",)}, "forbidden"),
        ({"rights": ("publish",)}, "forbidden"),
        ({"rights": ()}, "invalid_field"),
        ({"rights": ("read",), "expires_in_days": 0}, "invalid_field"),
        ({"rights": ("read",), "user": "root"}, "forbidden"),
        ({"rights": ("read",), "name": "a\x1b[m"}, "invalid_field"),
    ],
)
async def test_what_a_user_must_not_have_is_refused_with_a_reason(
    w: World, fields: dict[str, object], code: str
) -> None:
    said = await answer(w, AddKey(**{"name": "ci", **fields}))  # type: ignore[arg-type]
    assert f'"code":"{code}"'.encode() in said.body
    assert len(w.book.state) == 0


async def test_a_repeated_command_makes_one_key_and_never_shows_it_again(w: World) -> None:
    asked, key = AddKey("ci", ("read",)), CommandKey("user/42", "tab", "c1")
    first = await answer(w, asked, key)
    again = await answer(w, asked, key)
    assert b"hhk_1_" in first.body
    assert again.duplicate
    assert b"hhk_" not in again.body
    assert len(w.book.state) == 1


async def answer(w: World, asked: AddKey, key: CommandKey | None = None) -> Reply:
    """What `add_key` answers alice."""
    call = Call(ALICE, "s", "add_key", asked, "c", key, b"f")
    reply = w.registry.commands["add_key"].handler(call)
    assert not isinstance(reply, Reply)
    return await reply  # type: ignore[misc,no-any-return]
