"""Revocations and sign-ins on nodes of which one has a clock that is wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from argon2 import PasswordHasher

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import Principal
from huahuo.app.credentials import mint
from huahuo.app.nodes import issued_of, latest_of
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.model import Duplicate
from huahuo.transport.access.claims import LOG_AHEAD_MS_MAX, among_nodes
from huahuo.transport.access.revocations import RevocationWatch
from huahuo.transport.access.rights import AuthFailure, Verified
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import Accounts, AskApplication
from huahuo.transport.commands.publishing import Publisher
from huahuo.users import book
from huahuo.users.api_keys import KeyBook, WithKeys
from huahuo.users.book import UserBook
from huahuo.users.login import Login, SignedIn
from tests.support.models.forged import SECRET
from tests.support.worlds.replicas import Cluster, Node, cluster

BEHIND_MS = -300_000
AHEAD_MS = 1_800_000
"""More than the nodes' common time ever goes ahead of a clock, and less than a token lasts."""
HOUR_MS = 3_600_000
PASSWORD = "correct horse battery"


WHICHEVER = pytest.mark.parametrize(
    ("revoking", "off_ms"), [(0, BEHIND_MS), (1, BEHIND_MS), (1, AHEAD_MS)], ids=["right", "behind", "ahead"]
)
"""Which node revokes, and by how much the second one's clock is off."""


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(book, "hasher", lambda: quick)
    monkeypatch.setattr(book, "UNKNOWN", quick.hash("nobody's"))


class Admitting:
    """What one node knows of users and tokens."""

    def __init__(self, made: Cluster, node: Node) -> None:
        log, ambient = node.log, node.ambient
        self._clocks = node.writer.clocks
        self._made = made
        self.ambient = ambient
        latest_ms = latest_of(log)
        self.authenticator = Authenticator(SECRET, latest_ms=latest_ms, issued_ms=issued_of(log, latest_ms))
        self.users = UserBook(log, ambient, InlineExecutor(), latest_ms)
        self.login = Login(self.users, self.authenticator, ambient, token_ttl_s=3600)
        self.publisher = Publisher(log, ambient, Registry(), None, latest_ms)
        self.watch = RevocationWatch(log, self.authenticator.revocations, lambda _: None)
        self.keys = KeyBook(log, ambient, self.authenticator.issue_ms, latest_ms)
        application = AskApplication(lambda _: Principal(1), asked_from=self.authenticator.asked_from)
        known = Accounts(self.authenticator, application=application)
        self.verifier = WithKeys(
            self.keys.state, known, self.authenticator.revocations,
            is_admin=lambda _: None, admin_actions=lambda _: False,
        )  # fmt: skip

    async def start(self) -> None:
        await self.users.start()
        await self.keys.start()
        await self.watch.start()

    def knows_the_time_of(self, other: "Admitting") -> None:
        self._clocks.hear("other", other.ambient.now_ms())
        self._clocks.look()

    async def sign_in(self) -> str:
        found = await self.login.attempt("alice", PASSWORD, "192.0.2.1")
        assert isinstance(found, SignedIn)
        self.ambient.advance(0.001)
        return found.token

    async def takes(self, token: str) -> str:
        """Why it does not take the token once it has applied everything, else `ok`."""
        await self._made.caught_up()
        await self.watch.catch_up()
        now_ms = self.ambient.now_ms()
        judged = self.verifier.verify(token, now_ms)
        if isinstance(judged, Verified):
            judged = self.verifier.still_good(judged, now_ms) or judged
        return judged.code if isinstance(judged, AuthFailure) else "ok"


@asynccontextmanager
async def nodes(off_ms: int = BEHIND_MS) -> AsyncIterator[tuple[Admitting, Admitting]]:
    """A node, and one whose clock is off by so much. There is a user alice with the id 1."""
    async with cluster("ab") as made:
        made.nodes[1].ambient.jump(off_ms)
        right, wrong = (Admitting(made, node) for node in made.nodes)
        await right.start()
        await wrong.start()
        await right.users.add("alice", PASSWORD, principal="test")
        await made.caught_up()
        yield right, wrong


@pytest.mark.parametrize("how", ["revoke", "sign out everywhere", "another password", "disable"])
async def test_a_revocation_on_a_node_whose_clock_is_behind_ends_what_other_nodes_issued(how: str) -> None:
    async with nodes() as (right, behind):
        token = await right.sign_in()
        assert [await node.takes(token) for node in (right, behind)] == ["ok", "ok"]
        match how:
            case "revoke":
                await behind.publisher.revoke(user_id=1)
            case "sign out everywhere":
                await behind.users.end_sessions(1, principal="alice")
            case "another password":
                await behind.users.set_password("alice", "a new password", principal="alice")
            case _:
                await behind.users.set_disabled("alice", disabled=True, principal="admin")
        assert [await node.takes(token) for node in (right, behind)] == ["token_revoked", "token_revoked"]


async def by_sign_in(node: Admitting) -> str:
    return await node.sign_in()


async def by_api_key(node: Admitting) -> str:
    made = await node.keys.add(Principal(1, "alice"), "mine", ("publish",), 1, by="alice")
    assert not isinstance(made, Duplicate)
    return made[1]


async def by_the_application(node: Admitting) -> str:
    await node.sign_in()  # its clock goes on
    return "a cookie"


async def by_its_program(node: Admitting) -> str:
    await node.takes("")
    return mint(SECRET, node.ambient, user_id=1, username="alice", by=node.authenticator)


@WHICHEVER
@pytest.mark.parametrize("made", [by_sign_in, by_api_key, by_the_application, by_its_program])
async def test_what_is_made_behind_a_revocation_is_good_on_whichever_node_each_happened(
    made: Callable[[Admitting], Awaitable[str]], revoking: int, off_ms: int
) -> None:
    async with nodes(off_ms) as both:
        await both[revoking].publisher.revoke(user_id=1)
        for node in both[:1] if made is by_the_application else both:
            token = await made(node)
            assert [await other.takes(token) for other in both] == ["ok", "ok"]


@pytest.mark.parametrize("revoking", [None, 1], ids=["dated back", "dated behind a revocation"])
async def test_an_api_key_ends_its_days_after_it_was_made_of_whenever_it_is(revoking: int | None) -> None:
    async with nodes(23 * HOUR_MS) as both:
        right, ahead = both
        ahead.knows_the_time_of(right)
        if revoking is not None:
            await both[revoking].publisher.revoke(user_id=1)
        maker = ahead if revoking is None else right
        made = await maker.keys.add(Principal(1, "alice"), "mine", ("publish",), 1, by="alice")
        assert not isinstance(made, Duplicate)
        left_ms = made[0].expires_at_ms - maker.ambient.now_ms()
        assert abs(left_ms - 24 * HOUR_MS) <= LOG_AHEAD_MS_MAX


def test_the_program_of_a_node_that_knows_that_its_clock_is_ahead_has_tokens_made() -> None:
    ambient = FakeAmbient(1)
    day_ago_ms = ambient.now_ms() - 86_400_000
    by = Authenticator(SECRET, latest_ms=among_nodes(lambda: 0, lambda: day_ago_ms))
    token = mint(SECRET, ambient, user_id=1, username="alice", by=by)
    assert isinstance(Authenticator(SECRET).verify(token, day_ago_ms + 600_000), Verified)


async def test_each_revocation_ends_what_was_issued_since_the_one_before_while_the_common_time_stands() -> (
    None
):
    async with nodes() as (right, behind):
        for _ in range(3):
            token = await behind.sign_in()
            assert [await node.takes(token) for node in (right, behind)] == ["ok", "ok"]
            await behind.users.end_sessions(1, principal="alice")
            assert [await node.takes(token) for node in (right, behind)] == ["token_revoked", "token_revoked"]


async def test_a_token_of_a_node_whose_clock_is_behind_is_of_the_nodes_common_time() -> None:
    async with nodes() as (right, behind):
        token = await behind.sign_in()
        now_ms = right.ambient.now_ms()
        judged = right.authenticator.verify(token, now_ms)
        assert isinstance(judged, Verified)
        assert judged.expires_at_ms > now_ms + 3_500_000


async def test_a_sign_in_behind_a_revocation_by_a_clock_that_is_ahead_lasts_no_longer_than_others() -> None:
    async with nodes(AHEAD_MS) as (right, ahead):
        await ahead.publisher.revoke(user_id=1)
        await right.takes("")
        judged = right.authenticator.verify(await right.sign_in(), right.ambient.now_ms())
        assert isinstance(judged, Verified)
        assert judged.expires_at_ms <= right.ambient.now_ms() + 3_600_000
        assert judged.principal.signed_in_ms <= right.ambient.now_ms()


async def test_a_revocation_by_a_clock_that_is_ahead_ends_what_any_node_issued_before() -> None:
    async with nodes(AHEAD_MS) as both:
        tokens = [await node.sign_in() for node in both]
        await both[1].publisher.revoke(user_id=1)
        assert [await both[0].takes(token) for token in tokens] == ["token_revoked", "token_revoked"]
        assert [await both[1].takes(token) for token in tokens] == ["token_revoked", "token_revoked"]


@pytest.mark.parametrize("revoking", [0, 1], ids=["right", "ahead"])
async def test_what_a_node_far_ahead_issues_is_good_on_all_nodes_until_any_of_them_revokes_it(
    revoking: int,
) -> None:
    async with nodes(AHEAD_MS) as both:
        both[1].knows_the_time_of(both[0])
        token = await both[1].sign_in()
        made = await both[1].keys.add(Principal(1, "alice"), "mine", ("publish",), 1, by="alice")
        assert not isinstance(made, Duplicate)
        minted = mint(SECRET, both[1].ambient, user_id=1, username="alice", by=both[1].authenticator)
        given = (token, made[1], minted)
        assert [await node.takes(one) for node in both for one in given] == ["ok"] * 6
        await both[revoking].publisher.revoke(user_id=1)
        assert {await node.takes(one) for node in both for one in given} == {"token_revoked"}
        again = await both[1].sign_in()
        assert [await node.takes(again) for node in both] == ["ok", "ok"]
