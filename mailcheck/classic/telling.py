"""What the front end of FireMail is told for replies and events of our protocol. Pure."""

from collections.abc import Mapping
from typing import Any

type Message = dict[str, Any]


def replied(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> list[Message]:
    """The messages for the reply to a command."""
    if reply["type"] == "error":
        return [_error(action, asked, reply)]
    match action:
        case "add_email":
            said = {"type": "email_added", "message": f"邮箱 {asked['email']} 添加成功"}
            return [said | {"email_id": reply["email_id"]}]
        case "delete_emails":
            return [{"type": "emails_deleted", "email_ids": reply["email_ids"], "message": reply["message"]}]
        case "check_emails":
            return _checks(reply)
        case "import_emails":
            return _imported(reply)
        case _:
            return [dict(reply)]


def import_result(reply: Mapping[str, Any]) -> Message:
    """The result of an import. No line is repeated: it may hold a password."""
    failed = [{**one, "email": "", "content": ""} for one in reply["failed_details"]]
    counts = {name: reply[name] for name in ("total", "success", "failed")}
    return {**counts, "failed_details": failed}


def _imported(reply: Mapping[str, Any]) -> list[Message]:
    done = reply["success"]
    result = {"type": "import_result", **import_result(reply)}
    if not done:
        return [{"type": "warning", "message": "没有成功导入任何邮箱"}, result]
    said = f"成功导入 {done} 个邮箱"
    return [{"type": "success", "message": said}, {"type": "emails_imported", "message": said}, result]


def _checks(reply: Mapping[str, Any]) -> list[Message]:
    accepted, skipped = reply.get("accepted", ()), reply.get("skipped", ())
    if not accepted:
        return [{"type": "warning", "message": "所有邮箱都在处理中，请稍后再试"}]
    info = [{"type": "info", "message": f"跳过已经在处理中的 {len(skipped)} 个邮箱"}] if skipped else []
    return [*info, {"type": "success", "message": f"开始检查 {len(accepted)} 个邮箱"}]


def _error(action: str, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> Message:
    text = str(reply.get("message", ""))
    if action == "add_email" and reply.get("code") == "already_exists":
        text = f"邮箱 {asked['email']} 添加失败，可能已存在"
    elif reply.get("details") and "invalid_field" in str(reply.get("code")):
        text = f"{text}（{reply['details']}）"
    return {"type": "error", "message": text}
