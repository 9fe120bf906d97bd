"""The HTTP that FireMail's front end asks about mailboxes and mails. Each request is an action of its user.

Its status codes are kept: that front end signs out at 401 and reads `error` of all others. Uploads are forms
(RFC 7578).
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import HttpAnswer, HttpHandler, HttpRefused, HttpRequest, HttpRoute
from huahuo.mailcheck import zh
from huahuo.mailcheck.api.mail_actions import MAIL_BYTES_MAX
from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.classic.interpreter import MASK, Wrong, added, import_result, mail_type_of
from huahuo.mailcheck.mime.outlook import MAGIC
from huahuo.mailcheck.mime.parts import parse

MAILS_MAX: Final = 200
"""Of one file."""
_BETWEEN: Final = re.compile(rb"(?:^|\r?\n)From [^\r\n]*\r?\n")
_LENGTH: Final = re.compile(rb"\s*[0-9]{1,12}\s*\r?\n")


def uploaded(content_type: str, body: bytes) -> tuple[str, bytes] | None:
    """(name, content) of the first file in a form, None if there is none."""
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    # A form is a multipart as mails have it, except for its type.
    kind = content_type.encode("latin-1", "replace").replace(b"\r", b"").replace(b"\n", b"")
    mixed = re.sub(rb"^multipart/form-data", b"multipart/mixed", kind, flags=re.IGNORECASE)
    form = parse(b"Content-Type: " + mixed + b"\r\n\r\n" + body)
    for part in form.children:
        if part.name:
            return part.name, part.body
    return None


def mails_in(kind: str, content: bytes) -> Iterator[bytes]:
    """The mails in a file of this kind, at most `MAILS_MAX`."""
    if kind == "mbox":
        pieces = [piece for piece in _BETWEEN.split(content) if piece.strip()]
        yield from (re.sub(rb"(?m)^>(>*From )", rb"\1", piece) for piece in pieces[:MAILS_MAX])
    elif kind == "msg" and not content.startswith(MAGIC):
        return  # it has the name of a file of Outlook only
    elif content.strip():
        yield _LENGTH.sub(b"", content, count=1) if kind == "emlx" and _LENGTH.match(content) else content


_BODY_BYTES: Final = 64 << 10
_IMPORT_BYTES: Final = 16 << 20
_IDS_MAX: Final = 1_000
_ACCEPTED, _CONFLICT, _FORBIDDEN, _NOT_FOUND, _BAD = 202, 409, 403, 404, 400
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")
_ATTACHMENT: Final = re.compile(r"([0-9]{1,15})-([0-9]{1,4})")
_FILES: Final = frozenset({"eml", "txt", "mbox", "emlx", "msg"})
_STATUS: Final[Mapping[str, int]] = {
    "not_found": _NOT_FOUND,
    "already_exists": _CONFLICT,
    "invalid_field": _BAD,
}

_IN_CHINESE: Final = {"unauthenticated": classic_zh.SIGN_IN_FIRST, "bad_message": classic_zh.NO_JSON}

type Fields = dict[str, Any]


class _Ids(msgspec.Struct):
    email_ids: Annotated[list[int], Meta(max_length=_IDS_MAX)] = []


def refused(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    """A refusal in the form of that front end, and in its language where the service says it in English."""
    said = _IN_CHINESE.get(str(problem.get("code")), problem["detail"])
    return {"error": said, "message": said}


def routes() -> Sequence[HttpRoute]:
    """All of them."""
    one, mail = "/api/emails/{email_id:int}", "/api/mail_records/{mail_id:int}"
    return [
        _route("GET", "/api/emails", _list),
        _route("POST", "/api/emails", _add),
        _route("GET", one, _show),
        _route("PUT", one, _update),
        _route("DELETE", one, _delete),
        _route("GET", f"{one}/password", _password),
        _route("POST", f"{one}/check", _check),
        _route("POST", f"{one}/realtime", _watch),
        _route("GET", f"{one}/mail_records", _mails),
        _route("POST", "/api/emails/batch_delete", _delete_many),
        _route("POST", "/api/emails/batch_check", _check_many),
        _route("POST", "/api/emails/import", _import, _IMPORT_BYTES),
        _route("POST", "/api/emails/test-connection", _test, waits=True),
        _route("POST", f"{one}/upload_email_file", _upload, MAIL_BYTES_MAX + _BODY_BYTES),
        _route("GET", f"{mail}/attachments", _attachments),
        _route("GET", "/api/attachments/{attachment_id}/download", _download, waits=True),
        _route("POST", "/api/search", _search),
    ]


def _route(
    method: str, path: str, handler: HttpHandler, body_bytes_max: int = _BODY_BYTES, *, waits: bool = False
) -> HttpRoute:
    return HttpRoute(
        method=method,
        path=path,
        handler=handler,
        waits=waits,
        body_bytes_max=0 if method == "GET" else body_bytes_max,
        refuse=refused,
        language="zh",
    )


async def _list(request: HttpRequest) -> HttpAnswer:
    return HttpAnswer.json((await _done(request, "firemail_emails"))["data"])


async def _show(request: HttpRequest) -> HttpAnswer:
    email_id = _email_id(request)
    rows = (await _done(request, "firemail_emails"))["data"]
    found = next((row for row in rows if row["id"] == email_id), None)
    if found is None:
        raise _refusal(zh.NO_MAILBOX.format(email_id), _NOT_FOUND)
    return HttpAnswer.json(found)


async def _add(request: HttpRequest) -> HttpAnswer:
    fields = request.json(dict[str, Any])
    asked = added({"mail_type": "outlook", **fields})
    if isinstance(asked, Wrong):
        raise _refusal(asked.message, _BAD)
    reply = await _done(request, asked.pop("action"), **asked)
    email = asked["email"]
    return HttpAnswer.json({"message": classic_zh.ADDED.format(email), "email_id": reply["email_id"]})


async def _update(request: HttpRequest) -> HttpAnswer:
    """Change a mailbox. What is masked or empty stays as it is; address and kind cannot change."""
    given = request.json(dict[str, Any])
    names = ("password", "client_id", "refresh_token", "server", "port", "use_ssl")
    fields = {name: given[name] for name in names if given.get(name) not in (None, "", MASK)}
    email_id = _email_id(request)
    await _done(request, "update_email", email_id=email_id, **fields)
    data = {"email_id": email_id, "email": given.get("email"), "mail_type": given.get("mail_type")}
    return HttpAnswer.json({"message": classic_zh.UPDATED, "data": data})


async def _delete(request: HttpRequest) -> HttpAnswer:
    email_id = _email_id(request)
    reply = await _done(request, "delete_emails", email_ids=[email_id])
    if not reply["email_ids"]:
        raise _refusal(zh.NO_MAILBOX.format(email_id), _NOT_FOUND)
    return HttpAnswer.json({"message": classic_zh.DELETED.format(email_id)})


async def _delete_many(request: HttpRequest) -> HttpAnswer:
    ids = request.json(_Ids).email_ids
    if not ids:
        raise _refusal(zh.NO_IDS, _BAD)
    return HttpAnswer.json({"message": (await _done(request, "delete_emails", email_ids=ids))["message"]})


async def _password(_request: HttpRequest) -> HttpAnswer:
    raise _refusal(classic_zh.NOT_SHOWN, _FORBIDDEN)


async def _check(request: HttpRequest) -> HttpAnswer:
    """Begin a check. How it goes comes over the WebSocket."""
    reply = await request.call("check_emails", {"email_ids": [_email_id(request)]})
    if reply["type"] == "error":
        raise _told(classic_zh.NO_SUCH_MAILBOX if reply["code"] == "not_found" else reply["message"], reply)
    if not reply["accepted"]:
        said = {"success": False, "message": classic_zh.ONE_BUSY, "status": "processing"}
        return HttpAnswer.json(said, _CONFLICT)
    said = {"success": True, "message": classic_zh.CHECKING_ONE, "status": "processing"}
    return HttpAnswer.json(said, _ACCEPTED)


async def _check_many(request: HttpRequest) -> HttpAnswer:
    ids = request.json(_Ids).email_ids
    if not ids:  # none named means all
        ids = [row["id"] for row in (await _done(request, "firemail_emails"))["data"]]
    if not ids:
        raise _refusal(classic_zh.NONE_FOUND, _NOT_FOUND)
    accepted, skipped = 0, []
    for start in range(0, len(ids), _IDS_MAX):
        some = ids[start : start + _IDS_MAX]
        reply = await request.call("check_emails", {"email_ids": some})
        if reply["type"] == "error":
            raise _told(classic_zh.NONE_FOUND, reply)
        accepted += len(reply["accepted"])
        skipped += reply["skipped"]
    if not accepted:
        said: Fields = {"message": classic_zh.ALL_BUSY, "processing_ids": skipped}
        return HttpAnswer.json(said, _CONFLICT)
    said = {"message": zh.CHECKING.format(accepted), "skipped": len(skipped), "total": len(ids)}
    return HttpAnswer.json(said, _ACCEPTED)


async def _watch(request: HttpRequest) -> HttpAnswer:
    email_id, on = _email_id(request), bool(request.json(dict[str, Any]).get("enable"))
    reply = await request.call("watch_emails", {"email_ids": [email_id], "on": on})
    if reply["type"] == "error":
        raise _told(classic_zh.NO_WATCHING if reply["code"] == "unknown_action" else reply["message"], reply)
    if email_id in reply["refused"]:
        raise _refusal(classic_zh.NOT_YOURS, _NOT_FOUND)
    said = {"success": True, "message": classic_zh.WATCHED if on else classic_zh.NOT_WATCHED}
    return HttpAnswer.json({**said, "data": {"id": email_id, "enable_realtime_check": on}})


async def _mails(request: HttpRequest) -> HttpAnswer:
    return HttpAnswer.json((await _done(request, "firemail_mails", email_id=_email_id(request)))["data"])


async def _import(request: HttpRequest) -> HttpAnswer:
    fields = request.json(dict[str, Any])
    data = fields.get("data")
    if not isinstance(data, str) or not data.strip():
        raise _refusal(classic_zh.NO_DATA, _BAD)
    reply = await _done(request, "firemail_import", data=data, mail_type=mail_type_of(fields))
    return HttpAnswer.json(import_result(reply))


async def _test(request: HttpRequest) -> HttpAnswer:
    """Whether a login works. What is masked is what the mailbox of this address has."""
    given = request.json(dict[str, Any])
    names = ("email", "password", "server", "port", "use_ssl", "mail_type")
    fields = {name: given[name] for name in names if given.get(name) not in (None, "")}
    if fields.get("password") == MASK:
        rows = (await _done(request, "firemail_emails"))["data"]
        own = (row["id"] for row in rows if row["email"].lower() == str(fields.get("email", "")).lower())
        fields = {"email_id": next(own, 0)}
    reply = await request.call("test_login", fields)
    if reply["type"] == "error":
        return HttpAnswer.json(
            {"success": False, "message": reply["message"], "error": reply["message"]}, _BAD
        )
    said = {"success": True, "message": reply["message"], "folders": reply["folders"]}
    return HttpAnswer.json(said)


async def _upload(request: HttpRequest) -> HttpAnswer:
    """Mails from a file of a form: one (`.eml`, `.txt`, `.emlx`, `.msg`), or several (`.mbox`)."""
    file = uploaded(request.headers.get("content-type", ""), request.body)
    if file is None:
        raise _refusal(classic_zh.NO_FILE, _BAD)
    name, content = file
    kind = name.lower().rpartition(".")[2]
    if kind not in _FILES:
        raise _refusal(classic_zh.FILE_KINDS, _BAD)
    mail_ids = []
    for source in mails_in(kind, content):
        data = b64encode(source).decode()
        reply = await _done(request, "add_mail", email_id=_email_id(request), data=data)
        mail_ids.append(reply["mail_id"])
    if not mail_ids:
        raise _refusal(zh.NOT_A_MAIL, _BAD)
    said: Fields = {"success": True, "message": zh.MAIL_ADDED, "mail_id": mail_ids[-1]}
    return HttpAnswer.json({**said, "mail_ids": mail_ids})


async def _attachments(request: HttpRequest) -> HttpAnswer:
    mail_id = int(request.names["mail_id"])
    return HttpAnswer.json((await _done(request, "firemail_attachments", mail_id=mail_id))["data"])


async def _download(request: HttpRequest) -> HttpAnswer:
    """The file, which the service reads from the mail server now. A browser saves it and opens nothing."""
    named = _ATTACHMENT.fullmatch(request.names["attachment_id"])
    if named is None:
        raise _refusal(zh.NO_ATTACHMENT, _NOT_FOUND)
    file = await _done(request, "get_attachment", mail_id=int(named[1]), index=int(named[2]))
    name = quote(file["name"] or "attachment", safe="")
    headers = (
        ("Content-Disposition", f"attachment; filename*=UTF-8''{name}"),
        ("Content-Security-Policy", "sandbox; default-src 'none'"),
    )
    return HttpAnswer(b64decode(file["data"]), content_type=_typed(file["content_type"]), headers=headers)


def _typed(content_type: str) -> str:
    """The type that the mail says, if it is one."""
    return content_type if _TYPE.fullmatch(content_type) else "application/octet-stream"


async def _search(request: HttpRequest) -> HttpAnswer:
    fields = request.json(dict[str, Any])
    found = await _done(
        request, "firemail_search", query=fields.get("query") or "", search_in=fields.get("search_in") or []
    )
    return HttpAnswer.json({"results": found["results"]})


async def _done(request: HttpRequest, action: str, **fields: Any) -> Fields:
    """The reply to an action. Raises HttpRefused with the words of its refusal."""
    reply = await request.call(action, fields)
    if reply["type"] == "error":
        raise _told(reply["message"], reply)
    return reply


def _told(text: str, reply: Mapping[str, Any]) -> HttpRefused:
    """A refusal with this text and the status that its code has there."""
    code = str(reply["code"])
    return HttpRefused(code, text, status=_STATUS.get(code), retry_s=reply.get("retry_s"))


def _refusal(text: str, status: int) -> HttpRefused:
    return HttpRefused("refused", text, status=status)


def _email_id(request: HttpRequest) -> int:
    return int(request.names["email_id"])
