"""A long import in parts, each decided and committed by itself: others then wait for one part only. Pure.

A commit of 20,000 new mailboxes holds the log's writer for a second. What the client may rely on stays: one
command id, one answer, each line done once. Each part keeps its answer under an id of its own. After a crash
a repeat of the command gets the answers of the parts that stand, does the rest, and counts each line once.
"""

from collections.abc import Sequence
from itertools import batched
from typing import Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Execute, ExecuteParts
from huahuo.mailcheck.replies import ImportResult, MailReply
from huahuo.mailcheck.roster.commands import ImportEmails
from huahuo.mailcheck.roster.importer import ImportData

LINES_A_PART: Final = 1_000
"""A commit of this many mailboxes takes some 40 ms of processor time, a decision 10 ms."""
_PART: Final = "a part of an import ".ljust(64, ".")
"""So the id of a part is longer than any that a client may send."""


def parts_of(command: ImportEmails, origin: Origin, lines_a_part: int) -> ExecuteParts[ImportEmails]:
    """The accounts of a long import in parts. Failures of the text stay behind."""
    parts = []
    for number, accounts in enumerate(batched(command.data.accounts, lines_a_part), start=1):
        data = ImportData(len(accounts), accounts, ())
        parts.append(
            Execute(ImportEmails(command.mail_type, data, command.validate), _part_of(origin, number))
        )
    return ExecuteParts(tuple(parts))


def result_of(data: ImportData, answers: Sequence[Answer[MailReply]]) -> ImportResult:
    """The answer to the whole import."""
    results = [_result(answer) for answer in answers]
    failures = [*data.failures, *(failure for result in results for failure in result.failed_details)]
    failures.sort(key=lambda failure: failure.line)
    return ImportResult(data.total, sum(result.success for result in results), len(failures), failures)


def place_of(answers: Sequence[Answer[MailReply]]) -> tuple[str, int] | None:
    """The position of the last event that the parts wrote to the user's stream, None if there is none."""
    return max((answer.at for answer in answers if answer.at is not None), default=None)


def _part_of(origin: Origin, number: int) -> Origin:
    key = origin.key
    return origin if key is None else replace(origin, key=replace(key, id=f"{_PART}/{number}/{key.id}"))


def _result(answer: Answer[MailReply]) -> ImportResult:
    """What a part was answered now, or the first time."""
    if answer.duplicate is not None:
        return msgspec.json.decode(answer.duplicate.reply, type=ImportResult)
    assert isinstance(answer.reply, ImportResult), "the import as a whole was not refused"
    return answer.reply
