"""What must hold in any history of the mail domain. Each rule returns its violations, [] if there are none.

Written from PROTOCOL 4.1 and the invariants I16, I20 and I22, not from the code. The same rules
judge hypothesis runs, end-to-end tests and crash runs.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from huahuo.eventstore.model import StoredEvent

TERMINAL = ("ok", "error", "need_reauth", "cancelled")


def broken_checks(events: Iterable[StoredEvent], *, ended: bool = False) -> list[str]:
    """I20. For each check: progress never decreases and ends at exactly 100, then one terminal status.

    Nothing is said after that. With `ended`, every check must have come to its end.
    """
    broken = []
    progress: dict[int, int] = {}
    owner: dict[int, tuple[str, int]] = {}
    over: set[int] = set()
    for event in events:
        if event.type not in ("check_progress", "email_status_update"):
            continue
        body = msgspec.json.decode(event.body, type=dict[str, Any])
        check_id, where = body["check_id"], f"at {event.position}"
        if not check_id:
            continue  # said by a watcher
        if owner.setdefault(check_id, (event.stream, body["email_id"])) != (event.stream, body["email_id"]):
            broken.append(f"check {check_id} belongs to two mailboxes {where}")
        if check_id in over:
            broken.append(f"check {check_id}: {event.type} after its end {where}")
        if event.type == "check_progress":
            if not progress.get(check_id, 0) <= body["progress"] <= 100:
                broken.append(f"check {check_id}: {progress.get(check_id)} to {body['progress']} {where}")
            progress[check_id] = body["progress"]
        elif body["status"] in TERMINAL:
            over.add(check_id)
            if progress.get(check_id) != 100:
                broken.append(f"check {check_id}: ended at {progress.get(check_id)} {where}")
    if ended:
        broken += [f"check {check_id} never ended" for check_id in owner if check_id not in over]
    return broken


def broken_deletions(events: Iterable[StoredEvent]) -> list[str]:
    """Nothing is said of a mailbox before it was added or after it was deleted."""
    broken = []
    alive: set[int] = set()
    for event in events:
        if not event.stream.startswith("user/"):
            continue
        email_id: int = msgspec.json.decode(event.body, type=dict[str, Any]).get("email_id", 0)
        if event.type == "email_added":
            alive.add(email_id)
        elif email_id not in alive:
            broken.append(f"{event.type} of mailbox {email_id} at {event.position}")
        if event.type == "email_deleted":
            alive.discard(email_id)
    return broken


def broken_mails(events: Iterable[StoredEvent]) -> list[str]:
    """I22. At most one mail for each (server, folder, UIDVALIDITY, UID) and one event for each mail."""
    broken = []
    server: dict[str, str] = {}
    seen: set[tuple[str, str, str, int, int]] = set()
    found: set[int] = set()
    said: set[int] = set()
    for event in events:
        body = msgspec.json.decode(event.body, type=dict[str, Any])
        if event.type in ("mailbox_added", "mailbox_updated"):
            server[event.stream] = body["server"].lower()
        elif event.type == "mail_received":
            if body["mail_id"] in said:
                broken.append(f"mail {body['mail_id']} twice at {event.position}")
            said.add(body["mail_id"])
        elif event.type == "cursor_moved":
            for one in body["mails"]:
                key = (
                    event.stream,
                    server[event.stream],
                    body.get("folder", ""),
                    body["uidvalidity"],
                    one["uid"],
                )
                if key in seen:
                    broken.append(f"{key} twice at {event.position}")
                seen.add(key)
                found.add(one["mail_id"])
    return broken + [f"mail {n} without its fact, or a fact without its mail" for n in said ^ found]


def leaks(canaries: Iterable[str], *haystacks: bytes) -> list[str]:
    """I16. The canaries that occur in plain text."""
    return [c for c in canaries if any(c.encode() in haystack for haystack in haystacks)]
