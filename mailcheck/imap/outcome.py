"""What a failure means for the user: must the user act, or does a later try help? Pure.

The class of a failure decides the mailbox's terminal status: `need_reauth` only if the server said that it
does not accept these credentials, `error` for everything else. A server's own text is recorded for the
owner after `sanitise`, but is never the message.
"""

import base64
import re
from collections.abc import Iterable
from typing import Literal, assert_never
from urllib.parse import quote

import msgspec

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import (
    BadCredentials,
    BrokenProtocol,
    ClearTextRefused,
    CommandRefused,
    ConnectFailed,
    ConnectionLost,
    DnsFailed,
    HostRefused,
    ImapError,
    MailFault,
    ServerBye,
    TimedOut,
    TlsFailed,
)

type FailedStatus = Literal["error", "need_reauth"]

SERVER_TEXT_CHARS_MAX = 300

MESSAGES = {
    "login_refused": "登录被拒绝：用户名或密码错误 (login refused: wrong user name or password)",
    "bad_credentials": "用户名或密码含有不允许的字符 (user name or password has characters not allowed)",
    "throttled": "邮箱服务器限制访问，请稍后再试 (mail server is limiting access, try again later)",
    "unsafe_login": "邮箱服务器拒绝此客户端 (mail server refuses this client: Unsafe Login)",
    "no_folder": "文件夹不存在 (no such folder)",
    "clear_text": "邮箱服务器不支持加密，未发送密码 (no encryption offered, the password was not sent)",
    "host_refused": "不允许连接该邮箱服务器地址或端口 (this mail server address or port is not allowed)",
    "host_malformed": "邮箱服务器地址无效 (mail server address is not valid)",
    "dns": "无法解析邮箱服务器地址 (mail server name could not be resolved)",
    "connect": "无法连接邮箱服务器 (mail server cannot be reached)",
    "timeout": "邮箱服务器响应超时 (mail server did not answer in time)",
    "certificate": "邮箱服务器证书无效 (mail server's certificate is not valid for its name)",
    "tls": "无法建立加密连接 (no encrypted connection could be made)",
    "bye": "邮箱服务器关闭了连接 (mail server closed the connection)",
    "lost": "与邮箱服务器的连接中断 (connection to the mail server was lost)",
    "protocol": "邮箱服务器响应异常 (mail server sent an invalid response)",
    "refused": "邮箱服务器拒绝了请求 (mail server refused the request)",
}
"""The message for the user, by the outcome's `kind`."""

# For these, a later try without any change may succeed.
_RETRY = frozenset({"throttled", "dns", "connect", "timeout", "tls", "bye", "lost", "protocol", "refused"})

_THROTTLED_CODES = frozenset({"LIMIT", "UNAVAILABLE", "INUSE", "THROTTLED", "OVERQUOTA", "BUSY"})
_CREDENTIAL_CODES = frozenset({"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "WEBALERT"})
_CREDENTIAL_WORDS = re.compile(
    r"password|credential|authenticat|invalid user|user name|username|密码|授权码|帐号|账号", re.IGNORECASE
)
_THROTTLED_WORDS = re.compile(
    r"too many|rate limit|try again|temporar|throttl|simultaneous|concurrent|connection limit|busy"
    r"|频繁|频率|稍后",
    re.IGNORECASE,
)
_NOT_CONNECTED = re.compile(r"authenticated but not connected", re.IGNORECASE)
_NO_FOLDER = re.compile(r"not exist|doesn't exist|no such|unknown (mailbox|folder)|not found", re.IGNORECASE)
_UNSAFE_LOGIN = re.compile(r"unsafe login", re.IGNORECASE)

# C0, DEL, C1, soft hyphen and zero-width or direction-changing characters: invisible, but they change how
# a log line or a page reads.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]+"
)


class Outcome(msgspec.Struct, frozen=True):
    """A classified failure.

    `status` is the terminal status of the check, `kind` a stable word for logs and metrics, `message`
    the text for the user, `server_text` the server's own text (sanitised, "" for none), only for the
    owner's record. `retry`: a later try without any change may succeed.
    """

    status: FailedStatus
    kind: str
    message: str
    server_text: str = ""
    retry: bool = False


def classify(fault: MailFault) -> Outcome:
    """The outcome that `fault` means."""
    kind = _kind(fault)
    return Outcome(
        status="need_reauth" if kind in {"login_refused", "bad_credentials"} else "error",
        kind=kind,
        message=MESSAGES[kind],
        server_text=fault.text if isinstance(fault, CommandRefused | ServerBye) else "",
        retry=kind in _RETRY,
    )


def _kind(fault: MailFault) -> str:
    match fault:
        case CommandRefused():
            return _refused(fault)
        case ServerBye():
            return "throttled" if _THROTTLED_WORDS.search(fault.text) else "bye"
        case HostRefused():
            return "host_malformed" if fault.reason == "malformed" else "host_refused"
        case ConnectFailed():
            return "timeout" if fault.timed_out else "connect"
        case TlsFailed():
            return "certificate" if fault.certificate else "tls"
        case BadCredentials():
            return "bad_credentials"
        case ClearTextRefused():
            return "clear_text"
        case DnsFailed():
            return "dns"
        case TimedOut():
            return "timeout"
        case ConnectionLost():
            return "lost"
        case BrokenProtocol() | ImapError() | MailFault():
            return "protocol"
        case _:
            assert_never(fault)


def _refused(fault: CommandRefused) -> str:
    if fault.code in _THROTTLED_CODES or _NOT_CONNECTED.search(fault.text):
        return "throttled"
    if _UNSAFE_LOGIN.search(fault.text):
        return "unsafe_login"
    if fault.command == "LOGIN":
        return _refused_login(fault)
    if fault.code == "NONEXISTENT" or _NO_FOLDER.search(fault.text):
        return "no_folder"
    return "throttled" if _THROTTLED_WORDS.search(fault.text) else "refused"


def _refused_login(fault: CommandRefused) -> str:
    """A provider that lists every possible cause in one sentence means the password."""
    if fault.code == "PRIVACYREQUIRED":
        return "clear_text"
    if fault.code in {"SERVERBUG", "CONTACTADMIN"}:
        return "refused"
    if fault.code in _CREDENTIAL_CODES or _CREDENTIAL_WORDS.search(fault.text):
        return "login_refused"
    if _THROTTLED_WORDS.search(fault.text):
        return "throttled"
    return "login_refused" if fault.status == "NO" else "refused"


def sanitise(text: bytes | str, secrets: Iterable[Secret] = ()) -> str:
    """A server's text made fit for a record: no secret in any usual spelling, one line, visible, bounded."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    for spelling in sorted(
        {s for secret in secrets for s in _spellings(secret.reveal())}, key=len, reverse=True
    ):
        shown = shown.replace(spelling, "***")
    shown = " ".join(_INVISIBLE.sub(" ", shown).split())
    if len(shown) > SERVER_TEXT_CHARS_MAX:
        shown = shown[: SERVER_TEXT_CHARS_MAX - 1] + "…"
    return shown


def _spellings(secret: str) -> set[str]:
    """The forms in which a server may echo a secret: plain, quoted, escaped, hex, base64 (each alignment)."""
    if not secret:
        return set()
    raw = secret.encode("utf-8", "replace")
    found = {
        secret,
        secret.replace("\\", "\\\\").replace('"', '\\"'),
        quote(secret, safe=""),
        raw.decode("latin-1"),
        raw.hex(),
    }
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        # The characters at both ends depend on the neighbouring bytes too: search for the middle only.
        middle = encoded[(0, 2, 3)[shift] : len(encoded) - (0, 3, 2)[(shift + len(raw)) % 3]]
        if len(middle) >= 4:  # noqa: PLR2004  shorter ones would hit ordinary words
            found.add(middle)
    return found
