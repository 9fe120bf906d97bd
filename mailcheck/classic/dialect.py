"""What FireMail's front end says and is told: messages, rows, mails and texts in its form. Pure.

A secret is never shown: where there is one, or may be one, stands `MASK`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

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


type Message = dict[str, Any]


def replied(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> list[Message]:
    """The messages for the reply to a command."""
    if reply["type"] == "error":
        error = _error(action, asked, reply)
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


def import_result(reply: Mapping[str, Any]) -> Message:
    """The result of an import. No line is repeated: it may hold a password."""
    failed = [{**one, "email": "", "content": ""} for one in reply["failed_details"]]
    counts = {name: reply[name] for name in ("total", "success", "failed")}
    return {**counts, "failed_details": failed}


def not_imported(reason: str) -> list[Message]:
    """The messages for an import of which nothing was read. The second ends it in that front end."""
    failed = [{"line": 1, "reason": reason, "email": "", "content": ""}]
    result = {"type": "import_result", "total": 1, "success": 0, "failed": 1, "failed_details": failed}
    return [{"type": "error", "message": reason}, result]


def _imported(reply: Mapping[str, Any]) -> list[Message]:
    done = reply["success"]
    result = {"type": "import_result", **import_result(reply)}
    if not done:
        return [{"type": "warning", "message": classic_zh.NONE_IMPORTED}, result]
    said = classic_zh.IMPORTED.format(done)
    return [{"type": "success", "message": said}, {"type": "emails_imported", "message": said}, result]


def _checks(reply: Mapping[str, Any]) -> list[Message]:
    accepted, skipped = reply.get("accepted", ()), reply.get("skipped", ())
    if not accepted:
        return [{"type": "warning", "message": zh.ALL_BUSY}]
    info = [{"type": "info", "message": classic_zh.SKIPPED.format(len(skipped))}] if skipped else []
    return [*info, {"type": "success", "message": zh.CHECKING.format(len(accepted))}]


def _error(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> Message:
    text = str(reply.get("message", ""))
    if action == "add_email" and reply.get("code") == "already_exists":
        text = zh.MAY_EXIST.format(asked["email"])
    elif reply.get("details") and "invalid_field" in str(reply.get("code")):
        text = f"{text}（{reply['details']}）"
    return {"type": "error", "message": text}
