"""What is kept of a mail server while nobody has a connection to it: users name the servers."""

import asyncio

from huahuo.mailcheck.checks.connections import Connections
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.servers.providers import Providers


def plan(server: str) -> Plan:
    return Plan(email="a@b.example", mail_type="imap", server=server, port=993, use_ssl=True, cursors={})


def test_nothing_is_kept_of_a_server_without_connections() -> None:
    connections = Connections(Providers(), 2)
    for n in range(10_000):
        assert connections.of_watchers(plan(f"h{n}.example")).try_take(0.0)
    assert connections.hosts == 0


def test_all_who_have_a_place_at_a_server_share_its_bound() -> None:
    connections = Connections(Providers(), 2)
    places = connections.of_watchers(plan("h.example"))
    assert places.try_take(0.0)
    assert connections.of_watchers(plan("H.example")).try_take(0.0)
    assert not connections.of_watchers(plan("h.example")).try_take(0.0)
    assert connections.hosts == 1


async def test_where_nodes_divide_checks_their_bound_at_one_host_is_a_number_of_places() -> None:
    connections = Connections(Providers(), 2, checks_per_host_max=1)
    first, others = connections.of_check(plan("h.example")), connections.of_check(plan("other.example"))
    async with first, others, connections.of_mail(plan("h.example")):
        second = asyncio.ensure_future(connections.of_check(plan("H.example")).__aenter__())
        await asyncio.sleep(0)
        assert not second.done()
    await second
