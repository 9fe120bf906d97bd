"""Several nodes over one log: one asks by a grant at a time, since a rotated token is worth one refresh."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from huahuo.actors.actor.runtime import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.eventstore.model import Append, Secret, SecretPut
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.checks.sign_in import StoredGrants
from huahuo.mailcheck.events import MailboxAdded, internal
from huahuo.mailcheck.mailbox.decider import MailboxDecider
from huahuo.mailcheck.servers.faults import Answer
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.oauth import Tokens
from huahuo.mailcheck.servers.providers import Provider, Providers, Proxy
from huahuo.replay.feed import Feed
from huahuo.testing.world import VirtualAmbient, run_virtual, virtual_loop
from tests.support.worlds.replicas import Node, cluster

PROVIDER = Provider(token_url=("https://one/token",), scopes=(("imap",),))
AT = "2026-01-01T00:00:00.000Z"


class Strict:
    """A token endpoint that gives up a grant whose refresh token comes twice, as strict ones do."""

    def __init__(self) -> None:
        self.good = "refresh 0"
        self.asked = 0
        self.at_once = 0
        self.at_once_max = 0
        self.hung = asyncio.Event()
        self.hung.set()

    async def post_form(self, url: str, fields: Mapping[str, str], proxy: Proxy | None = None) -> Answer:
        del url, proxy
        self.asked += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            sent = fields["refresh_token"]
            await asyncio.sleep(2.0)
            await self.hung.wait()
        finally:
            self.at_once -= 1
        if sent != self.good:
            self.good = "revoked"
            return Answer(400, {}, b'{"error":"invalid_grant"}')
        self.good = f"refresh {self.asked}"
        fresh = {"access_token": f"a{self.asked}", "refresh_token": self.good, "expires_in": 3600}
        return Answer(200, {}, json.dumps(fresh).encode())


@asynccontextmanager
async def tokens_of(node: Node, endpoint: Strict) -> AsyncIterator[tuple[Tokens, StoredGrants]]:
    """What a service of this node signs in with."""
    feed = Feed(node.log)
    runtime = Runtime(asyncio.get_running_loop(), ambient=node.ambient)
    directory = Directory(runtime, node.log, feed, node.ambient)
    directory.register(MAILBOX, MailboxDecider(), lambda *_: None)
    grants = StoredGrants(Mailboxes(node.log, directory, node.ambient), Providers())
    ambient = VirtualAmbient(virtual_loop(), 1)
    tokens = Tokens(grants, cast("Requests", endpoint), ambient)
    yield tokens, grants
    await tokens.close(60.0)
    await directory.close()
    await runtime.stop()
    feed.close()


async def add_mailbox(node: Node) -> None:
    secrets = {"client_id": "client", "refresh_token": "refresh 0"}
    fields: dict[str, Any] = {"email": "a@b.c", "mail_type": "outlook", "server": "s", "port": 993}
    added = MailboxAdded(timestamp=AT, user_id=1, use_ssl=True, secrets=tuple(secrets), **fields)
    sealed = tuple(SecretPut("mailbox/1", name, Secret(value)) for name, value in secrets.items())
    await node.log.append(Append(ts_ms=1, events=(internal(1, added),), secrets=sealed))


def test_nodes_that_need_a_token_at_once_ask_one_after_the_other() -> None:
    async def main() -> None:
        endpoint = Strict()
        async with cluster("ab") as nodes:
            await add_mailbox(nodes.nodes[0])
            await nodes.caught_up()
            async with tokens_of(nodes.nodes[0], endpoint) as a, tokens_of(nodes.nodes[1], endpoint) as b:
                found = await asyncio.gather(
                    *(tokens.get(1, PROVIDER, graph=False) for tokens, _ in (a, b) for _ in range(3))
                )
                assert {access.generation for access in found[:3]} != {
                    access.generation for access in found[3:]
                }
        assert (endpoint.asked, endpoint.at_once_max) == (2, 1)
        assert endpoint.good != "revoked"

    run_virtual(main())
