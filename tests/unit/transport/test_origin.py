"""PROTOCOL 3: the pages that may open a connection."""

import pytest

from huahuo.transport.access.door import origin_allowed

HOST = ["mail.example.org:8765"]


@pytest.mark.parametrize(
    "origin",
    [
        "http://mail.example.org",
        "https://mail.example.org",
        "http://mail.example.org:3000",
        "HTTPS://MAIL.Example.ORG",
    ],
)
def test_the_own_hostname_at_any_port_may_come_in(origin: str) -> None:
    assert origin_allowed([origin], HOST, [])


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://example.org", "http://evil-mail.example.org", "http://mail.example.org.evil.net",
        "http://mail.example.org@evil.net", "http://evil.net/mail.example.org", "file://mail.example.org",
        "http://mail.example.org:port", "mail.example.org", "http://mail.example.org/x", "http://[::1", "http://",
        "http://mail.exa\tmple.org", "http://mail.example\n.org",
    ],
)  # fmt: skip
def test_another_origin_may_not(origin: str) -> None:
    assert not origin_allowed([origin], HOST, [])


def test_no_origin_is_no_page() -> None:
    assert origin_allowed([], HOST, [])


def test_two_origins_are_none() -> None:
    assert not origin_allowed(["http://mail.example.org", "http://mail.example.org"], HOST, [])


@pytest.mark.parametrize("hosts", [[], ["a", "mail.example.org"], [""]])
def test_without_one_host_only_the_list_counts(hosts: list[str]) -> None:
    assert not origin_allowed(["http://mail.example.org"], hosts, [])
    assert origin_allowed(["http://mail.example.org"], hosts, ["http://mail.example.org"])


def test_an_allowed_origin_is_compared_whole() -> None:
    allowed = ["https://App.example.net/", "http://localhost:3000"]
    assert origin_allowed(["https://app.example.net"], HOST, allowed)
    assert origin_allowed(["http://localhost:3000"], HOST, allowed)
    assert not origin_allowed(["http://localhost:3001"], HOST, allowed)
    assert not origin_allowed(["https://app.example.net.evil.net"], HOST, allowed)


def test_ipv6_hosts_compare_too() -> None:
    assert origin_allowed(["http://[::1]:3000"], ["[::1]:8765"], [])
    assert not origin_allowed(["http://[::2]"], ["[::1]:8765"], [])


@pytest.mark.parametrize("page", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000"])
@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:8765", "[::1]:8765"])
def test_the_names_of_this_machine_are_one_host(page: str, host: str) -> None:
    assert origin_allowed([page], [host], [])


@pytest.mark.parametrize("page", ["http://localhost", "http://127.0.0.1", "http://[::1]"])
def test_a_page_of_this_machine_is_a_stranger_to_another_host(page: str) -> None:
    assert not origin_allowed([page], HOST, [])


@pytest.mark.parametrize(
    "page", ["http://localhost.evil.net", "http://evil.localhost", "http://127.0.0.1.evil.net"]
)
def test_a_name_that_looks_like_this_machine_is_not(page: str) -> None:
    assert not origin_allowed([page], ["127.0.0.1:8765"], [])
