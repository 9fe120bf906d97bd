"""Access tokens in memory: when one is used again, when another is asked for, which endpoint comes first."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.events import Way
from huahuo.mailcheck.servers.faults import Answer
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.oauth import CLAIM_S_MAX, Grant, Tokens
from huahuo.mailcheck.servers.providers import Provider, Proxy
from huahuo.testing.world import VirtualAmbient, run_virtual, virtual_loop

PROVIDER = Provider(
    token_url=("https://one/token", "https://two/token"),
    scopes=(("imap", "offline_access"), ()),
    graph_url="https://graph",
    graph_scopes=(("graph",),),
)


class Endpoint:
    """A token endpoint that answers as a test says, by (URL, scope); it rotates nothing."""

    def __init__(self, lifetime_s: int = 3600) -> None:
        self.lifetime_s = lifetime_s
        self.asked: list[tuple[str, str]] = []
        self.refusals: dict[tuple[str, str], str] = {}
        self.dead: set[str] = set()

    async def post_form(self, url: str, fields: Mapping[str, str], proxy: Proxy | None = None) -> Answer:
        where = url, fields.get("scope", "")
        self.asked.append(where)
        if fields["refresh_token"] in self.dead:
            return Answer(400, {}, b'{"error":"invalid_grant"}')
        if (error := self.refusals.get(where)) is not None:
            return Answer(400, {}, json.dumps({"error": error}).encode())
        body = {"access_token": f"access {len(self.asked)}", "expires_in": self.lifetime_s}
        return Answer(200, {}, json.dumps(body).encode())


class Kept:
    """The grants of any number of mailboxes, in memory."""

    def __init__(self) -> None:
        self.grants: dict[int, Grant] = {}

    async def read(self, email_id: int) -> Grant | None:
        return self.grants.setdefault(email_id, Grant(1, "client", Secret("refresh")))

    async def keep(self, email_id: int, generation: int, way: Way, refresh_token: Secret | None) -> bool:
        self.grants[email_id] = Grant(generation, "client", Secret("refresh"), way)
        return True

    async def claim(self, email_id: int) -> bool:
        return True

    async def leave(self, email_id: int) -> None:
        pass


def tokens(endpoint: Endpoint, grants: Kept | None = None, **bounds: Any) -> Tokens:
    """Tokens on the running virtual loop."""
    ambient = VirtualAmbient(virtual_loop(), 1)
    return Tokens(grants or Kept(), cast("Requests", endpoint), ambient, **bounds)


@pytest.mark.parametrize(("lifetime_s", "until_s"), [(3600, 3000), (300, 150)])
def test_a_token_is_replaced_10_minutes_before_its_end_or_in_the_middle_of_a_short_life(
    lifetime_s: int, until_s: int
) -> None:
    async def main() -> None:
        endpoint = Endpoint(lifetime_s)
        kept = tokens(endpoint)
        first = await kept.get(1, PROVIDER, graph=False)
        virtual_loop().sleep_through(until_s - 1)
        assert await kept.get(1, PROVIDER, graph=False) is first
        virtual_loop().sleep_through(2)
        assert (await kept.get(1, PROVIDER, graph=False)).token != first.token
        assert len(endpoint.asked) == 2

    run_virtual(main())


def test_a_token_that_was_refused_is_replaced_once_for_all_who_held_it() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        kept = tokens(endpoint)
        first = await kept.get(1, PROVIDER, graph=False)
        second = await kept.get(1, PROVIDER, graph=False, refused=first.token)
        assert await kept.get(1, PROVIDER, graph=False, refused=first.token) is second
        assert len(endpoint.asked) == 2

    run_virtual(main())


def test_a_scope_that_is_missing_leads_to_the_next_scope_and_a_refusal_to_the_next_endpoint() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        endpoint.refusals = {
            ("https://one/token", "imap offline_access"): "invalid_scope",
            ("https://one/token", ""): "invalid_grant",
        }
        access = await tokens(endpoint).get(1, PROVIDER, graph=False)
        assert endpoint.asked == [
            ("https://one/token", "imap offline_access"),
            ("https://one/token", ""),
            ("https://two/token", "imap offline_access"),
        ]
        assert access.way == Way(graph=False, token_url="https://two/token", scope="imap offline_access")

    run_virtual(main())


def test_what_worked_last_is_asked_first() -> None:
    async def main() -> None:
        endpoint, grants = Endpoint(), Kept()
        endpoint.refusals = {("https://one/token", "imap offline_access"): "invalid_grant"}
        await tokens(endpoint, grants).get(1, PROVIDER, graph=False)
        endpoint.asked.clear()
        await tokens(endpoint, grants).get(1, PROVIDER, graph=False)
        assert endpoint.asked == [("https://two/token", "imap offline_access")]

    run_virtual(main())


def test_a_grant_that_was_replaced_while_it_was_refused_is_read_again() -> None:
    """As if another process had used and kept it, or the user had entered another."""

    async def main() -> None:
        endpoint, grants = Endpoint(), Kept()
        grants.grants[1] = Grant(2, "client", Secret("the next one"))
        stale = [Grant(1, "client", Secret("used up"))]
        endpoint.dead = {"used up"}
        read = grants.read

        async def read_late(email_id: int) -> Grant | None:
            return stale.pop() if stale else await read(email_id)

        grants.read = read_late  # type: ignore[method-assign]
        access = await tokens(endpoint, grants).get(1, PROVIDER, graph=False)
        assert access.generation == 2

    run_virtual(main())


def test_tokens_beyond_the_bound_are_forgotten_oldest_first() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        kept = tokens(endpoint, kept_max=2)
        for email_id in (1, 2, 1, 3):
            await kept.get(email_id, PROVIDER, graph=False)
        assert kept.kept == 2
        await kept.get(1, PROVIDER, graph=False)
        assert len(endpoint.asked) == 3
        await kept.get(2, PROVIDER, graph=False)
        assert len(endpoint.asked) == 4

    run_virtual(main())


def test_the_tokens_of_a_deleted_mailbox_are_dropped() -> None:
    async def main() -> None:
        kept = tokens(Endpoint())
        await kept.get(1, PROVIDER, graph=False)
        await kept.get(1, PROVIDER, graph=True)
        kept.forget(1)
        assert kept.kept == 0

    run_virtual(main())


def test_a_claim_whose_answer_came_late_is_left_and_made_again_before_anything_is_asked() -> None:
    class Slow(Kept):
        """Its first claim takes longer than others wait for a silent node."""

        def __init__(self) -> None:
            super().__init__()
            self.did: list[str] = []

        async def claim(self, email_id: int) -> bool:
            self.did.append("claim")
            if self.did == ["claim"]:
                await asyncio.sleep(CLAIM_S_MAX)
            return True

        async def leave(self, email_id: int) -> None:
            self.did.append("leave")

        async def read(self, email_id: int) -> Grant | None:
            self.did.append("read")
            return await super().read(email_id)

    async def main() -> None:
        grants = Slow()
        await tokens(Endpoint(), grants).get(1, PROVIDER, graph=False)
        assert grants.did == ["claim", "leave", "claim", "read", "leave"]

    run_virtual(main())
