"""Limits per address, and the delay after a wrong token."""

import pytest

from huahuo.transport.access.door import (
    AddressDoor,
    Door,
    FailureThrottle,
    RequestLimit,
)


def test_the_fifth_failure_in_a_minute_waits_and_the_wait_grows_to_ten_seconds() -> None:
    throttle = FailureThrottle()
    assert [throttle.failed("a", n) for n in range(10)] == [0, 0, 0, 0, 1, 2, 4, 8, 10, 10]


def test_failures_older_than_a_minute_are_forgiven() -> None:
    throttle = FailureThrottle()
    for n in range(4):
        throttle.failed("a", n)
    assert throttle.failed("a", 59.9) == 1
    assert throttle.failed("a", 200) == 0


def test_a_million_addresses_do_not_fill_the_memory() -> None:
    throttle = FailureThrottle(addresses_max=100)
    for n in range(10_000):
        throttle.failed(str(n), n / 1000)
    assert len(throttle) == 100


def test_an_address_that_keeps_failing_is_not_the_one_forgotten() -> None:
    throttle = FailureThrottle(addresses_max=10)
    for n in range(100):
        throttle.failed("evil", 0)
        throttle.failed(str(n), 0)
    assert throttle.failed("evil", 0) == 10


def address(peer: str, *forwarded: str, trusted: tuple[str, ...] = ("10.0.0.0/8", "fd00::/8")) -> str:
    return AddressDoor(trusted_proxies=trusted).address(peer, forwarded)


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("@unix", "@unix"),
    ],
)
def test_a_client_counts_by_its_ipv4_address_or_its_ipv6_network(peer: str, key: str) -> None:
    assert address(peer) == key


def test_a_stranger_cannot_choose_its_address() -> None:
    assert address("192.0.2.7", "198.51.100.1") == "192.0.2.7"


@pytest.mark.parametrize(
    ("forwarded", "key"),
    [
        (("198.51.100.1",), "198.51.100.1"),
        (("203.0.113.9, 198.51.100.1",), "198.51.100.1"),
        (("203.0.113.9", "198.51.100.1"), "198.51.100.1"),
        (("198.51.100.1, 10.0.0.2",), "198.51.100.1"),
        (("198.51.100.1 , 10.0.0.2,10.0.0.3",), "198.51.100.1"),
        (("10.0.0.9",), "10.0.0.9"),
        (("198.51.100.1:4711",), "198.51.100.1"),
        (("[2001:db8::1]:4711",), "2001:db8::/64"),
        (("::ffff:198.51.100.1",), "198.51.100.1"),
        (("198.51.100.1, nonsense",), "10.0.0.1"),
        (("nonsense, 198.51.100.1",), "198.51.100.1"),
        (("",), "10.0.0.1"),
        ((), "10.0.0.1"),
    ],
)
def test_behind_trusted_proxies_the_right_most_untrusted_address_counts(
    forwarded: tuple[str, ...], key: str
) -> None:
    assert address("10.0.0.1", *forwarded) == key


def test_an_endless_header_is_read_only_from_its_end() -> None:
    assert address("10.0.0.1", "198.51.100.1," * 100 + ",".join(["10.0.0.2"] * 100)) == "10.0.0.2"


def test_the_memory_of_requests_is_bounded_and_keeps_those_that_ask() -> None:
    limit = RequestLimit(per_s=1, keys_max=10)
    for n in range(100):
        limit.take("evil", 0)
        limit.take(str(n), 0)
    assert len(limit) == 10
    assert limit.take("evil", 0) > 0


def test_a_socket_counts_by_its_own_address_until_its_request_is_read() -> None:
    door: Door = AddressDoor(trusted_proxies=["10.0.0.0/8"])
    assert door.peer_address("192.0.2.7") == "192.0.2.7"
    assert door.peer_address("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert door.peer_address("10.1.2.3") == "", "whose socket it is the proxy will say"
    assert AddressDoor().peer_address("10.1.2.3") == "10.1.2.3", "no proxy is trusted"
