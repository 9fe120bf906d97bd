"""One connection of FireMail's front end, between its dialect and our protocol. Pure.

Its rules (what that front end does with a close code, a message that comes twice, a progress of 100) are
the tests of `tests/unit/mailcheck/test_classic_interpreter.py`. It repeats what it sent before it was
authenticated, and sends no ids: two messages of one type and content within three seconds are one command
(`Repeats`). It keeps a row "being checked" until it hears 100, also over a lost connection: its next
connection is told how each of these checks stands (`Running`). It answers each `email_added` by a toast of
five seconds and a request for the whole list: a few are told at once, those of a flood together, one
message every two seconds, and what is left with the answer of its next heartbeat (`Elsewhere`).
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.actions import Message, Understood
from huahuo.mailcheck.classic import classic_zh, dialect
from huahuo.mailcheck.classic.dialect import COMMANDS, PROGRESS_RUNNING_MAX, Wrong
from huahuo.mailcheck.events import PROGRESS_MAX, STATUSES_BUSY

AT_ONCE_MAX: Final = 8
EVERY_S: Final = 2.0
DELETED_MAX: Final = 10_000
"""Ids that wait. At this number they are told."""

type Toast = dict[str, Any]


class Elsewhere:
    """What one connection was told, and what it will be told together."""

    def __init__(self) -> None:
        self._left = float(AT_ONCE_MAX)
        self._seen_s = 0.0
        self._told_s = 0.0
        self._is_listed = True
        """The page has asked for its list since it was last told that mailboxes were added."""
        self._added = 0
        self._last: tuple[int, str] = (0, "")
        self._deleted: list[int] = []

    def added(self, email_id: int, email: str, count: int = 1) -> None:
        """Another client added a mailbox, the last of `count`."""
        self._added += count
        self._last = (email_id, email)

    def deleted(self, email_id: int) -> None:
        """Another client deleted a mailbox."""
        self._deleted.append(email_id)

    def listed(self) -> None:
        """The page asks for the whole list, which has all that was told here."""
        self._is_listed = True
        self._added = 0
        self._deleted.clear()

    def due(self, now_s: float) -> list[Toast]:
        """What the page is to be told now."""
        if not self._added and not self._deleted:
            return []
        self._left = min(AT_ONCE_MAX, self._left + (now_s - self._seen_s) / EVERY_S)
        self._seen_s = now_s
        said = []
        if self._deleted and (self._left >= 1 or len(self._deleted) >= DELETED_MAX):
            said.append(_deleted(self._deleted))
            self._deleted = []
            self._left -= 1
        if self._added and self._left >= 1 and (self._is_listed or now_s - self._told_s >= EVERY_S):
            said.append(_added(self._added, *self._last))
            self._added = 0
            self._left -= 1
            self._told_s = now_s
            self._is_listed = False
        return said


def _added(count: int, email_id: int, email: str) -> Toast:
    message = classic_zh.ADDED.format(email) if count == 1 else classic_zh.SOME_ADDED.format(count)
    return {"type": "email_added", "message": message, "email_id": email_id}


def _deleted(ids: list[int]) -> Toast:
    return {"type": "emails_deleted", "email_ids": ids, "message": classic_zh.SOME_DELETED.format(len(ids))}


WITHIN_S: Final = 3.0
KEPT_MAX: Final = 256
BYTES_MAX: Final = 1 << 20
"""Answers that are kept: that of a long import names each line that failed."""


class _Sent:
    __slots__ = ("again", "answers", "at_s", "size_bytes")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.answers: Sequence[Mapping[str, Any]] | None = None
        self.again = 0
        self.size_bytes = 0


class Repeats:
    """The commands of the last seconds on one connection, with their answers; the newest ones are kept."""

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, _Sent] = OrderedDict()
        self.size_bytes = 0
        """Of the answers."""

    def __len__(self) -> int:
        return len(self._sent)

    def seen(self, key: bytes, now_s: float) -> Sequence[Mapping[str, Any]] | None:
        """The answers if this command was sent just before; empty while it has none. None: it is new."""
        while self._sent and next(iter(self._sent.values())).at_s < now_s - WITHIN_S:
            self._forget_oldest()
        known = self._sent.get(key)
        if known is None:
            self._sent[key] = _Sent(now_s)
            if len(self._sent) > KEPT_MAX:
                self._forget_oldest()
            return None
        if known.answers is None:
            known.again += 1
            return ()
        return known.answers

    def answered(self, key: bytes, answers: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """What to tell now that the command has its answer: once for each time it was sent."""
        known = self._sent.get(key)
        if known is None or known.answers is not None:
            return answers
        known.answers = tuple(answers)
        known.size_bytes = len(msgspec.json.encode(answers))
        self.size_bytes += known.size_bytes
        while self.size_bytes > BYTES_MAX:
            self._forget_oldest()
        return [*answers] * (1 + known.again)

    def _forget_oldest(self) -> None:
        _, sent = self._sent.popitem(last=False)
        self.size_bytes -= sent.size_bytes


def key_of(message: Mapping[str, Any]) -> bytes:
    """The same for messages of the same content. It holds nothing of a password."""
    return blake2b(msgspec.json.encode(message, order="sorted"), digest_size=16).digest()


USERS_MAX: Final = 1_000
MAILBOXES_MAX: Final = 1_000


class Running:
    """By user: the last progress told of each mailbox, until 100 was told. The newest are kept."""

    def __init__(self) -> None:
        self._of_user: OrderedDict[object, OrderedDict[int, int]] = OrderedDict()

    def told(self, user: object, email_id: int, progress: int) -> None:
        """A front end of the user is told this."""
        known = self._of_user.setdefault(user, OrderedDict())
        self._of_user.move_to_end(user)
        known.pop(email_id, None)
        if progress < PROGRESS_MAX:
            known[email_id] = progress
        if len(known) > MAILBOXES_MAX:
            known.popitem(last=False)
        if not known:
            del self._of_user[user]
        elif len(self._of_user) > USERS_MAX:
            self._of_user.popitem(last=False)

    def progress(self, user: object, email_id: int) -> int | None:
        """What was told last of a check that runs, None if none runs."""
        known = self._of_user.get(user)
        return None if known is None else known.get(email_id)

    def of(self, user: object) -> list[int]:
        """The mailboxes whose checks run as far as front ends know."""
        return list(self._of_user.get(user, ()))


_SIGNED_OUT: Final = frozenset({4003, 4500, 4503, 4507})
"""Closes after which the same token cannot be used: that front end must not come back with it."""
_ENDS: Final = 1000
_PASSING: Final = frozenset({1001, 1012, 1013})
_TRY_AGAIN: Final = 1013
_PUSH_S: Final = 0.9
"""That front end reads a mailbox anew one second after it heard of it. Sooner, once is enough."""
_FAILED: Final = frozenset({"error", "need_reauth"})
_UNSEEN: Final = frozenset({"firemail_emails", "firemail_mails"})
"""Queries whose answers go to the client unchanged, so nothing waits for them here."""


class _Asked:
    """A message that was passed on and has no reply yet."""

    __slots__ = ("action", "fields", "key")

    def __init__(self, action: str, fields: Mapping[str, Any], key: bytes | None) -> None:
        self.action = action
        self.fields = fields
        self.key = key


class FireMail:
    """See the module. Implements `tongues.Interpreter`. `running` is shared by a user's connections."""

    unchanged = (b'{"type":"emails_list"', b'{"type":"mail_records"')
    """Answers of `queries`, which are in its form already, and may be large."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._user: object = None
        self._signed_in = False
        self._listed = False
        self._numbered = 0
        self._asked: dict[str, _Asked] = {}
        self._repeats = Repeats()
        self._elsewhere = Elsewhere()
        self._own: set[int] = set()
        """Mailboxes that this connection added or deleted, until their event has come."""
        self._importing = 0
        self._imported = 0
        """Events of mailboxes that its imports added, and that have not come yet. They may come before the
        reply: then this is negative until it comes."""
        self._kept_back: tuple[int, str] = (0, "")
        """The last mailbox that was taken for one of its imports."""
        self._pushed_s: dict[int, float] = {}
        self._told_why = False

    # What it says -----------------------------------------------------------------------------------------

    def hear(self, message: object, now_s: float) -> Understood:
        """See `tongues.Interpreter`."""
        if not isinstance(message, dict):
            return _said(classic_zh.NO_FORM)
        match message.get("type"):
            case "authenticate":
                return Understood([{"action": "authenticate", "token": message.get("token")}])
            case "heartbeat":
                return Understood([{"action": "heartbeat"}], self._elsewhere.due(now_s))
        if not self._signed_in:
            return _said(classic_zh.NOT_SIGNED_IN)
        asked = dialect.asked_of(message)
        if isinstance(asked, Wrong):
            return _said(asked.message)
        action = asked["action"]
        key = key_of(message) if action in COMMANDS else None
        if key is not None:
            answers = self._repeats.seen(key, now_s)
            if answers is not None:
                return Understood(said=answers)
        self._importing += action == "firemail_import"
        if action == "firemail_emails":
            self._elsewhere.listed()
        shown: dict[str, Any] = {name: asked[name] for name in ("email", "email_id") if name in asked}
        passed = [self._pass(asked, shown, key)]
        if action == "firemail_emails" and not self._listed:
            self._listed = True
            left = self._running.of(self._user)
            passed.append(self._pass({"action": "firemail_progress", "email_ids": left}, {}, None))
        return Understood(passed)

    def _pass(self, asked: dict[str, Any], fields: Mapping[str, Any], key: bytes | None) -> Message:
        self._numbered += 1
        number = f"f{self._numbered}"
        if asked["action"] not in _UNSEEN:
            self._asked[number] = _Asked(asked["action"], fields, key)
        return {**asked, "id": number}

    # What it is told --------------------------------------------------------------------------------------

    def say(self, message: Message, now_s: float) -> Sequence[Message]:
        """See `tongues.Interpreter`."""
        asked = self._asked.pop(str(message.get("id")), None)
        if asked is not None:
            return [*self._replied(asked, message), *self._elsewhere.due(now_s)]
        if "stream" in message and "seq" in message:
            return self._event(message, now_s)
        match message["type"]:
            case "authentication_result":
                return self._signed(message)
            case "heartbeat_response":
                return [message]
            case "error":
                if message.get("code") == "unauthenticated":
                    return [_error(classic_zh.NOT_SIGNED_IN)]
                return dialect.replied("", {}, message)
            case "goaway" if message.get("code") in _SIGNED_OUT and not self._told_why:
                return [_error(classic_zh.SIGN_IN_AGAIN)]
            case _:
                return []  # `live`, `lag`, `heartbeat`, …: it knows nothing like them

    def close_code(self, code: int) -> int:
        """See `tongues.Interpreter`: 1000 only where it must stay away. After the others it comes back."""
        if code in _SIGNED_OUT:
            return _ENDS
        return code if code in _PASSING else _TRY_AGAIN

    def too_large(self, bytes_max: int) -> Sequence[Message]:
        """See `tongues.SaysTooLarge`. Only an import can be."""
        return dialect.not_imported(classic_zh.TOO_LARGE.format(bytes_max >> 10))

    def _signed(self, message: Message) -> Sequence[Message]:
        if not message["success"]:
            self._told_why = True
            return [_error(classic_zh.SIGN_IN_AGAIN)]
        self._signed_in = True
        self._user = message["user"]["user_id"]
        return [{"type": "auth_result", "success": True, "message": message["message"]}]

    def _replied(self, asked: _Asked, reply: Message) -> Sequence[Message]:
        bare = {name: value for name, value in reply.items() if name not in ("id", "at", "duplicate")}
        if asked.action == "firemail_progress":
            return self._caught_up(bare)
        self._importing -= asked.action == "firemail_import"
        answers = dialect.replied(asked.action, asked.fields, bare)
        if bare["type"] != "error":
            self._expect(asked.action, bare)
        if self._imported < 0 and not self._importing:  # more came than were imported: others added them
            if not bare.get("success"):  # else the page asks for its list now, which has them
                self._elsewhere.added(*self._kept_back, -self._imported)
            self._imported = 0
        return answers if asked.key is None else self._repeats.answered(asked.key, answers)

    def _expect(self, action: str, reply: Message) -> None:
        match action:
            case "add_email":
                self._own.add(reply["email_id"])
            case "delete_emails":
                self._own.update(reply["email_ids"])
            case "firemail_import":
                self._imported += reply["success"]
            case _:
                pass

    def _caught_up(self, reply: Message) -> Sequence[Message]:
        told = reply.get("data", ())
        for one in told:
            self._running.told(self._user, one["email_id"], one["progress"])
        return list(told)

    # Events -----------------------------------------------------------------------------------------------

    def _event(self, event: Message, now_s: float) -> Sequence[Message]:
        email_id = event.get("email_id")
        if not isinstance(email_id, int):
            return []
        return [*self._of_mailbox(email_id, event, now_s), *self._elsewhere.due(now_s)]

    def _of_mailbox(self, email_id: int, event: Message, now_s: float) -> Sequence[Message]:
        match event["type"]:
            case "check_progress":
                return self._progress(email_id, event["progress"], event)
            case "email_status_update":
                return self._status(email_id, event)
            case "mail_received":
                return self._received(email_id, event, now_s)
            case "email_added":
                self._added(email_id, event)
                return []
            case "email_deleted":
                if email_id not in self._own:
                    self._elsewhere.deleted(email_id)
                self._own.discard(email_id)
                return []
            case _:
                return []

    def _progress(self, email_id: int, progress: int, event: Message) -> Sequence[Message]:
        """Progress of a running check, which never goes back. 100 is told with the status that ends it."""
        least = self._running.progress(self._user, email_id)
        told = min(max(progress, least or 0), PROGRESS_RUNNING_MAX)
        self._running.told(self._user, email_id, told)
        return [_progressed(email_id, told, event)]

    def _status(self, email_id: int, event: Message) -> Sequence[Message]:
        status = event["status"]
        if status in STATUSES_BUSY:
            return self._progress(email_id, 0, event)
        self._running.told(self._user, email_id, PROGRESS_MAX)
        ended = _progressed(email_id, PROGRESS_MAX, event)
        if status not in _FAILED:
            return [ended]
        advice = event.get("advice")
        return [ended, _error(f"{event['message']}（{advice}）" if advice else event["message"])]

    def _received(self, email_id: int, event: Message, now_s: float) -> Sequence[Message]:
        """A mail outside of a check: a progress of 100 is what lets that front end read the mailbox anew."""
        if self._running.progress(self._user, email_id) is not None:
            return []
        last_s = self._pushed_s.get(email_id)
        if last_s is not None and now_s - last_s < _PUSH_S:
            return []
        self._pushed_s = {one: at for one, at in self._pushed_s.items() if now_s - at < _PUSH_S}
        self._pushed_s[email_id] = now_s
        return [{**_progressed(email_id, PROGRESS_MAX, event), "message": classic_zh.NEW_MAIL}]

    def _added(self, email_id: int, event: Message) -> None:
        if email_id in self._own:
            self._own.discard(email_id)
        elif self._importing or self._imported:
            self._imported -= 1
            self._kept_back = (email_id, event["email"])
        else:
            self._elsewhere.added(email_id, event["email"])


def _progressed(email_id: int, progress: int, event: Message) -> Message:
    told = {"type": "check_progress", "email_id": email_id, "progress": progress}
    return {**told, "message": event.get("message", ""), "timestamp": event["timestamp"]}


def _error(text: str) -> Message:
    return {"type": "error", "message": text}


def _said(text: str) -> Understood:
    return Understood(said=[_error(text)])


class FireMailTongue:
    """Knows that front end by its first message, whose discriminator is `type`. Implements `Tongue`."""

    def __init__(self) -> None:
        self._running = Running()

    def interpreter(self, first: Message) -> FireMail | None:
        """See `tongues.Tongue`."""
        if "action" in first or not isinstance(first.get("type"), str):
            return None
        return FireMail(self._running)
