"""Rules of checks and mails that a log alone can show, for `huahuo doctor --check`. Pure."""

from typing import Any

import msgspec

from huahuo.eventstore.model import StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Tally, Verdict
from huahuo.mailcheck.events import STATUSES_TERMINAL


class ChecksEndOnce:
    """I20: the progress of a check never goes back, it ends at most once, and says nothing after its end."""

    def __init__(self) -> None:
        self._tally = Tally("I20")
        self._progress: dict[int, int] = {}
        self._ended: set[int] = set()

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if isinstance(one, Tombstone) or one.type not in {"check_progress", "email_status_update"}:
            return
        if not one.stream.startswith("user/"):
            return
        told = msgspec.json.decode(one.body, type=dict[str, Any])
        check = told.get("check_id", 0)
        if not check:
            return  # the watcher of a mailbox, or an embedding application
        where = f"check {check} in {one.stream}, seq {one.seq}"
        if check in self._ended:
            self._tally.wrong(f"{where}: {one.type} after its end")
        if one.type == "check_progress":
            if told["progress"] < self._progress.get(check, 0):
                self._tally.wrong(f"{where}: went back from {self._progress[check]} to {told['progress']}")
            self._progress[check] = told["progress"]
        elif told["status"] in STATUSES_TERMINAL:
            self._tally.judged += 1
            self._ended.add(check)

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("checks ended once")


class MailsToldOnce:
    """I22: a mail is told once, and each UID of a folder is taken once while its server is the same."""

    def __init__(self) -> None:
        self._tally = Tally("I22")
        self._told: set[int] = set()
        self._uids: dict[str, set[tuple[str, int, int]]] = {}

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if isinstance(one, Tombstone):
            return
        if one.type == "mail_received" and one.stream.startswith("user/"):
            self._tell(one)
        elif one.stream.startswith("mailbox/"):
            if one.type == "mailbox_updated":
                self._uids.pop(one.stream, None)  # perhaps another server, with UIDs of its own
            elif one.type == "cursor_moved":
                self._take(one)

    def _tell(self, one: StoredEvent) -> None:
        mail = msgspec.json.decode(one.body, type=dict[str, Any])["mail_id"]
        self._tally.judged += 1
        if mail in self._told:
            self._tally.wrong(f"mail {mail} was told twice, in {one.stream} at seq {one.seq}")
        self._told.add(mail)

    def _take(self, one: StoredEvent) -> None:
        moved = msgspec.json.decode(one.body, type=dict[str, Any])
        taken = self._uids.setdefault(one.stream, set())
        for mail in moved.get("mails", ()):
            if mail.get("remote_id"):
                continue  # a mail of Microsoft Graph, which has no UID
            place = moved["folder"], moved["uidvalidity"], mail["uid"]
            if place in taken:
                self._tally.wrong(f"{one.stream} took UID {mail['uid']} of {moved['folder']} twice")
            taken.add(place)

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("mails told once")
