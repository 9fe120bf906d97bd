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
_STREAMS = 200
_PADDING = "x" * PUBLISHED_BYTES
ADMIN_ONLY = frozenset({"audit", "publishes", "subscribes"})
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
}


def message(name: str, sender: Sender, number: int) -> bytes:
    """Request `number` of a sender, with an id."""
    return json.dumps(REQUESTS[name](sender, number) | {"id": f"{number}"}).encode()


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
