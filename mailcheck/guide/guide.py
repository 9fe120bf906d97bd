"""The guide of mail: what `huahuo/timetravel/judge.py` must know of it. Loaded by its path, no package.

The module path belongs to the version under test, so the files of this folder import nothing of the
project.
"""

import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

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
    "_say_progress",
    "say_progress",
    "end",
    "status",
}
"""Functions that only pass a body on, so the line of their caller is reported."""
STORING = {"put", "remove", "changed"}
"""Methods of a state that only store what their caller made, so the caller's line is reported."""


def _derive() -> ModuleType:
    path = Path(__file__).with_name("derive.py")
    spec = importlib.util.spec_from_file_location("mail_derive", path)
    assert spec is not None, "the file lies there"
    assert spec.loader is not None, "it is a source file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_derived = _derive()
derive = _derived.derive
"""The command behind the first of some events."""
GUARD: str = _derived.GUARD

_LINK = "huahuo/mailcheck"
"""In a repository this is a link to the domain's folder. In a wheel it is the folder itself."""
_HOMES = {
    "Context": "actors.entities.decider",
    "StoredEvent": "eventstore.model",
    "Secret": "eventstore.model",
    "UidCursor": "mailcheck.fetched",
    "FetchedMail": "mailcheck.fetched",
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
