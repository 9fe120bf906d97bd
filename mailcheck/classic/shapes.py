"""Rows and mails as the front end of FireMail reads them. Pure.

A secret is never shown: where there is one, or may be one, stands `MASK`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.events import PROGRESS_MAX, STATUSES_BUSY
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import MailRecord

MASK: Final = "******"
_OAUTH: Final = "outlook"
_NOT_LOADED: Final = classic_zh.NOT_LOADED
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
        "content": _NOT_LOADED if content is None else content,
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


def found_in(
    record: MailRecord, address: str, content: Content, wanted: str, where: Mapping[str, bool]
) -> bool:
    """Whether a mail has `wanted` (in lower case) in one of these places."""
    return (
        (where.get("subject", False) and wanted in record.subject.lower())
        or (where.get("sender", False) and wanted in record.sender.lower())
        or (where.get("recipient", False) and wanted in address.lower())
        or (where.get("content", False) and wanted in f"{content.text}\n{content.html}".lower())
    )
