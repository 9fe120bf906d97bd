"""What the front end of FireMail is told for replies and events of our protocol. Pure."""

from collections.abc import Mapping
from typing import Any

from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.words import zh

type Message = dict[str, Any]


def replied(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> list[Message]:
    """The messages for the reply to a command."""
    if reply["type"] == "error":
        error = _error(action, asked, reply)
        return not_imported(error["message"]) if action == "firemail_import" else [error]
    match action:
        case "add_email":
            said = {"type": "email_added", "message": classic_zh.ADDED.format(asked["email"])}
            return [said | {"email_id": reply["email_id"]}]
        case "delete_emails":
            return [{"type": "emails_deleted", "email_ids": reply["email_ids"], "message": reply["message"]}]
        case "check_emails":
            return _checks(reply)
        case "firemail_import":
            return _imported(reply)
        case _:
            return [dict(reply)]


def import_result(reply: Mapping[str, Any]) -> Message:
    """The result of an import. No line is repeated: it may hold a password."""
    failed = [{**one, "email": "", "content": ""} for one in reply["failed_details"]]
    counts = {name: reply[name] for name in ("total", "success", "failed")}
    return {**counts, "failed_details": failed}


def not_imported(reason: str) -> list[Message]:
    """The messages for an import of which nothing was read. The second ends it in that front end."""
    failed = [{"line": 1, "reason": reason, "email": "", "content": ""}]
    result = {"type": "import_result", "total": 1, "success": 0, "failed": 1, "failed_details": failed}
    return [{"type": "error", "message": reason}, result]


def _imported(reply: Mapping[str, Any]) -> list[Message]:
    done = reply["success"]
    result = {"type": "import_result", **import_result(reply)}
    if not done:
        return [{"type": "warning", "message": classic_zh.NONE_IMPORTED}, result]
    said = classic_zh.IMPORTED.format(done)
    return [{"type": "success", "message": said}, {"type": "emails_imported", "message": said}, result]


def _checks(reply: Mapping[str, Any]) -> list[Message]:
    accepted, skipped = reply.get("accepted", ()), reply.get("skipped", ())
    if not accepted:
        return [{"type": "warning", "message": zh.ALL_BUSY}]
    info = [{"type": "info", "message": classic_zh.SKIPPED.format(len(skipped))}] if skipped else []
    return [*info, {"type": "success", "message": zh.CHECKING.format(len(accepted))}]


def _error(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> Message:
    text = str(reply.get("message", ""))
    if action == "add_email" and reply.get("code") == "already_exists":
        text = zh.MAY_EXIST.format(asked["email"])
    elif reply.get("details") and "invalid_field" in str(reply.get("code")):
        text = f"{text}（{reply['details']}）"
    return {"type": "error", "message": text}
