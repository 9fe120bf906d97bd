"""Mailboxes in and out: long imports as one job, `export_emails`, and all that mail keeps of one user.

`begin_import` begins the job, each `import_emails` with its `job_id` moves it, `end_import` ends it. What
is counted is in memory: after a restart the service ends the job as `interrupted`, and the commands that
the client still sends are done without it. A client that falls silent has its job ended. An export is
import lines or CSV, page by page, each page recorded in the audit. Secrets are left out unless they are
asked for, and then only the owner or an administrator gets them, soon after a sign-in: a stolen session is
not enough to take all passwords.
"""

import asyncio
import contextlib
import csv
import io
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import batched
from typing import Final

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import EntityError, Origin
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import (
    Call,
    Principal,
    Refusal,
    Reply,
    UserId,
    error_reply,
    json_reply,
    user_id_of,
)
from huahuo.actors.plugins.plugin import Forgotten, JobDoor, JobOutcome, Jobs
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.port import Log
from huahuo.mailcheck import en, records, zh
from huahuo.mailcheck.api.params import BeginImportParams, EndImportParams, ExportParams
from huahuo.mailcheck.api.rosters import ROSTER, Answering
from huahuo.mailcheck.checks.mailboxes import every_row
from huahuo.mailcheck.events import mailbox_stream, user_stream
from huahuo.mailcheck.roster.decider import SIGN_IN_SECRETS, DeleteEmails, SetGroupProxy
from huahuo.mailcheck.roster.importer import SEPARATOR

JOB_NAME: Final = "import_emails"
PER_USER_MAX: Final = 4
"""Imports of one user at a time."""
SILENT_S: Final = 600.0
"""After as long without a command, the client is gone."""
_WHOLE: Final = 100

_log = structlog.get_logger(__name__)
_result: Final = msgspec.json.Decoder(records.ImportResult).decode


class Importing:
    """One import. `success` and `failed` count lines."""

    def __init__(self, job_id: int, user_id: UserId, lines: int) -> None:
        self.job_id = job_id
        self.user_id = user_id
        self.lines = lines
        self.success = 0
        self.failed = 0
        self.cancelled = False
        self.silent: asyncio.TimerHandle | None = None
        self.unwatch = _nothing

    @property
    def said(self) -> str:
        """How far it is, for people."""
        return zh.IMPORT_PROGRESS.format(self.success, self.failed, self.lines)

    @property
    def percent(self) -> float:
        """Below 100 until it has ended."""
        return min(_WHOLE - 1, (self.success + self.failed) * _WHOLE // self.lines)


class ImportJobs:
    """A long import as one job: sent in several commands, and every page of the user sees how far it is.

    All methods belong to the loop's thread.
    """

    def __init__(self, door: JobDoor) -> None:
        self._door = door
        self._open: dict[int, Importing] = {}
        self._beginning: Counter[UserId] = Counter()
        self._ends: set[asyncio.Task[None]] = set()

    def actions(self) -> list[Action]:
        """See the module."""
        return [
            Action("begin_import", BeginImportParams, self._begin),
            Action("end_import", EndImportParams, self._end, frees=True),
        ]

    def of(self, user_id: UserId, job_id: int | None) -> Importing | None:
        """The open import with this job, None if the user has none."""
        found = None if job_id is None else self._open.get(job_id)
        return found if found is not None and found.user_id == user_id else None

    async def did(self, job: Importing, body: bytes) -> None:
        """A command of this import was answered."""
        self._listen(job)
        try:
            result = _result(body)
        except msgspec.ValidationError:
            return  # it was refused, and the client knows
        job.success += result.success
        job.failed += result.failed
        if self._door.jobs is not None and job.job_id in self._open:
            with contextlib.suppress(EventStoreError, EntityError, AskTimeout):  # the lines are in
                await self._door.jobs.progress(job.job_id, job.percent, job.said)

    async def close(self) -> None:
        """Forget the imports. The next start ends their jobs."""
        for job in list(self._open.values()):
            self._forget(job)
        for task in list(self._ends):
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _begin(self, call: Call[BeginImportParams]) -> Reply:
        jobs, user_id = self._door.jobs, call.principal.user_id
        if jobs is None:
            return error_reply(Refusal("not_found", zh.NO_JOBS, en.NO_JOBS_HERE))
        count = sum(one.user_id == user_id for one in self._open.values()) + self._beginning[user_id]
        if count >= PER_USER_MAX:
            return error_reply(Refusal("busy", zh.IMPORTS_MAX.format(PER_USER_MAX), retry_s=10.0))
        self._beginning[user_id] += 1  # several may come while the first is written
        try:
            job = Importing(await jobs.begin(JOB_NAME, user_id), user_id, call.params.lines)
        finally:
            self._beginning[user_id] -= 1
            if not self._beginning[user_id]:
                del self._beginning[user_id]
        self._open[job.job_id] = job
        job.unwatch = jobs.watch(job.job_id, lambda: setattr(job, "cancelled", True))
        self._listen(job)
        return json_reply({"type": "success", "message": zh.IMPORT_BEGUN, "job_id": job.job_id})

    async def _end(self, call: Call[EndImportParams]) -> Reply:
        job = self.of(call.principal.user_id, call.params.job_id)
        if job is None or self._door.jobs is None:
            return error_reply(Refusal("not_found", zh.NO_IMPORT.format(call.params.job_id)))
        self._forget(job)
        outcome: JobOutcome = "interrupted" if call.params.stopped else "done"
        await self._door.jobs.end(job.job_id, "cancelled" if job.cancelled else outcome, job.said)
        return json_reply(
            {
                "type": "success",
                "message": job.said,
                "job_id": job.job_id,
                "success": job.success,
                "failed": job.failed,
            }
        )

    def _listen(self, job: Importing) -> None:
        """Wait for the client's next command."""
        if job.silent is not None:
            job.silent.cancel()
        if job.job_id in self._open:
            job.silent = asyncio.get_running_loop().call_later(SILENT_S, self._left, job)

    def _left(self, job: Importing) -> None:
        jobs = self._door.jobs
        self._forget(job)
        if jobs is not None:
            task = asyncio.get_running_loop().create_task(_interrupted(jobs, job))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    def _forget(self, job: Importing) -> None:
        self._open.pop(job.job_id, None)
        job.unwatch()
        if job.silent is not None:
            job.silent.cancel()


async def _interrupted(jobs: Jobs, job: Importing) -> None:
    try:
        await jobs.end(job.job_id, "interrupted", job.said)
    except (EventStoreError, EntityError, AskTimeout) as error:  # it is tried again
        _log.warning("import_not_ended", job_id=job.job_id, error=type(error).__name__)


def _nothing() -> None:
    pass


FRESH_MS: Final = 10 * 60_000
"""A sign-in is fresh for as long."""
_PUBLIC: Final = (
    *("mail_type", "server", "port", "use_ssl", "status", "message", "last_check_time", "mail_count"),
    *("created_at", "group", "tags", "note"),
)
_SECRETS: Final = (*SIGN_IN_SECRETS, "login")
_AUDIT: Final = "audit"
_EXPORTED: Final = "mailboxes_exported"
_SECRETS_AT_ONCE: Final = 32
"""Mailboxes whose secrets are read at a time: to begin a thousand tasks is one step of 30 ms of the loop."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Exporting(Answering):
    """Answers `export_emails`."""

    def actions(self) -> list[Action]:
        """See the module."""
        return [Action("export_emails", ExportParams, self._export, query=True)]

    async def _export(self, call: Call[ExportParams]) -> Reply:
        params, who = call.params, call.principal
        owner = who.user_id if params.owner is None else user_id_of(params.owner)
        if owner is None:
            return error_reply(Refusal("invalid_field", zh.FIELD.format("owner"), en.NO_ID_OF_USER))
        refusal = self._refusal(who, owner, secrets=params.secrets)
        if refusal is not None:
            return error_reply(refusal)
        rows, following = await self._rows(owner, params)
        if params.secrets:
            sealed = [
                secrets
                for some in batched(rows, _SECRETS_AT_ONCE)
                for secrets in await asyncio.gather(*(self._secrets(row.id) for row in some))
            ]
        else:
            sealed = [("",) * len(_SECRETS)] * len(rows)
        await self._record(who, owner, rows, secrets=params.secrets)
        first = params.before is None
        text = _lines(rows, sealed) if params.format == "lines" else _csv(rows, sealed, params.secrets, first)
        return Reply(msgspec.json.encode(records.Exported(text, len(rows), following)))

    def _refusal(self, who: Principal, owner: UserId, *, secrets: bool) -> Refusal | None:
        if owner != who.user_id and not who.is_admin:
            return Refusal("forbidden", zh.EXPORT_ADMINS, "owner")
        if secrets and (not who.signed_in_ms or who.signed_in_ms + FRESH_MS < self._ambient.now_ms()):
            return Refusal("forbidden", zh.EXPORT_SIGN_IN, en.SIGN_IN_AGAIN.format(FRESH_MS // 60_000))
        return None

    async def _rows(self, owner: UserId, params: ExportParams) -> tuple[list[records.Row], int | None]:
        """A page of the wanted rows by id, and the id behind which the next one begins."""
        named = None if params.email_ids is None else frozenset(params.email_ids)
        rows = await self._rosters.admitted(owner, params.filter, named)
        first = 0 if params.before is None else bisect_right(rows, params.before, key=lambda row: row.id)
        found = rows[first : first + params.limit]
        return found, found[-1].id if first + params.limit < len(rows) else None

    async def _secrets(self, email_id: int) -> tuple[str, ...]:
        found = await self._log.secrets(mailbox_stream(email_id), _SECRETS)
        return tuple("" if one is None else one.reveal() for one in found)

    async def _record(
        self, who: Principal, owner: UserId, rows: Sequence[records.Row], *, secrets: bool
    ) -> None:
        """Before the answer: what cannot be recorded is not given out."""
        now_ms = self._ambient.now_ms()
        body = {
            "type": _EXPORTED,
            "timestamp": rfc3339(now_ms),
            "owner": owner,
            "secrets": secrets,
            "email_ids": [row.id for row in rows],
        }
        event = NewEvent(_AUDIT, _EXPORTED, msgspec.json.encode(body))
        await self._log.append(Append(ts_ms=now_ms, events=(event,), principal=who.name))


def _lines(rows: Sequence[records.Row], sealed: Sequence[tuple[str, ...]]) -> str:
    """As import lines; what follows the last field that a mailbox has is left out."""
    out = []
    for row, secrets in zip(rows, sealed, strict=True):
        fields = [row.email, *secrets[: len(SIGN_IN_SECRETS)]]
        while not fields[-1]:
            fields.pop()
        out.append(SEPARATOR.join(fields) + "\n")
    return "".join(out)


def _csv(rows: Sequence[records.Row], sealed: Sequence[tuple[str, ...]], secrets: bool, first: bool) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if first:
        writer.writerow(("email", *(_SECRETS if secrets else ()), *_PUBLIC))
    for row, hidden in zip(rows, sealed, strict=True):
        public = [_cell(getattr(row, name)) for name in _PUBLIC]
        writer.writerow((row.email, *(hidden if secrets else ()), *public))
    return out.getvalue()


def _cell(value: object) -> object:
    """A value as spreadsheets show it. A text that one would compute gets an apostrophe."""
    if value is None or value is msgspec.UNSET:
        return ""
    if isinstance(value, tuple):
        value = "; ".join(str(one) for one in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


SERVICE: Final = "service"
_IDS_A_PART: Final = 200
_LOOK_S: Final = 0.05
_PAGE: Final = 200
_GROUPS_MAX: Final = 10_000
_MAILBOX: Final = "mailbox/"


class Belongings(Answering):
    """What mail keeps of one user: all of it removed, or all of it given out."""

    async def forget(self, user_id: UserId) -> Forgotten:
        """Delete all mailboxes of a user, and wait until nothing is left of their mails and of the index."""
        ids = [row.id for row in await self._rosters.rows(user_id)]
        for some in batched(ids, _IDS_A_PART):
            with self._mailboxes.pauses.hold(some):
                await self._rosters.tell(user_id, DeleteEmails(some), Origin(SERVICE))
        for _, group in await self._log.rows(records.GROUP_PROXIES, str(user_id), limit=_GROUPS_MAX):
            await self._rosters.tell(user_id, SetGroupProxy(group.decode(), None), Origin(SERVICE))
        every = await mailboxes_of(self._log, user_id)
        for email_id in every:
            while await self._log.row(records.PURGES, "", records.email_key(email_id)) is not None:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
        streams = (f"{ROSTER}/{user_id}", *(mailbox_stream(one) for one in every))
        return Forgotten({"mailboxes": len(ids)}, streams)


async def mailboxes_of(log: Log, user_id: UserId) -> list[int]:
    """Every mailbox that the user's stream tells of, also those that were deleted."""
    found: dict[int, None] = {}
    stream, after = user_stream(user_id), 0
    while page := await log.read(stream, after, events_max=_PAGE):
        after = page[-1].seq
        for event in page:
            if event.entity.startswith(_MAILBOX):
                found[int(event.entity.removeprefix(_MAILBOX))] = None
    return list(found)


async def belongings(log: Log, user_id: UserId) -> AsyncIterator[tuple[str, bytes]]:
    """The mails of a user as files: names, and JSON with the record and the content. See `Past`."""
    for email_id in await mailboxes_of(log, user_id):
        async for _, value in every_row(log, records.MAILS, str(email_id)):
            record = msgspec.json.decode(value, type=records.MailRecord)
            content = await log.blob(record.blob) if record.blob else None  # only its headers were read
            told = msgspec.to_builtins(record)
            told["content"] = None if content is None else content.decode("utf-8", "replace")
            yield f"mails/{email_id}/{record.mail_id}.json", msgspec.json.encode(told)
