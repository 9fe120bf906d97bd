"""The expensive requests of `bench storms`, over WebSocket and over plain HTTP. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huahuo.transport.durable_streams.stream_rules import MESSAGES_MAX

IDS = 1_000
"""Ids in one list: what a message may hold."""
IMPORT_LINES = 2_000
"""At most; a user with fewer mailboxes imports as many as it has."""
PUBLISHED_BYTES = 16 << 10
LONG_BYTES = 900_000
LISTED_EVENTS = 64
"""Of one `publish` with a list, of 256 bytes each."""
PAGE_ROWS = 2_000
_STREAMS = 200
_PADDING = "x" * PUBLISHED_BYTES
ADMIN_ONLY = frozenset({"audit", "lists of events", "long publishes", "publishes", "subscribes"})
"""What only an admin may do: these storms come from admins."""


@dataclass(frozen=True)
class Sender:
    """One connection of a user that storms."""

    user: int
    first_id: int
    mailboxes: int
    """How many mailboxes the user has; their ids begin with `first_id`."""
    connection: int
    log: str

    @property
    def stream(self) -> str:
        """What the user sees."""
        return f"user/{self.user}"

    def ids(self, number: int) -> list[int]:
        """The ids that request `number` names; the connections of a user begin at different ones."""
        start = (number + 7 * self.connection) * IDS % self.mailboxes
        return [self.first_id + n for n in range(start, min(start + IDS, self.mailboxes))]


def _import(sender: Sender, number: int) -> dict[str, Any]:
    name = f"{sender.user}-{sender.connection}-{number}"
    count = min(IMPORT_LINES, sender.mailboxes)
    lines = [f"i{name}-{n}@storm.example----password" for n in range(count)]
    return {"action": "import_emails", "mail_type": "imap", "data": "\n".join(lines)}


def _subscribe(_sender: Sender, number: int) -> dict[str, Any]:
    stream = f"group/storm-{number // 2 % _STREAMS}"
    return {"action": "unsubscribe" if number % 2 else "subscribe", "stream": stream}


def _resume(sender: Sender, _number: int) -> dict[str, Any]:
    return {"action": "subscribe", "stream": sender.stream, "after": 0, "log": sender.log}


def _audit(_sender: Sender, number: int) -> dict[str, Any]:
    return {"action": "audit", "where": {"text": f"nobody-{number}"}, "limit": 100}


def _publish(_sender: Sender, _number: int) -> dict[str, Any]:
    return {"action": "publish", "stream": "group/storm", "type": "storm", "body": _PADDING}


def _list_of_events(_sender: Sender, _number: int) -> dict[str, Any]:
    event = {"stream": "group/storm", "type": "storm", "fields": {"body": _PADDING[:256]}}
    return {"action": "publish", "events": [event] * LISTED_EVENTS}


def _page(_sender: Sender, number: int) -> dict[str, Any]:
    sort = ("email", "-email", "status", "-last_check_time")[number % 4]
    filter_ = {"text": f"{number % 10}"} if number % 2 else {}
    return {"action": "get_all_emails", "limit": PAGE_ROWS, "sort": sort, "filter": filter_}


def _labels(sender: Sender, number: int) -> dict[str, Any]:
    return {"action": "label_emails", "email_ids": sender.ids(number), "add_tags": [f"tag-{number % 3}"]}


def _watch(sender: Sender, number: int) -> dict[str, Any]:
    return {"action": "watch_emails", "email_ids": sender.ids(number // 2), "on": number % 2 == 0}


def _add(sender: Sender, number: int) -> dict[str, Any]:
    email = f"a{sender.user}-{sender.connection}-{number}@storm.example"
    return {"action": "add_email", "email": email, "password": "password", "mail_type": "gmail"}


def _label_all(_sender: Sender, number: int) -> dict[str, Any]:
    note = f"note {number} {_PADDING[:200]}"
    return {"action": "label_emails", "filter": {"text": "@"}, "note": note, "group": f"g{number % 5}"}


def _webhook(_sender: Sender, number: int) -> dict[str, Any]:
    return {"action": "add_webhook", "url": f"https://storm.example/{number}"}


LONG_TEXT = "A" * (LONG_BYTES // 6)
"""As `long_json` writes it, each letter has six bytes."""


def _long_command(_sender: Sender, _number: int) -> dict[str, Any]:
    return {"action": "import_emails", "mail_type": "imap", "data": LONG_TEXT}


def _long_publish(_sender: Sender, _number: int) -> dict[str, Any]:
    return {"action": "publish", "stream": "group/storm", "type": "storm", "body": LONG_TEXT}


def long_json(value: object) -> bytes:
    """As JSON, with a long text in it escaped letter by letter."""
    return json.dumps(value).replace(LONG_TEXT, "\\u0041" * len(LONG_TEXT)).encode()


REQUESTS: dict[str, Callable[[Sender, int], dict[str, Any]]] = {
    "lists": lambda _sender, _number: {"action": "get_all_emails"},
    "snapshots": lambda s, _: {"action": "subscribe", "stream": s.stream, "after": "snapshot"},
    "imports": _import,
    "deletes": lambda sender, number: {"action": "delete_emails", "email_ids": sender.ids(number)},
    "audit": _audit,
    "resumes": _resume,
    "subscribes": _subscribe,
    "publishes": _publish,
    "checks": lambda sender, number: {"action": "check_emails", "email_ids": sender.ids(number)},
    "pages": _page,
    "exports": lambda _s, _n: {"action": "export_emails", "limit": IDS, "secrets": True},
    "searches": lambda _s, number: {"action": "search_mails", "query": f"code {number}", "limit": 200},
    "reports": lambda _s, _n: {"action": "get_failures", "limit": IDS},
    "labels": _labels,
    "labels of all": _label_all,
    "watches": _watch,
    "adds": _add,
    "lists of events": _list_of_events,
    "webhooks": _webhook,
    "long commands": _long_command,
    "long publishes": _long_publish,
}


def message(name: str, sender: Sender, number: int) -> bytes:
    """Request `number` of a sender, with an id."""
    return long_json(REQUESTS[name](sender, number) | {"id": f"{number}"})


def sign_in(name: str, sender: Sender, token: str) -> bytes:
    """The first message; a storm of resumes begins with one from 0."""
    cursors = {sender.stream: 0} if name == "resumes" else {}
    client = f"storm-{sender.user}-{sender.connection}"
    return json.dumps(
        {
            "action": "authenticate",
            "token": token,
            "client": client,
            "window": 4096,
            "resume": {"log": sender.log if cursors else None, "cursors": cursors},
        }
    ).encode()


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
    event = {"stream": "group/storm", "type": "storm", "fields": {"body": _PADDING[:256]}}
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
    return ("POST" if number else "PUT", target, _PADDING[:4096].encode() if number else b"", (kind,))


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
    "acks": lambda s, n: _post("/acks", {"client": f"storm-{n % 64}", "cursors": {s.stream: 1}}),
    "logins": _login,
    "ds appends": _append,
    "ds json": _own("application/json", body=b"[%b]" % b",".join([_ITEM] * MESSAGES_MAX)),
    "ds bytes": _own("application/octet-stream", body=b"\xff" * LONG_BYTES),
    "http long commands": _command("long commands"),
    "http long publishes": lambda _s, _n: _post(
        "/publish", {"stream": "group/storm", "type": "storm", "fields": {"body": LONG_TEXT}}
    ),
}
"""By name; none of them is a name in `REQUESTS`."""
HTTP_ADMIN_ONLY = frozenset({"http publishes", "http long publishes", "ds appends"})


def http_request(name: str, sender: Sender, number: int, token: str) -> bytes:
    """Request `number` of a sender, as bytes."""
    method, target, body, headers = HTTP_REQUESTS[name](sender, number)
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers]
    if name != "logins":
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body
