"""The expensive requests of `bench storms` over plain HTTP. Pure."""

from collections.abc import Callable
from typing import Any

from bench.questions.storm_requests import (
    LISTED_EVENTS,
    LONG_BYTES,
    LONG_TEXT,
    REQUESTS,
    Sender,
    long_json,
)
from huahuo.transport.durable_streams.bodies import MESSAGES_MAX

_USERS = 64
_PADDING = "x" * 256
type _Made = tuple[str, str, bytes, tuple[str, ...]]
"""Method, target, body, and further header lines."""


def _get(target: str, *headers: str) -> _Made:
    return "GET", target, b"", headers


def _post(target: str, body: Any, *headers: str) -> _Made:
    return "POST", target, long_json(body), headers


def _command(name: str) -> Callable[[Sender, int], _Made]:
    def made(sender: Sender, number: int) -> _Made:
        fields = REQUESTS[name](sender, number)
        return _post(f"/commands/{fields.pop('action')}", fields)

    return made


def _publications(_sender: Sender, _number: int) -> _Made:
    event = {"stream": "group/storm", "type": "storm", "fields": {"body": _PADDING}}
    return _post("/publish", [event] * LISTED_EVENTS)


def _long_poll(sender: Sender, number: int) -> _Made:
    """A wait for a mailbox's stream, which stays empty, or for the next event of the user's own stream."""
    if number % 4:
        return _get(f"/streams/{sender.stream}?after={number * 37 % sender.mailboxes}&limit=1000&wait=30")
    return _get(f"/streams/user/{sender.user}?after=head&wait=1")


def _login(sender: Sender, number: int) -> _Made:
    """Wrong passwords, of many names: those of one name are soon refused at once."""
    name = f"nobody-{sender.connection}-{number}"
    return _post("/login", {"username": name, "password": f"wrong {number}"})


def _append(sender: Sender, number: int) -> _Made:
    """To a stream of the Durable Streams protocol, which the first request makes."""
    target = f"/ds/storm/{sender.user}-{sender.connection}"
    kind = "Content-Type: text/plain"
    return ("POST" if number else "PUT", target, _PADDING.encode() * 16 if number else b"", (kind,))


def _own(kind: str, *, body: bytes) -> Callable[[Sender, int], _Made]:
    """To a stream of the user's own."""

    def made(sender: Sender, number: int) -> _Made:
        target = f"/ds/user/{sender.user}/{kind.rpartition('/')[2]}-{sender.connection}"
        return ("POST" if number else "PUT", target, body if number else b"", (f"Content-Type: {kind}",))

    return made


_ITEM = b'"%b"' % (b"x" * (LONG_BYTES // MESSAGES_MAX - 3))

HTTP_REQUESTS: dict[str, Callable[[Sender, int], _Made]] = {
    "http pages": _command("pages"),
    "http exports": _command("exports"),
    "http labels": _command("labels"),
    "http publishes": _publications,
    "http snapshots": lambda sender, _number: _get(f"/streams/{sender.stream}?after=snapshot"),
    "long-polls": _long_poll,
    "event streams": lambda s, _: _get(f"/streams/{s.stream}?after=start", "Accept: text/event-stream"),
    "seen": lambda s, n: _get(f"/seen?stream={s.stream}&seq={1 + n % s.mailboxes}&client=nobody-{n % 9}"),
    "acks": lambda s, n: _post("/acks", {"client": f"storm-{n % _USERS}", "cursors": {s.stream: 1}}),
    "logins": _login,
    "ds appends": _append,
    "ds json": _own("application/json", body=b"[%b]" % b",".join([_ITEM] * MESSAGES_MAX)),
    "ds bytes": _own("application/octet-stream", body=b"\xff" * LONG_BYTES),
    "http long commands": _command("long commands"),
    "http long publishes": lambda _s, _n: _post(
        "/publish", {"stream": "group/storm", "type": "storm", "fields": {"body": LONG_TEXT}}
    ),
}
"""By name; none of them is a name in `storm_requests.REQUESTS`."""
HTTP_ADMIN_ONLY = frozenset({"http publishes", "http long publishes", "ds appends"})


def http_request(name: str, sender: Sender, number: int, token: str) -> bytes:
    """Request `number` of a sender, as bytes."""
    method, target, body, headers = HTTP_REQUESTS[name](sender, number)
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers]
    if name != "logins":
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body
