"""Random events of mailbox checks, as on a user's stream. Pure.

They train a dictionary if there is no log to train from. Then nothing in them has to be masked, because they
contain no data of any user. Texts and their order are those of a check.
"""

from collections.abc import Callable, Iterator, Sequence

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.ambient import FakeAmbient, rfc3339
from huahuo.mailcheck import events
from huahuo.mailcheck.servers.faults import KINDS

_HOSTS = ("outlook.office365.com", "imap.gmail.com", "imap.qq.com", "imap.163.com", "imap.example.org")
_DOMAINS = ("outlook.com", "hotmail.com", "gmail.com", "qq.com", "163.com", "example.org")
_TYPES = ("outlook", "imap", "gmail", "qq")
_WORDS = ("Re: ", "Fwd: ", "回复：", "Your ", "您的", "通知", "订单", "verification code ", "Invoice ", "")
_FAILURES = (
    "login_refused",
    "bad_credentials",
    "throttled",
    "unsafe_login",
    "no_folder",
    "clear_text",
    "host_refused",
    "host_malformed",
    "dns",
    "connect",
    "timeout",
    "certificate",
    "tls",
    "bye",
    "lost",
    "protocol",
    "refused",
)
"""Kinds of failures over IMAP. A change here or of their texts means that the dictionary is trained again."""
_FAILED_SHARE = 0.08
_APPLICATION_SHARE = 0.15
"""Share of checks that an embedding application reports, with texts of its own."""
_NEW_MAILS = (0, 0, 0, 1, 1, 2, 3, 5, 8, 20)


class EventMix:
    """Bodies of one user's public stream, in order. The same seed gives the same bodies."""

    def __init__(self, seed: int, *, user_id: UserId | None = None) -> None:
        self._ambient = FakeAmbient(seed)
        self._user_id = user_id or 1 + self._below(2000)
        self._mailboxes = 1 + self._below(300)
        self._email_base = self._below(5000)
        self._check_id = self._below(90_000)
        self._mail_id = self._below(900_000)
        self._ambient.advance(self._below(300 * 86_400))

    @property
    def stream(self) -> str:
        """The name of the stream."""
        return f"user/{self._user_id}"

    def bodies(self) -> Iterator[bytes]:
        """Bodies without end."""
        while True:
            draw = self._ambient.random()
            made = self._check() if draw < 0.96 else self._account()  # noqa: PLR2004  few are accounts
            for email_id, body in made:
                yield events.public(self._user_id, email_id, body).body

    def check(self) -> list[bytes]:
        """The events of one check, from its request to its end."""
        return [events.public(self._user_id, email_id, body).body for email_id, body in self._check()]

    def _check(self) -> Iterator[tuple[int, events.Body]]:
        email_id = self._email()
        self._check_id += 1
        for make in self._steps():
            self._ambient.advance(self._ambient.random() * 1.5)
            yield email_id, make(rfc3339(self._ambient.now_ms()), email_id, self._check_id)

    def _steps(self) -> Iterator[Callable[[str, int, int], events.Body]]:
        if self._ambient.random() < _APPLICATION_SHARE:
            yield from self._application()
            return
        yield _status("queued", "等待检查")
        yield _status("processing", "正在连接邮箱服务器")
        yield _progress(0, "正在连接邮箱服务器")
        if self._ambient.random() < _FAILED_SHARE:
            kind = KINDS[self._of(_FAILURES)]
            message = f"{kind.chinese} ({kind.english})"
            yield _progress(100, message)
            yield _status("need_reauth" if kind.must_sign_in else "error", message)
            return
        yield _progress(10, "正在登录邮箱")
        yield _progress(20, "正在选择文件夹 INBOX")
        total = self._of(_NEW_MAILS)
        for number in range(1, total + 1):
            if self._ambient.random() < 0.7:  # noqa: PLR2004  reports are not more frequent than a pace
                yield _progress(20 + 79 * number // total, f"正在处理第 {number}/{total} 封邮件")
            yield self._mail
        done = f"检查完成，共 {total} 封新邮件" if total else "没有找到新邮件"
        yield _progress(100, done)
        yield _status("ok", done)

    def _application(self) -> Iterator[Callable[[str, int, int], events.Body]]:
        total = 1 + self._below(40)
        yield _status("processing", "正在处理")
        yield _progress(0, "正在处理")
        for number in range(1, total + 1, 1 + total // 8):
            yield _progress(99 * number // total, f"正在检查邮件 {number}/{total}")
        yield _progress(100, "检查完成")
        yield _status("ok", "检查完成")

    def _mail(self, timestamp: str, email_id: int, _check_id: int) -> events.Body:
        self._mail_id += 1
        received_ms = self._ambient.now_ms() - self._below(86_400_000)
        return events.MailReceived(
            timestamp=timestamp,
            email_id=email_id,
            mail_id=self._mail_id,
            subject=self._of(_WORDS) + self._noise(4 + self._below(30)),
            sender=f"{self._noise(6)} <{self._noise(5 + self._below(6))}@{self._of(_DOMAINS)}>",
            received_time=rfc3339(received_ms)[:19] + "Z",
            folder="INBOX",
            has_attachments=self._ambient.random() < 0.1,  # noqa: PLR2004  one in ten
        )

    def _account(self) -> Iterator[tuple[int, events.Body]]:
        email_id, now = self._email(), rfc3339(self._ambient.now_ms())
        kind, host = self._of(_TYPES), self._of(_HOSTS)
        match self._below(4):
            case 0:
                yield email_id, events.EmailDeleted(timestamp=now, email_id=email_id)
            case 1:
                yield (
                    email_id,
                    events.EmailUpdated(
                        timestamp=now, email_id=email_id, server=host, port=993, use_ssl=True
                    ),
                )
            case _:
                yield (
                    email_id,
                    events.EmailAdded(
                        timestamp=now,
                        email_id=email_id,
                        email=f"{self._noise(8)}@{self._of(_DOMAINS)}",
                        mail_type=kind,
                        server=host,
                        port=993,
                        use_ssl=True,
                    ),
                )

    def _email(self) -> int:
        return self._email_base + 1 + self._below(self._mailboxes)

    def _below(self, limit: int) -> int:
        return int(self._ambient.random() * limit)

    def _of[T](self, choices: Sequence[T]) -> T:
        return choices[self._below(len(choices))]

    def _noise(self, chars: int) -> str:
        """Random letters."""
        return self._ambient.token(1 + chars // 2)[:chars]


def _status(status: str, message: str) -> Callable[[str, int, int], events.Body]:
    return lambda timestamp, email_id, check_id: events.EmailStatusUpdate(
        timestamp=timestamp, email_id=email_id, status=status, message=message, check_id=check_id
    )


def _progress(percent: int, message: str) -> Callable[[str, int, int], events.Body]:
    return lambda timestamp, email_id, check_id: events.CheckProgress(
        timestamp=timestamp, email_id=email_id, progress=percent, message=message, check_id=check_id
    )
