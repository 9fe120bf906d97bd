"""A mail as the index takes it. Pure. What is dropped must be what was put, so both come from here.

Neither passwords nor tokens are near it: an entry is made of what a mail says.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Final

import msgspec
import structlog

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.fulltext.asking import marks_of
from huahuo.eventstore.fulltext.model import Entry
from huahuo.mailcheck.mime.shown import shown_text
from huahuo.mailcheck.tables.records import MailRecord

FIELDS: Final = ("subject", "sender", "recipients")
"""Fields of a mail that can be asked for alone. The text is the fourth."""
MARKS: Final[Mapping[str, str]] = {
    **marks_of(FIELDS),
    "from": marks_of(FIELDS)["sender"],
    "to": marks_of(FIELDS)["recipients"],
}
WITH_CODE: Final = "c"
WITH_ATTACHMENTS: Final = "a"
WITHOUT_CONTENT: Final = 0
"""The variant of a mail whose text was not there when it was put."""
_VARIANT_DIGITS: Final = 12
_DIGEST_BYTES: Final = 12


_log = structlog.get_logger(__name__)


class _Content(msgspec.Struct):
    text: str = ""
    html: str = ""
    to: str = ""
    cc: str = ""


_decode: Final = msgspec.json.Decoder(_Content).decode


def owner_key(user_id: UserId) -> str:
    """The key of a user's mails. Letters and digits only, whatever the user's id is."""
    if isinstance(user_id, int):
        return f"u{user_id}" if user_id >= 0 else f"un{-user_id}"
    return f"t{blake2b(user_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"


def mailbox_key(email_id: int) -> str:
    """The key of a mailbox's mails."""
    return f"m{email_id}"


def variant_of(record: MailRecord) -> int:
    """The variant of a mail with the content that its record names: another content, another variant."""
    if not record.blob:
        return WITHOUT_CONTENT
    return 1 + int(record.blob[:_VARIANT_DIGITS], 16)


def entry_of(record: MailRecord, user_id: UserId, content: bytes | None) -> Entry:
    """A mail with its record and content. None: the content is not there (yet, or any more)."""
    found = _Content() if content is None else _decode(content)
    keys = [owner_key(user_id), mailbox_key(record.email_id)]
    if record.code:
        keys.append(WITH_CODE)
    if record.has_attachments:
        keys.append(WITH_ATTACHMENTS)
    return Entry(
        item=record.mail_id,
        part=record.email_id,
        at_ms=ms_of(record.received_time),
        keys=tuple(keys),
        texts={
            "subject": record.subject,
            "sender": record.sender,
            "recipients": f"{found.to} {found.cc}",
            "text": found.text if found.text.strip() else _text_of(found.html, record.mail_id),
        },
        variant=WITHOUT_CONTENT if content is None else variant_of(record),
    )


def _text_of(markup: str, mail_id: int) -> str:
    """The text of HTML, "" if it cannot be read: the mail is found by its subject.

    The same HTML gives the same each time, so a mail is dropped as it was put.
    """
    try:
        return shown_text(markup)
    except MemoryError:  # it says nothing about the mail
        raise
    except Exception:  # noqa: BLE001  the markup is anybody's: one mail must not stop the index
        _log.exception("mail_text_unreadable", mail_id=mail_id)
        return ""


def ms_of(time: str) -> int:
    """Milliseconds since 1970 of a time as events have it. Raises ValueError: it is none."""
    moment = datetime.fromisoformat(time)
    return round(moment.timestamp() * 1000)
