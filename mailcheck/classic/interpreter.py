"""One connection of FireMail's front end, between its dialect and our protocol. Pure.

Its rules (what that front end does with a close code, a message that comes twice, a progress of 100) are
the tests of `tests/unit/mailcheck/test_classic_interpreter.py`. It repeats what it sent before it was
authenticated, and sends no ids: two messages of one type and content within three seconds are one command
(`Repeats`). It keeps a row "being checked" until it hears 100, also over a lost connection: its next
connection is told how each of these checks stands (`Running`). It answers each `email_added` by a toast of
five seconds and a request for the whole list: a few are told at once, those of a flood together, one
message every two seconds, and what is left with the answer of its next heartbeat (`Elsewhere`).

What FireMail's front end says and is told: messages, rows, mails and texts in its form. Pure.

A secret is never shown: where there is one, or may be one, stands `MASK`.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.actions import Message, Understood
from huahuo.mailcheck import zh
from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.events import PROGRESS_MAX, STATUSES_BUSY
from huahuo.mailcheck.records import MailRecord, Row

_TYPE: Final = re.compile(r"[A-Za-z_]{1,40}")
_ADDED: Final = ("email", "password", "mail_type", "client_id", "refresh_token", "server", "port", "use_ssl")
COMMANDS: Final = frozenset({"add_email", "delete_emails", "check_emails", "firemail_import"})
"""What takes effect, and so must take effect once."""


class Wrong(msgspec.Struct, frozen=True):
    """A message that is not passed on: what its client is told."""

    message: str


def asked_of(message: Mapping[str, Any]) -> dict[str, Any] | Wrong:
    """The message of our protocol for one of that front end, without an id."""
    match message.get("type"):
        case "get_all_emails":
            return {"action": "firemail_emails"}
        case "get_mail_records":
            return {"action": "firemail_mails", "email_id": message.get("email_id")}
        case "add_email":
            return added(message)
        case "delete_emails" | "check_emails" as action:
            ids = message.get("email_ids")
            return {"action": action, "email_ids": ids} if isinstance(ids, list) and ids else Wrong(zh.NO_IDS)
        case "import_emails":
            data = message.get("data")
            if not isinstance(data, str) or not data.strip():
                return Wrong(classic_zh.NO_DATA)
            return {"action": "firemail_import", "data": data, "mail_type": mail_type_of(message)}
        case str() as kind if _TYPE.fullmatch(kind):
            return Wrong(classic_zh.UNKNOWN_KIND.format(kind))
        case _:
            return Wrong(classic_zh.NO_FORM)


def added(message: Mapping[str, Any]) -> dict[str, Any] | Wrong:
    """The command that adds a mailbox. Members that are empty there are left out."""
    if not message.get("email") or not message.get("password"):
        return Wrong(zh.BOTH_NEEDED)
    given = {name: message[name] for name in _ADDED if message.get(name) not in (None, "")}
    mail_type = given.setdefault("mail_type", "imap")
    if mail_type == "outlook" and not ("client_id" in given and "refresh_token" in given):
        return Wrong(zh.OUTLOOK_GRANT)
    return {"action": "add_email", **given}


def mail_type_of(message: Mapping[str, Any]) -> str:
    """The kind of the mailboxes of an import: one view of that front end spells the member otherwise."""
    said = message.get("mail_type") or message.get("mailType") or "outlook"
    return str(said)


MASK: Final = "******"
_OAUTH: Final = "outlook"
PROGRESS_RUNNING_MAX: Final = PROGRESS_MAX - 1
"""100 tells that front end that a check has ended, so nothing else may say it."""


def row_of(row: Row) -> dict[str, Any]:
    """A mailbox. It has further members, which that front end ignores."""
    secret = MASK if row.mail_type == _OAUTH else ""
    return {
        "id": row.id,
        "user_id": row.user_id,
        "email": row.email,
        "password": MASK,
        "mail_type": row.mail_type,
        "server": row.server,
        "port": row.port,
        "use_ssl": int(row.use_ssl),
        "client_id": secret,
        "refresh_token": secret,
        "access_token": None,
        "last_check_time": row.last_check_time,
        "enable_realtime_check": int(getattr(row, "watched", False)),
        "created_at": row.created_at,
        "updated_at": row.created_at,
        "auth_status": "need_reauth" if row.status == "need_reauth" else "ok",
        "auth_error": row.message if row.status == "need_reauth" else "",
        "status": row.status,
        "message": row.message,
        "mail_count": row.mail_count,
    }


def mail_of(record: MailRecord, content: str | None) -> dict[str, Any]:
    """A mail. `content` None: it was left out because the answer would become too large."""
    return {
        "id": record.mail_id,
        "mail_id": record.mail_id,
        "email_id": record.email_id,
        "subject": record.subject,
        "sender": record.sender,
        "received_time": record.received_time,
        "content": classic_zh.NOT_LOADED if content is None else content,
        "folder": record.folder,
        "has_attachments": int(record.has_attachments),
        "created_at": record.received_time,
    }


class Content(msgspec.Struct):
    """What is stored of a mail's content."""

    text: str = ""
    html: str = ""
    attachments: list[dict[str, Any]] = []

    def shown(self) -> str:
        """The content as that front end shows it: it recognises HTML by itself."""
        return self.html or self.text


def content_of(stored: bytes | None) -> Content:
    """The stored content; empty where nothing is stored yet."""
    return Content() if stored is None else msgspec.json.decode(stored, type=Content)


def found_mail_of(record: MailRecord, content: Content, address: str, *, shown: bool) -> dict[str, Any]:
    """A mail of a search. That front end shows the attachments of these if the answer lists them."""
    return {
        **mail_of(record, content.shown() if shown else None),
        "attachments": attachments_of(record.mail_id, content, record.received_time),
        "email_address": address,
        "recipient": address,
    }


def attachments_of(mail_id: int, content: Content, created_at: str) -> list[dict[str, Any]]:
    """The attachments of a mail. Their ids name the mail and their place in it."""
    return [
        {
            "id": f"{mail_id}-{number}",
            "mail_id": mail_id,
            "filename": one.get("name") or f"attachment-{number}",
            "content_type": one.get("type", "application/octet-stream"),
            "size": one.get("size", 0),
            "created_at": created_at,
        }
        for number, one in enumerate(content.attachments)
    ]


def progress_of(row: Row) -> dict[str, Any]:
    """How far the check of a mailbox is, or that none runs."""
    runs = row.status in STATUSES_BUSY
    done = min(row.progress, PROGRESS_RUNNING_MAX) if runs else PROGRESS_MAX
    return {"type": "check_progress", "email_id": row.id, "progress": done, "message": row.message}


def replied(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages for the reply to a command."""
    if reply["type"] == "error":
        error = _refused(action, asked, reply)
        return not_imported(error["message"]) if action == "firemail_import" else [error]
    match action:
        case "add_email":
            said = {"type": "email_added", "message": classic_zh.ADDED.format(asked["email"])}
            return [said | {"email_id": reply["email_id"]}]
        case "delete_emails":
            return [{"type": "emails_deleted", "email_ids": reply["email_ids"], "message": reply["message"]}]
        case "check_emails":
            return _checks(reply)
        case "firemail_import":
            return _imported(reply)
        case _:
            return [dict(reply)]


def import_result(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an import. No line is repeated: it may hold a password."""
    failed = [{**one, "email": "", "content": ""} for one in reply["failed_details"]]
    counts = {name: reply[name] for name in ("total", "success", "failed")}
    return {**counts, "failed_details": failed}


def not_imported(reason: str) -> list[dict[str, Any]]:
    """The messages for an import of which nothing was read. The second ends it in that front end."""
    failed = [{"line": 1, "reason": reason, "email": "", "content": ""}]
    result = {"type": "import_result", "total": 1, "success": 0, "failed": 1, "failed_details": failed}
    return [{"type": "error", "message": reason}, result]


def _imported(reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    done = reply["success"]
    result = {"type": "import_result", **import_result(reply)}
    if not done:
        return [{"type": "warning", "message": classic_zh.NONE_IMPORTED}, result]
    said = classic_zh.IMPORTED.format(done)
    return [{"type": "success", "message": said}, {"type": "emails_imported", "message": said}, result]


def _checks(reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    accepted, skipped = reply.get("accepted", ()), reply.get("skipped", ())
    if not accepted:
        return [{"type": "warning", "message": zh.ALL_BUSY}]
    info = [{"type": "info", "message": classic_zh.SKIPPED.format(len(skipped))}] if skipped else []
    return [*info, {"type": "success", "message": zh.CHECKING.format(len(accepted))}]


def _refused(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> dict[str, Any]:
    text = str(reply.get("message", ""))
    if action == "add_email" and reply.get("code") == "already_exists":
        text = zh.MAY_EXIST.format(asked["email"])
    elif reply.get("details") and "invalid_field" in str(reply.get("code")):
        text = f"{text}（{reply['details']}）"
    return {"type": "error", "message": text}


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
        asked = asked_of(message)
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
                return replied("", {}, message)
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
        return not_imported(classic_zh.TOO_LARGE.format(bytes_max >> 10))

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
        answers = replied(asked.action, asked.fields, bare)
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
