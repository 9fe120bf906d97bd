"""The address of an ordered log: what it may say, and that no text of it holds its password."""

import pytest

from huahuo.eventstore.sequencer.address import BadAddress, LogAddress


@pytest.mark.parametrize("url", ["postgres://al:hunter2@db/x?sslmode=disable", "nats://al:hunter2@n?tls=off"])
def test_no_text_of_an_address_holds_the_password(url: str) -> None:
    address = LogAddress(url)
    for text in (str(address), repr(address), f"{address}"):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    ("url", "encrypted"),
    [
        ("postgres://db.example.com/x", True),
        ("postgres://db.example.com/x?sslmode=disable", False),
        ("postgres://127.0.0.1/x", False),
        ("postgres://localhost,db.example.com/x", True),
        ("postgres://127.0.0.1/x?sslmode=verify-full", True),
        ("nats://10.0.0.7", True),
        ("nats://10.0.0.7?tls=off", False),
        ("nats://[::1],localhost", False),
        ("nats://127.0.0.1?tls=verify", True),
    ],
)
def test_other_hosts_than_this_one_are_verified_unless_it_is_switched_off(url: str, encrypted: bool) -> None:
    assert LogAddress(url).encrypted is encrypted


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://x", "must begin with"),
        ("not a url", "must begin with"),
        ("nats://", "names no host"),
        ("nats://a:99999999", "can't be read"),
        ("nats://a/some/path", "has no path"),
        ("nats://a?replicas=2", "1, 3 or 5"),
        ("nats://a?tls=maybe", "verify or off"),
        ("nats://a?name=Huahuo;drop", "at most 40"),
        ("postgres://a/x?sslmode=require", "do not prove who answers"),
        ("postgres://a/x?colour=red", "unknown option 'colour'"),
        ("postgres://a/x?name=a&name=b", "twice"),
        ("nats://" + ",".join(f"h{n}" for n in range(17)), "more than 16 hosts"),
    ],
)
def test_a_bad_address_is_refused_with_its_reason_and_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(BadAddress, match=reason) as refused:
        LogAddress(url.replace("://", "://me:hunter2@", 1) if "not a" not in url else url)
    assert "hunter2" not in str(refused.value)
