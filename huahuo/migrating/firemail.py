"""FireMail's database as facts: tables and columns. It is only read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from huahuo.eventstore.sqlite.foreign import ForeignDatabase, NotReadable

type Row = Mapping[str, Any]

USERS: Final = ("id", "username", "password", "password_hash", "salt", "is_admin")
MAILBOXES: Final = (
    *("id", "user_id", "email", "password", "mail_type", "server", "port", "use_ssl"),
    *("client_id", "refresh_token"),
)
MAILS: Final = (
    "id", "email_id", "subject", "sender", "received_time", "content", "folder", "has_attachments"
)  # fmt: skip
ATTACHMENTS: Final = ("mail_id", "filename", "content_type", "size")


class FireMail:
    """The database. Raises NotReadable if it is none of FireMail's."""

    def __init__(self, file: Path) -> None:
        self._file = ForeignDatabase(file)
        if self._file.count("users") is None or self._file.count("emails") is None:
            self._file.__exit__()
            raise NotReadable(f"{file} is no database of FireMail: it has no tables `users` and `emails`")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__()

    def count(self) -> int:
        """How many users, mailboxes and mails there are together."""
        return sum(self._file.count(table) or 0 for table in ("users", "emails", "mail_records"))

    def users(self) -> Iterator[Row]:
        """Users by their number."""
        return self._file.rows("users", USERS)

    def mailboxes(self) -> Iterator[Row]:
        """Mailboxes by their number."""
        return self._file.rows("emails", MAILBOXES)

    def mails(self) -> Iterator[Row]:
        """Mails by their number, each with its attachments but for their content."""
        files: dict[int, list[Row]] = {}
        for row in self._file.rows("attachments", ATTACHMENTS):
            files.setdefault(row["mail_id"], []).append(row)
        for mail in self._file.rows("mail_records", MAILS):
            yield {**mail, "attachments": files.get(mail["id"], ())}

    def attachments(self) -> int:
        """How many attachments there are."""
        return self._file.count("attachments") or 0
