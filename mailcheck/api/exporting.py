"""`export_emails`: mailboxes as import lines or CSV, page by page, each page recorded in the audit.

Secrets are left out unless they are asked for, and then only the owner or an administrator gets them, soon
after a sign-in: a stolen session is not enough to take all passwords.
"""

import asyncio
import csv
import io
from collections.abc import Sequence
from itertools import batched
from typing import Final

import msgspec

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.principal import Principal, UserId, user_id_of
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.params import ExportParams
from huahuo.mailcheck.replies import Exported
from huahuo.mailcheck.roster.importer import SEPARATOR
from huahuo.mailcheck.roster.rules import SIGN_IN_SECRETS
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.streams import mailbox_stream
from huahuo.mailcheck.words import en, zh

ROSTER: Final = "roster"
FRESH_MS: Final = 10 * 60_000
"""A sign-in is fresh for as long."""
_PUBLIC: Final = (
    *("mail_type", "server", "port", "use_ssl", "status", "message", "last_check_time", "mail_count"),
    *("created_at", "group", "tags", "note"),
)
_SECRETS: Final = (*SIGN_IN_SECRETS, "login")
_AUDIT: Final = "audit"
_EXPORTED: Final = "mailboxes_exported"
_ROWS_A_STEP: Final = 4_096
_SECRETS_AT_ONCE: Final = 32
"""Mailboxes whose secrets are read at a time: to begin a thousand tasks is one step of 30 ms of the loop."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Exporting:
    """Answers `export_emails`."""

    def __init__(self, log: Log, directory: Directory, ambient: Ambient) -> None:
        self._log = log
        self._directory = directory
        self._ambient = ambient

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
        return Reply(msgspec.json.encode(Exported(text, len(rows), following)))

    def _refusal(self, who: Principal, owner: UserId, *, secrets: bool) -> Refusal | None:
        if owner != who.user_id and not who.is_admin:
            return Refusal("forbidden", zh.EXPORT_ADMINS, "owner")
        if secrets and (not who.signed_in_ms or who.signed_in_ms + FRESH_MS < self._ambient.now_ms()):
            return Refusal(
                "forbidden",
                zh.EXPORT_SIGN_IN,
                en.SIGN_IN_AGAIN.format(FRESH_MS // 60_000),
            )
        return None

    async def _rows(self, owner: UserId, params: ExportParams) -> tuple[list[Row], int | None]:
        """A page of the wanted rows by id, and the id behind which the next one begins."""

        def cut(_seq: int, state: Roster) -> tuple[Row, ...]:
            return state.cut()

        every: tuple[Row, ...] = await self._directory.ask(ROSTER, owner, Query(cut))
        admits = None if params.filter is None else params.filter.admits()
        named = None if params.email_ids is None else frozenset(params.email_ids)
        after = -1 if params.before is None else params.before
        found: list[Row] = []
        for number, row in enumerate(every):
            if not number % _ROWS_A_STEP:
                await asyncio.sleep(0)
            if row.id <= after or (named is not None and row.id not in named):
                continue
            if admits is not None and not admits(row):
                continue
            if len(found) == params.limit:
                return found, found[-1].id
            found.append(row)
        return found, None

    async def _secrets(self, email_id: int) -> tuple[str, ...]:
        found = await self._log.secrets(mailbox_stream(email_id), _SECRETS)
        return tuple("" if one is None else one.reveal() for one in found)

    async def _record(self, who: Principal, owner: UserId, rows: Sequence[Row], *, secrets: bool) -> None:
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


def _lines(rows: Sequence[Row], sealed: Sequence[tuple[str, ...]]) -> str:
    """As import lines; what follows the last field that a mailbox has is left out."""
    out = []
    for row, secrets in zip(rows, sealed, strict=True):
        fields = [row.email, *secrets[: len(SIGN_IN_SECRETS)]]
        while not fields[-1]:
            fields.pop()
        out.append(SEPARATOR.join(fields) + "\n")
    return "".join(out)


def _csv(rows: Sequence[Row], sealed: Sequence[tuple[str, ...]], secrets: bool, first: bool) -> str:
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
