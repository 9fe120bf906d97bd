"""Which mail servers may be connected to: the pure rules, and the one look-up they are applied to."""

import asyncio

import pytest

from huahuo.actors.plugins.resolver import Resolver
from huahuo.mailcheck.servers.faults import DnsFailed, HostRefused
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Reason, is_public, refusal

PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("100.64.0.1", "100.100.100.201", "100.127.255.255", "::1", "fc00::1", "fd12:3456::1"),
]
SPECIAL = [
    *("0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
    *("5f00::1", "fe80::1", "fec0::1", "ff02::1", "fd00:ec2::254", "::1%lo", "fe80::1%eth0"),
    *("100.100.100.200", "168.63.129.16"),  # metadata at Alibaba and Azure
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_unless_allowed(address: str) -> None:
    assert refusal(address, allow_private=False) == Reason.PRIVATE
    assert refusal(address, allow_private=True) is None
    assert not is_public(address)


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_refused_always(address: str) -> None:
    assert refusal(address, allow_private=False) is not None
    assert refusal(address, allow_private=True) is not None
    assert not is_public(address)


def test_what_is_no_address_is_refused() -> None:
    assert refusal("imap.example.com", allow_private=True) == Reason.MALFORMED
    assert not is_public("imap.example.com")


def answers(*lists: list[str]) -> tuple[Resolver, list[str]]:
    """A resolver that gives another answer each time, and the names it was asked for."""
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return lists[min(len(asked), len(lists)) - 1]

    return resolver, asked


async def test_a_rebinding_name_is_looked_up_once_and_only_the_checked_address_is_used() -> None:
    """The first answer is public and passes; a second look-up would have led to this machine."""
    resolver, asked = answers(["93.184.216.34"], ["127.0.0.1"])
    network = Network(resolver=resolver)
    assert (await network.addresses("rebind.example", 993, 1)) == ("rebind.example", ["93.184.216.34"])
    assert asked == ["rebind.example"]


@pytest.mark.parametrize(
    "bad", [["127.0.0.1"], ["::1"], ["::ffff:10.0.0.1"], ["169.254.169.254", "fd00:ec2::254"]]
)
async def test_a_name_that_leads_inside_is_refused_before_any_connection(bad: list[str]) -> None:
    resolver, _ = answers(bad)
    with pytest.raises(HostRefused):
        await Network(resolver=resolver).open_stream("evil.example", 993, use_ssl=True, timeout_s=1)


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_a_port_that_is_none_is_refused_even_where_private_servers_are_allowed(port: int) -> None:
    resolver, _ = answers(["127.0.0.1"])
    with pytest.raises(HostRefused):
        await Network(allow_private=True, resolver=resolver).addresses("h.example", port, 1)


async def test_a_resolver_that_never_answers_is_a_dns_failure() -> None:
    async def hangs(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(DnsFailed):
        await Network(resolver=hangs).addresses("slow.example", 993, 0.05)
