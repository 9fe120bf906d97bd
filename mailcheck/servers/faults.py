"""Failures between us and a mail server, as types. Pure. `outcome` says what each means for the user.

MailFault
 +- HostRefused         the host, its address or its port may not be used (never connected)
 +- DnsFailed           the name has no address
 +- ConnectFailed       no address of the host accepted the connection
 +- TlsFailed           no secure connection; `certificate` if the server could not prove its name
 +- ClearTextRefused    a password would have crossed a public network in clear
 +- ProxyFailed         the proxy could not be reached, or refused to connect
 +- BadCredentials      user or password cannot be sent (they hold CR, LF or NUL); nothing was sent
 +- ImapError
     +- CommandRefused  the server answered NO or BAD
     +- ServerBye       the server said goodbye
     +- ConnectionLost  the connection ended without a goodbye
     +- TimedOut        no answer within the deadline
     +- BrokenProtocol  the server violated IMAP or exceeded our bounds
     +- NoMechanism     the server offers no way to sign in with what the mailbox has
 +- GrantRefused        the token endpoint does not accept the grant
 +- NoScope             the grant is good, but not for this use
 +- HttpFailed          a token endpoint or Graph refused, or cannot serve now

Every kind of failure of a check: its class, what happened, and what to do next, in both languages. Pure.

docs/mail.md shows this table; a test compares the two.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

# ruff: noqa: N818  named after what happened, as in the field


class MailFault(Exception):
    """Base of every failure that may end a check. Its text never holds credentials."""


class HostRefused(MailFault):
    """The host, an address of it or the port is not allowed. `reason` is one of `host_rules.Reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"mail server refused: {reason}")
        self.reason = reason


class DnsFailed(MailFault):
    """The host's name could not be resolved."""


class ConnectFailed(MailFault):
    """No address of the host accepted the connection. `timed_out`: the last one did not answer."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class TlsFailed(MailFault):
    """TLS was not established. `certificate`: the server's certificate did not prove its name."""

    def __init__(self, text: str, *, certificate: bool = False) -> None:
        super().__init__(text)
        self.certificate = certificate


class ClearTextRefused(MailFault):
    """The server offers no TLS and its address is public: the password was not sent."""


class ProxyFailed(MailFault):
    """The proxy could not be reached, or it did not connect. `timed_out`: it did not answer."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class BadCredentials(MailFault):
    """User or password hold CR, LF or NUL; nothing was sent."""


class ImapError(MailFault):
    """Base of failures on an established connection."""


class CommandRefused(ImapError):
    """A tagged NO or BAD. `code` is the response code's first word in upper case ("" for none)."""

    def __init__(self, command: str, status: str, code: str, text: str) -> None:
        super().__init__(f"{command}: {status} {text}")
        self.command = command
        self.status = status
        self.code = code
        self.text = text


class ServerBye(ImapError):
    """An untagged BYE before our LOGOUT."""

    def __init__(self, text: str) -> None:
        super().__init__(f"BYE {text}")
        self.text = text


class ConnectionLost(ImapError):
    """End of the stream or a reset in the middle of a session."""


class TimedOut(ImapError):
    """The deadline of a command or of the whole check passed."""


class BrokenProtocol(ImapError):
    """What the server sent is not IMAP, or exceeds a bound."""


class NoMechanism(ImapError):
    """The server offers no mechanism by which the mailbox could sign in."""


class GrantRefused(MailFault):
    """The token endpoint refused the grant for good. `error` is its code, `text` its description, cleaned."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(f"grant refused: {error}")
        self.error = error
        self.text = text


class NoScope(GrantRefused):
    """The grant does not hold this scope. Another scope, or another way to the mails, may do."""


class HttpFailed(MailFault):
    """A token endpoint or Graph answered with an error.

    `passing`: a later try may succeed, not before `retry_after_s` where the server gave that.
    """

    def __init__(self, status: int, text: str, *, passing: bool, retry_after_s: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status
        self.text = text
        self.passing = passing
        self.retry_after_s = retry_after_s


type ErrorClass = Literal["auth", "network", "tls", "limit", "provider_down", "protocol", "config"]


class Kind(msgspec.Struct, frozen=True):
    """One kind of failure. `retry`: a later try without any change may succeed."""

    error_class: ErrorClass
    chinese: str
    english: str
    advice_chinese: str
    advice_english: str
    retry: bool = False
    must_sign_in: bool = False
    """The check ends as `need_reauth`, else as `error`."""

    @property
    def message(self) -> str:
        """What happened. If the user must sign in again, also what to do: some clients show nothing else."""
        chinese, english = self.messages
        return f"{chinese} ({english})"

    @property
    def messages(self) -> tuple[str, str]:
        """`message` in Chinese and in English."""
        if not self.must_sign_in:
            return self.chinese, self.english
        return f"{self.chinese}，{self.advice_chinese}", f"{self.english}: {self.advice_english}"

    @property
    def advice(self) -> str:
        """What to do next."""
        return f"{self.advice_chinese} ({self.advice_english})"


_WAIT = ("请稍后再次检查", "check again later")
_SERVER = ("请核对服务器地址、端口和加密方式", "verify the server's name, port and encryption")
_OPERATOR = ("请联系管理员", "ask the operator of this service")
_GRANT = (
    "请重新授权登录：huahuo mailbox signin 邮箱地址，或填写新的 refresh token",
    "sign in again with `huahuo mailbox signin ADDRESS`, or enter a new refresh token",
)

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "login_refused": Kind(
            "auth",
            "登录被拒绝：用户名或密码错误",
            "login refused: wrong user name or password",
            "请更新密码；QQ、163、126 和 Gmail 需要授权码或应用专用密码",
            "enter the password again; QQ, 163, 126 and Gmail want an authorisation code or an app password",
            must_sign_in=True,
        ),
        "web_alert": Kind(
            "auth",
            "邮箱服务商要求先在浏览器中确认登录",
            "the provider wants this sign-in confirmed in a browser",
            "请在浏览器中打开服务器给出的网址并确认，然后再次检查；Gmail 请改用应用专用密码",
            "open the address that the server gave in a browser and confirm, then check again; "
            "for Gmail use an app password",
            must_sign_in=True,
        ),
        "password_expired": Kind(
            "auth",
            "密码已过期",
            "the password has expired",
            "请在邮箱网页中更改密码，然后在此填写新密码",
            "change it at the provider, then enter the new password here",
            must_sign_in=True,
        ),
        "bad_credentials": Kind(
            "auth",
            "用户名或密码含有不允许的字符",
            "user name or password has characters not allowed",
            "请重新填写密码",
            "enter the password again",
            must_sign_in=True,
        ),
        "grant_refused": Kind(
            "auth",
            "授权已失效或被撤销",
            "the grant has expired or was revoked",
            *_GRANT,
            must_sign_in=True,
        ),
        "grant_foreign": Kind(
            "auth",
            "授权无效，或不属于该 client id",
            "the refresh token is not valid, or it belongs to another client id",
            "请核对 refresh token 是否完整、是否由该 client id 取得，"
            "或重新授权登录：huahuo mailbox signin 邮箱地址",
            "verify that the refresh token is whole and was issued to this client id, or sign in again with "
            "`huahuo mailbox signin ADDRESS`",
            must_sign_in=True,
        ),
        "account_locked": Kind(
            "auth",
            "微软已锁定该账号",
            "Microsoft has locked this account",
            "请在浏览器中登录 outlook.live.com 并按提示解锁，然后再次检查",
            "sign in at outlook.live.com in a browser and unlock it there, then check again",
            must_sign_in=True,
        ),
        "client_refused": Kind(
            "auth",
            "授权服务器不接受该应用的 client id",
            "the application of this client id is not accepted",
            "请核对 client id、应用是否需要密钥、是否允许该类账号，"
            "然后重新授权登录：huahuo mailbox signin 邮箱地址",
            "verify the client id, whether the application needs a secret and whether it admits this kind of "
            "account, then sign in again with `huahuo mailbox signin ADDRESS`",
            must_sign_in=True,
        ),
        "token_refused": Kind(
            "auth",
            "邮箱服务器不接受该授权",
            "the mail server does not accept the access token",
            *_GRANT,
            must_sign_in=True,
        ),
        "no_scope": Kind(
            "auth",
            "该授权不包含读取邮件的权限",
            "the grant does not permit reading mail",
            *_GRANT,
            must_sign_in=True,
        ),
        "no_grant": Kind(
            "auth",
            "该邮箱服务器只接受 OAuth 授权，不接受密码",
            "this mail server accepts OAuth grants only, no password",
            *_GRANT,
            must_sign_in=True,
        ),
        "secret_damaged": Kind(
            "config",
            "保存的密码、授权或代理已损坏，无法读取",
            "the stored password, grant or proxy is damaged and cannot be read",
            "请重新填写",
            "enter it again",
            must_sign_in=True,
        ),
        "changed": Kind(
            "config",
            "邮箱设置刚刚被更改",
            "the mailbox was changed meanwhile",
            *_WAIT,
            retry=True,
        ),
        "no_mechanism": Kind(
            "config",
            "邮箱服务器不支持访问令牌登录",
            "the mail server takes no access tokens",
            "请改用密码或授权码",
            "use a password or an authorisation code instead",
        ),
        "throttled": Kind(
            "limit",
            "邮箱服务器限制访问，请稍后再试",
            "mail server is limiting access, try again later",
            *_WAIT,
            retry=True,
        ),
        "unsafe_login": Kind(
            "config",
            "邮箱服务器拒绝此客户端",
            "mail server refuses this client: Unsafe Login",
            "请在邮箱网页设置中开启 IMAP 并使用授权码",
            "switch IMAP on in the mailbox's web settings and use an authorisation code",
        ),
        "no_folder": Kind(
            "config", "文件夹不存在", "no such folder", "请核对文件夹名称", "verify the folder's name"
        ),
        "clear_text": Kind(
            "tls",
            "邮箱服务器不支持加密，未发送密码",
            "no encryption offered, the password was not sent",
            "请使用支持加密的端口，通常为 993",
            "use a port with encryption, usually 993",
        ),
        "host_refused": Kind(
            "config",
            "不允许连接该邮箱服务器地址或端口",
            "this mail server address or port is not allowed",
            *_OPERATOR,
        ),
        "host_malformed": Kind("config", "邮箱服务器地址无效", "mail server address is not valid", *_SERVER),
        "dns": Kind(
            "network",
            "无法解析邮箱服务器地址",
            "mail server name could not be resolved",
            *_SERVER,
            retry=True,
        ),
        "connect": Kind(
            "network", "无法连接邮箱服务器", "mail server cannot be reached", *_SERVER, retry=True
        ),
        "timeout": Kind(
            "network", "邮箱服务器响应超时", "mail server did not answer in time", *_WAIT, retry=True
        ),
        "proxy": Kind(
            "network",
            "代理服务器无法连接",
            "the proxy could not connect",
            "请核对代理设置",
            "verify the settings of the proxy",
            retry=True,
        ),
        "certificate": Kind(
            "tls",
            "邮箱服务器证书无效",
            "mail server's certificate is not valid for its name",
            *_SERVER,
        ),
        "tls": Kind("tls", "无法建立加密连接", "no encrypted connection could be made", *_SERVER, retry=True),
        "bye": Kind(
            "provider_down", "邮箱服务器关闭了连接", "mail server closed the connection", *_WAIT, retry=True
        ),
        "lost": Kind(
            "network", "与邮箱服务器的连接中断", "connection to the mail server was lost", *_WAIT, retry=True
        ),
        "protocol": Kind(
            "protocol", "邮箱服务器响应异常", "mail server sent an invalid response", *_WAIT, retry=True
        ),
        "refused": Kind(
            "provider_down", "邮箱服务器拒绝了请求", "mail server refused the request", *_WAIT, retry=True
        ),
        "http_down": Kind(
            "provider_down",
            "授权服务器或 Graph 暂时不可用",
            "the token endpoint or Graph cannot serve now",
            *_WAIT,
            retry=True,
        ),
        "http_throttled": Kind(
            "limit",
            "授权服务器或 Graph 限制访问，请稍后再试",
            "the token endpoint or Graph is limiting access, try again later",
            *_WAIT,
            retry=True,
        ),
        "http_away": Kind(
            "network",
            "授权服务器或 Graph 无法连接或没有响应",
            "the token endpoint or Graph cannot be reached or did not answer",
            *_WAIT,
            retry=True,
        ),
        "http_certificate": Kind(
            "tls",
            "授权服务器或 Graph 的证书无效",
            "the certificate of the token endpoint or Graph is not valid for its name",
            *_OPERATOR,
        ),
        "http_tls": Kind(
            "tls",
            "无法与授权服务器或 Graph 建立加密连接",
            "no encrypted connection to the token endpoint or Graph could be made",
            *_WAIT,
            retry=True,
        ),
        "http_protocol": Kind(
            "protocol",
            "授权服务器或 Graph 响应异常",
            "the token endpoint or Graph sent an invalid response",
            *_WAIT,
            retry=True,
        ),
        "http_refused": Kind(
            "protocol",
            "授权服务器或 Graph 拒绝了请求",
            "the token endpoint or Graph refused the request",
            *_OPERATOR,
        ),
    }
)
