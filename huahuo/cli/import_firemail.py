"""`huahuo import-firemail`: users, then their mailboxes, then the mails, each once however often it runs.

FireMail's database is only read. Its mails are read in one pass, in the order of their numbers, and
committed some at a time for each mailbox. The report has no secret and no text of a mail.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from huahuo.actors.plugins.plugin import Plugin
from huahuo.app import credentials, logs
from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.app.wiring import App
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.connections import ForeignDatabase, NotReadable
from huahuo.refusals import ChangeRefused
from huahuo.users import book

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


ALWAYS: Final = (
    "access tokens: the next check makes new ones",
    "passwords of users in clear: only their hashes were brought, and the first sign-in replaces them",
    "times of the last checks, and the switch of real-time checks",
)
"""What is left out of every database."""


class Report:
    """Counts by kind: `users`, `mailboxes`, `mails`."""

    def __init__(self) -> None:
        self.added: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.left_out: dict[str, Counter[str]] = {}
        self.attachments = 0

    def leave_out(self, kind: str, why: str) -> None:
        """One of a kind was not brought."""
        self.left_out.setdefault(kind, Counter())[why] += 1

    def lines(self) -> Iterator[str]:
        """The report."""
        for kind in ("users", "mailboxes", "mails"):
            missing = sum(self.left_out.get(kind, Counter()).values())
            counts = f"{self.added[kind]} added, {self.known[kind]} there already, {missing} left out"
            yield f"{kind}: {counts}"
        for kind, reasons in self.left_out.items():
            for why, count in reasons.most_common():
                yield f"left out: {count} of the {kind}: {why}"
        if self.attachments:
            yield f"left out: the content of {self.attachments} attachments; their names and sizes are listed"
        for one in ALWAYS:
            yield f"left out: {one}"


_WHO: Final = "huahuo import-firemail"
_MAIL: Final = "mail"
_BATCH_MAILS: Final = 100
_BATCH_CHARS: Final = 2 << 20
_BUFFERED_CHARS: Final = 32 << 20
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


async def import_database(
    settings: Settings, plugins: Sequence[Plugin], file: Path, step: Callable[[int], None]
) -> Report:
    """Bring everything that can be brought. `step` hears of the rows that are done.

    Raises:
        HuahuoError: the file is no such database, or the directory is in use or damaged.
    """
    try:
        database = FireMail(file)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    with database:
        app = App(settings, SystemAmbient(), plugins=plugins, listen=False)
        await app.start()
        try:
            return await _Import(app, database, step).run()
        except EventStoreError as error:
            raise HuahuoError(f"{error}; run it again to bring the rest") from error
        finally:
            await app.stop()


class _Import:
    def __init__(self, app: App, database: FireMail, step: Callable[[int], None]) -> None:
        self._users = app.users
        self._adopting = app.api(_MAIL).adopting
        self._database = database
        self._step = step
        self._report = Report()
        self._user_ids: dict[int, int] = {}
        self._mails: dict[int, _Mails] = {}
        """By the number that a mailbox has there."""

    async def run(self) -> Report:
        for user in self._database.users():
            await self._user(user)
            self._step(1)
        for mailbox in self._database.mailboxes():
            await self._mailbox(mailbox)
            self._step(1)
        await self._all_mails()
        return self._report

    async def _user(self, row: Row) -> None:
        name, report = str(row["username"] or ""), self._report
        known = self._users.users.named(name)
        if known is None:
            try:
                known = await self._users.add_hashed(
                    name, _stored(row), is_admin=bool(row["is_admin"]), principal=_WHO
                )
            except ChangeRefused as refused:
                report.leave_out("users", str(refused) if refused.code != "invalid_field" else _NAME)
                return
            report.added["users"] += 1
        else:
            report.known["users"] += 1
        self._user_ids[row["id"]] = known.user_id

    async def _mailbox(self, row: Row) -> None:
        report, user_id = self._report, self._user_ids.get(row["user_id"])
        if user_id is None:
            report.leave_out("mailboxes", "their user was not brought")
            return
        found = await self._adopting.mailbox(user_id, _fields(row))
        if found.why_not:
            report.leave_out("mailboxes", found.why_not)
            return
        counts = report.added if found.is_new else report.known
        counts["mailboxes"] += 1
        last = 0 if found.is_new else await self._adopting.last_mail(found.email_id)
        self._mails[row["id"]] = _Mails(self._adopting, found.email_id, last)

    async def _all_mails(self) -> None:
        report, buffered = self._report, 0
        for row in self._database.mails():
            mails = self._mails.get(row["email_id"])
            self._step(1)
            if mails is None:
                report.leave_out("mails", "their mailbox was not brought")
                continue
            report.attachments += len(row["attachments"])
            if row["id"] <= mails.last:
                report.known["mails"] += 1
                continue
            report.added["mails"] += 1
            before = mails.chars
            await mails.add(row)
            buffered += mails.chars - before
            if buffered > _BUFFERED_CHARS:
                fullest = max(self._mails.values(), key=lambda one: one.chars)
                buffered -= fullest.chars
                await fullest.flush()
        for mails in self._mails.values():
            await mails.end()


class _Mails:
    """The mails of one mailbox, on their way."""

    def __init__(self, adopting: Any, email_id: int, last: int) -> None:
        self._adopting = adopting
        self._email_id = email_id
        self.last = last
        self.chars = 0
        self._rows: list[Row] = []
        self._check_id = 0
        self._count = 0

    async def add(self, row: Row) -> None:
        self._rows.append(row)
        self.chars += len(str(row["content"] or ""))
        if len(self._rows) >= _BATCH_MAILS or self.chars >= _BATCH_CHARS:
            await self.flush()

    async def flush(self) -> None:
        if not self._rows:
            return
        if not self._check_id:
            self._check_id = await self._adopting.begin(self._email_id)
        await self._adopting.mails(self._email_id, self._check_id, self._rows)
        self._count += len(self._rows)
        self._rows, self.chars = [], 0

    async def end(self) -> None:
        await self.flush()
        if self._check_id:
            await self._adopting.end(self._email_id, self._count)


_NAME: Final = "their name cannot be one here"


def _stored(row: Row) -> str:
    """The password to store: its hash as it is there, made anew only where there is none."""
    salt, digest = str(row["salt"] or ""), str(row["password_hash"] or "")
    if salt and _HASH.fullmatch(digest):
        return book.brought_hash(salt, digest)
    return book.hashed(str(row["password"] or ""))


def _fields(row: Row) -> dict[str, Any]:
    """The mailbox as a command; other types than `imap` have servers of their own."""
    names = ("email", "password", "mail_type", "client_id", "refresh_token")
    fields = {name: row[name] for name in names}
    if row["mail_type"] == "imap":
        fields |= {"server": row["server"], "port": row["port"], "use_ssl": row["use_ssl"] not in (0, "0")}
    return fields


async def import_firemail(settings: Settings, file: Path) -> None:
    """Import, and print the report. Raises HuahuoError; ConfigError: no such database, or no mail."""
    plugins = standard()
    if all(plugin.name != "mail" for plugin in plugins):
        raise ConfigError("the application has no mail to import into: write plugins=[mail()] in it")
    logs.configure("warning", as_json=settings.log_json)
    try:
        with FireMail(file) as database:
            total = database.count()
    except EventStoreError as error:
        raise ConfigError(str(error)) from error
    credentials.ensure_keys(
        settings, SystemAmbient()
    )  # only now: a wrong name of the file makes no directory
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("importing", total=total)
        report = await import_database(settings, plugins, file, lambda rows: progress.advance(task, rows))
    for line in report.lines():
        typer.echo(line)
