"""The expensive requests of `bench storms`, as messages. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
