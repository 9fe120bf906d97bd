"""The pure parts of Durable Streams: what a request says, what becomes of it, and what bytes are kept."""

from http import HTTPStatus

import msgspec
import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.durable_streams import stream_rules
from huahuo.transport.durable_streams.stream_rules import (
    Wrong,
    is_near,
    may_use,
)
from huahuo.transport.http.messages import Request

NOW_MS = 1_790_000_000_000
AT = "2026-01-01T00:00:00.000Z"


def request(target: str = "/ds/a", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request.of("PUT", target, raw, "127.0.0.1")


def stored(events: list[NewEvent]) -> list[StoredEvent]:
    return [
        StoredEvent(n, e.stream, n, e.type, e.body, 1, NOW_MS, "", "", "", 0, "", b"")
        for n, e in enumerate(events, 1)
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"\xff\x00",
        "ä".encode() * stream_rules.PIECE_BYTES_MAX,
        ("a" + "😀" * 100_000).encode(),
        b"\x80" * 300_000,
        b"\x00" * stream_rules.PIECE_BYTES_MAX,
    ],
)
def test_bytes_are_kept_in_pieces_that_fit_and_come_back(body: bytes) -> None:
    events = stream_rules.events_of("ds/a", "text/plain", body, AT, 32)
    assert stream_rules.joined("text/plain", stored(events)) == body
    assert max(len(event.body) for event in events) <= 1 << 20


@pytest.mark.parametrize("body", [b"{", b"[1,]", b"\xff", b"[" * 33 + b"]" * 33, b"1 2", b'"\xed\xa0\x80"'])
def test_what_is_no_json_or_too_deep_is_refused(body: bytes) -> None:
    with pytest.raises(Wrong):
        stream_rules.events_of("ds/a", "application/json", body, AT, 32)


def test_a_body_of_more_messages_than_one_request_may_have_is_refused() -> None:
    many = b"[%b]" % b",".join([b"1"] * (stream_rules.MESSAGES_MAX + 1))
    with pytest.raises(Wrong) as refused:
        stream_rules.events_of("ds/a", "application/json", many, AT, 32)
    assert refused.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_no_text_can_end_its_server_sent_event() -> None:
    said = stream_rules.sse_data("text/plain", b"a\r\n\r\nevent: control\rdata: x\n b")
    assert said == b"event: data\ndata:a\ndata:\ndata:event: control\ndata:data: x\ndata:  b\n\n"
    assert stream_rules.sse_data("image/png", b"Hello") == b"event: data\ndata:SGVsbG8=\n\n"


def test_a_path_belongs_to_its_user_or_group() -> None:
    alice = Principal(42, "alice", groups=("ops",))
    mine = [path for path in ("user/42/a", "user/42", "group/ops/a") if may_use(alice, path, is_open=False)]
    assert len(mine) == 3
    assert not any(
        may_use(alice, path, is_open=False) for path in ("user/43/a", "group/x/a", "a", "user", "")
    )
    assert may_use(alice, "a", is_open=True)
    for right, reads, writes in (("read", True, False), ("write", False, True), ("codes", False, False)):
        key = msgspec.structs.replace(alice, rights=(right,))
        assert may_use(key, "user/42/a", is_open=False) == reads
        assert may_use(key, "user/42/a", is_open=False, writes=True) == writes
    assert may_use(Principal(1, "root", is_admin=True), "a", is_open=False)


@pytest.mark.parametrize(
    ("host", "address", "near"),
    [
        ("localhost:8765", "127.0.0.1", True),
        ("[::1]:8765", AddressDoor().address("::1", ()), True),
        ("[::1]:8765", AddressDoor().address("2001:db8::1", ()), False),
        ("127.0.0.1", "127.0.0.1", True),
        ("evil.example", "127.0.0.1", False),
        ("[::1].evil.example", "127.0.0.1", False),
        ("localhost:1@evil.example", "127.0.0.1", False),
        ("localhost", "10.0.0.1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_open_means_this_machine_named_as_such(host: str, address: str, near: bool) -> None:
    assert is_near(request(host=host), address) is near


@pytest.mark.parametrize(
    ("hops", "near"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("8.8.8.8", False),
        ("127.0.0.1, 8.8.8.8", False),
        ("unknown", False),
    ],
)
def test_open_is_not_open_behind_a_proxy_on_this_machine_that_names_its_client(hops: str, near: bool) -> None:
    assert is_near(request(host="localhost", x_forwarded_for=hops), "127.0.0.1") is near
