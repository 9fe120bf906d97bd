"""What a command or query of the domain answers: JSON objects of PROTOCOL 6, and refusals. Pure."""

import msgspec


class MailReply(msgspec.Struct, frozen=True):
    """The answer to a command or query.

    `body` is the JSON object with its `type`, without `id` and `at`. `recorded`: it is kept in the
    log under the command's key; `duplicate`: it is the first answer of a repeated command.
    """

    body: bytes
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """Why a command was not carried out, with a code of PROTOCOL 6."""

    code: str
    message: str
    details: str = ""


class LineFailure(msgspec.Struct, frozen=True, gc=False):
    """An import line that was not taken, by its number; the line itself is never repeated."""

    line: int
    reason: str


class _Error(msgspec.Struct, tag="error", tag_field="type", omit_defaults=True):
    code: str
    message: str
    details: str = ""


class Outcome(msgspec.Struct, tag="success", tag_field="type", omit_defaults=True):
    """A command was carried out; the lists say for which mailboxes."""

    message: str
    email_id: int | None = None
    email_ids: list[int] | None = None
    accepted: list[int] | None = None
    skipped: list[int] | None = None
    cancelled: list[int] | None = None


class Warned(Outcome, tag="warning", tag_field="type", omit_defaults=True):
    """A command had nothing to do."""


class ImportResult(msgspec.Struct, tag="import_result", tag_field="type"):
    """How an import went, line by line for those that failed."""

    total: int
    success: int
    failed: int
    failed_details: list[LineFailure]


type Reply = Outcome | Warned | ImportResult | Refusal


def encode(reply: Reply) -> bytes:
    """The reply's JSON object, with its `type`."""
    if isinstance(reply, Refusal):
        return msgspec.json.encode(_Error(reply.code, reply.message, reply.details))
    return msgspec.json.encode(reply)
