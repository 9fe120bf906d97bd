"""The guide of mail: what `huahuo/timetravel/judge.py` must know of it. Loaded by its path, no package.

The module path belongs to the version under test, so the files of this folder import nothing of the
project.

The command behind recorded events: the one for which the decider would have written them.

Commands are not in the log, but most follow from their events: an append with `check_ended` and status `ok`
was a `Finish`. Unknown fields get values that make no difference: a placeholder for secrets, empty contents
of mails. Not derivable are reports of an embedding application (several commands write the same events) and
events of other parts of the system.

It works with any version of the domain: the caller passes the names of that version (`Domain`).
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec


class Derived(msgspec.Struct):
    """The command behind the first `count` events, None if it is unknown.

    `stream` is the stream of the decider, `numbers` the first number that each counter gave. `wanted`: the
    events come from a command of this domain.
    """

    count: int
    stream: str = ""
    command: Any = None
    numbers: dict[str, int] = msgspec.field(default_factory=dict)
    wanted: bool = False


GUARD = "roster_changed"
"""The event that guards a roster's decision. It says nothing of the command."""
_ROSTER = {
    "email_added",
    "email_updated",
    "email_deleted",
    "mailbox_added",
    "mailbox_updated",
    "mailbox_deleted",
    "folders_chosen",
    "secret_stored",
    "check_requested",
}


def derive(domain: Any, events: Sequence[Any]) -> Derived:
    """The command behind the first of `events`, all of which may come from one append."""
    entity = events[0].entity
    if not entity.startswith("mailbox/"):
        return Derived(1)
    bodies = [msgspec.json.decode(event.body) for event in events]
    facts = [event for event in events if event.type != GUARD]
    if any(event.type in _ROSTER for event in events) or _cancels(facts, bodies):
        found = _of_roster(domain, facts, [body for body in bodies if body["type"] != GUARD])
        found.count = len(events)
        return found
    count = next((n for n, event in enumerate(events) if event.entity != entity), len(events))
    return _of_mailbox(domain, events[:count], bodies[:count])


def _cancels(events: Sequence[Any], bodies: Sequence[Any]) -> bool:
    return (
        len(events) >= 3  # noqa: PLR2004  progress, status, end
        and events[1].type == "email_status_update"
        and bodies[1]["status"] == "cancelled"
        and events[0].principal.startswith("user/")
    )


def _of_roster(domain: Any, events: Sequence[Any], bodies: Sequence[Any]) -> Derived:
    types = [event.type for event in events]
    stream = next((event.stream for event in events if event.stream.startswith("user/")), "")
    found = Derived(len(events), stream, wanted=True)
    ids = list(dict.fromkeys(int(event.entity.partition("/")[2]) for event in events))
    if "email_added" in types:
        added = [body for body in bodies if body["type"] == "mailbox_added"]
        if len(added) != 1 or len(events) != 2:  # noqa: PLR2004  the public and the internal half
            return found  # an import, whose lines are not in the log
        body = added[0]
        found.numbers["mailbox"] = ids[0]
        found.command = domain.AddEmail(
            email=body["email"],
            mail_type=body["mail_type"],
            server=body["server"],
            port=body["port"],
            use_ssl=body["use_ssl"],
            secrets=_secrets(domain, body.get("secrets", ())),
        )
    elif any("watched" in body for body in bodies):
        on = next(body["watched"] for body in bodies if "watched" in body)
        found.command = domain.WatchEmails(tuple(ids), on)
    elif "email_updated" in types and len(types) == types.count("email_updated") and _labels(bodies[0]):
        # Which tags were there before is not in the event: the command is not known.
        pass
    elif "email_updated" in types:
        facts = {body["type"]: body for body in bodies}
        place = facts.get("mailbox_updated", {})
        names = [body["name"] for body in bodies if body["type"] == "secret_stored"]
        found.command = domain.UpdateEmail(
            email_id=ids[0],
            mail_type=place.get("mail_type"),
            server=place.get("server", ""),
            port=place.get("port"),
            use_ssl=place.get("use_ssl"),
            secrets=_secrets(domain, names),
            **_known(domain.UpdateEmail, facts["email_updated"], "folders"),
        )
    elif "email_deleted" in types:
        found.command = domain.DeleteEmails(tuple(ids))
    elif "check_requested" in types:
        found.numbers["check"] = next(b["check_id"] for b in bodies if b["type"] == "check_requested")
        found.command = domain.CheckEmails(tuple(ids))
    else:
        found.command = domain.CancelCheck(tuple(ids))
    return found


def _labels(body: Any) -> bool:
    return any(name in body for name in ("tags", "note", "group", "claim"))


def _of_mailbox(domain: Any, events: Sequence[Any], bodies: Sequence[Any]) -> Derived:
    stream, types = events[0].entity, [event.type for event in events]
    first = bodies[0]
    match types[0]:
        case "check_started" if not first.get("implicit") and types[1:3] == [
            "email_status_update",
            "check_progress",
        ]:
            return Derived(3, stream, domain.Begin(first["check_id"]), wanted=True)
        case "check_progress" if first["progress"] == 100:  # noqa: PLR2004  per cent
            return _finish(domain, stream, types, bodies, 0, None)
        case "check_progress":
            command = domain.Progress(first["check_id"], first["progress"], first["message"])
            count = 2 if types[1:2] == ["check_progressed"] else 1
            return Derived(count, stream, command, wanted=True)
        case "email_status_update" if types[1:2] == ["watch_told"]:
            message = "" if first["status"] == "ok" else first["message"]
            said = _known(domain.WatchState, first, "error_class", "advice")
            return Derived(2, stream, domain.WatchState(first["status"], message, **said), wanted=True)
        case "unread_there" if hasattr(domain, "SeeUnread"):
            command = domain.SeeUnread(first["folder"], first["uidvalidity"], first["uids"])
            return Derived(1, stream, command, wanted=True)
        case "uidvalidity_changed" | "mail_received" | "cursor_moved":
            return _found(domain, stream, types, bodies)
        case _:
            return Derived(len(events), wanted=True)


def _finish(
    domain: Any, stream: str, types: Sequence[str], bodies: Sequence[Any], skip: int, cursor: Any
) -> Derived:
    if types[skip : skip + 3] != ["check_progress", "email_status_update", "check_ended"]:
        return Derived(len(types), wanted=True)
    status, check_id = bodies[skip + 2]["status"], bodies[skip + 2]["check_id"]
    # The decider chooses the message of an `ok`. The message of a failure was part of the command.
    message = "" if status == "ok" else bodies[skip]["message"]
    said = _known(domain.Finish, bodies[skip + 1], "error_class", "advice")
    command = domain.Finish(check_id, status, message, cursor, **said)
    return Derived(skip + 3, stream, command, wanted=True)


def _found(domain: Any, stream: str, types: Sequence[str], bodies: Sequence[Any]) -> Derived:
    if "cursor_moved" not in types:
        return Derived(len(types), wanted=True)
    end = types.index("cursor_moved")
    moved = bodies[end]
    linked = _known(domain.UidCursor, moved, "link", "rest")
    cursor = domain.UidCursor(moved["folder"], moved["uidvalidity"], moved["uid"], **linked)
    rest = bodies[end + 1 :]
    if not moved.get("mails") and rest and rest[0].get("progress") == 100:  # noqa: PLR2004  per cent
        return _finish(domain, stream, types, bodies, end + 1, cursor)
    said = {body["mail_id"]: body for body in bodies[:end] if body["type"] == "mail_received"}
    batch = tuple(_mail(domain, said[mail["mail_id"]], mail, cursor) for mail in moved.get("mails", ()))
    if moved.get("same"):
        return Derived(end + 1, wanted=True)  # what was known is in a table, and not in the log
    check_id = moved["check_id"]
    command = domain.MailsFound(check_id, batch, cursor) if check_id else domain.MailsSeen(batch, cursor)
    numbers = {"mail": moved["mails"][0]["mail_id"]} if batch else {}
    return Derived(end + 1, stream, command, numbers, wanted=True)


def _known(made: Any, body: Any, *names: str) -> dict[str, Any]:
    """Those fields that the body has, and that this version of the class knows."""
    return {name: body[name] for name in names if name in body and name in made.__struct_fields__}


def _mail(domain: Any, said: Any, kept: Any, cursor: Any) -> Any:
    received_ms = round(datetime.fromisoformat(said["received_time"]).timestamp() * 1000)
    return domain.FetchedMail(
        folder=said["folder"],
        uidvalidity=cursor.uidvalidity,
        uid=kept["uid"],
        subject=said["subject"],
        sender=said["sender"],
        message_id="",
        date_ms=received_ms,
        internal_date_ms=None,
        has_attachments=said["has_attachments"],
        size=kept["size"],
        truncated=False,
        content=b"",
        **_known(domain.FetchedMail, said, "code", "code_confidence"),
    )


def _secrets(domain: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: domain.Secret("sealed") for name in names}


PACKAGE = "mailcheck"
"""The folder whose lines of code are named in reports."""
PLUMBING = {
    "say",
    "fact",
    "_say",
    "_fact",
    "public",
    "internal",
    "_event",
    "_status",
    "_note",
    "_say_progress",
    "say_progress",
    "end",
    "status",
}
"""Functions that only pass a body on, so the line of their caller is reported."""
STORING = {"put", "remove", "changed"}
"""Methods of a state that only store what their caller made, so the caller's line is reported."""


_LINK = "huahuo/mailcheck"
"""In a repository this is a link to the domain's folder. In a wheel it is the folder itself."""
_HOMES = {
    "Context": "actors.entities.decider",
    "StoredEvent": "eventstore.model",
    "Secret": "eventstore.model",
    "UidCursor": "mailcheck.events",
    "FetchedMail": "mailcheck.events",
}
_DECIDERS = ("mailcheck.roster.decider", "mailcheck.mailbox.decider")
"""What has no home of its own is there."""


class Domain:
    """The classes of one version by name. Each is imported at its first use."""

    file = property(lambda _: sys.modules["huahuo.mailcheck"].__file__ or "")
    """The file from which the domain was loaded."""

    def __getattr__(self, name: str) -> Any:
        for home in (_HOMES[name],) if name in _HOMES else _DECIDERS:
            found = getattr(import_module(f"huahuo.{home}"), name, None)
            if found is not None:
                return found
        raise AttributeError(name)


def domain(path: Iterable[str]) -> Domain:
    """The classes of the first version on a module path. Raises ModuleNotFoundError if there is none."""
    if any((Path(entry) / _LINK / "mailbox" / "decider.py").is_file() for entry in path):
        return Domain()
    raise ModuleNotFoundError("no version of this project is on the path")


def deciders(classes: Any) -> Mapping[str, Any]:
    """Deciders by the kind of the streams that they fold."""
    return {"mailbox": classes.MailboxDecider(), "user": classes.RosterDecider()}


def folded(stream: str) -> bool:
    """Whether a stream of one of these kinds is an entity's: the key of a mailbox is a number."""
    kind, _, key = stream.partition("/")
    return kind == "user" or key.isdecimal()


def shown(state: Any, event: Any) -> Any:
    """The state of a mailbox, or of a roster the row and the open check that the event concerns."""
    rows = getattr(state, "rows", None)
    if rows is None:
        return msgspec.Raw(msgspec.json.encode(state))
    number = event.entity.partition("/")[2]
    email_id = int(number) if number.isdecimal() else 0
    row = rows.get(email_id)
    return {
        "rows": len(rows),
        "row": None if row is None else msgspec.Raw(msgspec.json.encode(row)),
        "check": state.checks.get(email_id),
    }


def said(stream: str, type_: str, body: bytes) -> dict[str, Any] | None:
    """An event for comparison, without the blob id of a mail, because the content is not available here.

    None for the event that only guards a roster's decision: versions before it did not write it.
    """
    if type_ == GUARD:
        return None
    fields = json.loads(body)
    for mail in fields.get("mails", ()):
        mail.pop("blob", None)
    return {"stream": stream, "type": type_, "body": fields}
