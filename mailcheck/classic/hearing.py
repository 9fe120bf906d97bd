"""What the front end of FireMail says, as messages of our protocol. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.words import zh

NO_ADDRESS: Final = zh.BOTH_NEEDED
NO_GRANT: Final = zh.OUTLOOK_GRANT
NO_IDS: Final = zh.NO_IDS
NO_DATA: Final = classic_zh.NO_DATA
NO_FORM: Final = classic_zh.NO_FORM
_TYPE: Final = re.compile(r"[A-Za-z_]{1,40}")
_ADDED: Final = ("email", "password", "mail_type", "client_id", "refresh_token", "server", "port", "use_ssl")
COMMANDS: Final = frozenset({"add_email", "delete_emails", "check_emails", "firemail_import"})
"""What takes effect, and so must take effect once."""


class Wrong(msgspec.Struct, frozen=True):
    """A message that is not passed on: what its client is told."""

    message: str


def asked_of(message: Mapping[str, Any]) -> dict[str, Any] | Wrong:
    """The message of our protocol for one of that front end, without an id."""
    match message.get("type"):
        case "get_all_emails":
            return {"action": "firemail_emails"}
        case "get_mail_records":
            return {"action": "firemail_mails", "email_id": message.get("email_id")}
        case "add_email":
            return added(message)
        case "delete_emails" | "check_emails" as action:
            ids = message.get("email_ids")
            return {"action": action, "email_ids": ids} if isinstance(ids, list) and ids else Wrong(NO_IDS)
        case "import_emails":
            data = message.get("data")
            if not isinstance(data, str) or not data.strip():
                return Wrong(NO_DATA)
            return {"action": "firemail_import", "data": data, "mail_type": mail_type_of(message)}
        case str() as kind if _TYPE.fullmatch(kind):
            return Wrong(classic_zh.UNKNOWN_KIND.format(kind))
        case _:
            return Wrong(NO_FORM)


def added(message: Mapping[str, Any]) -> dict[str, Any] | Wrong:
    """The command that adds a mailbox. Members that are empty there are left out."""
    if not message.get("email") or not message.get("password"):
        return Wrong(NO_ADDRESS)
    given = {name: message[name] for name in _ADDED if message.get(name) not in (None, "")}
    mail_type = given.setdefault("mail_type", "imap")
    if mail_type == "outlook" and not ("client_id" in given and "refresh_token" in given):
        return Wrong(NO_GRANT)
    return {"action": "add_email", **given}


def mail_type_of(message: Mapping[str, Any]) -> str:
    """The kind of the mailboxes of an import: one view of that front end spells the member otherwise."""
    said = message.get("mail_type") or message.get("mailType") or "outlook"
    return str(said)
