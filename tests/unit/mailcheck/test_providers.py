"""Where a mailbox's server is when the user did not say."""

import pytest

from huahuo.mailcheck.servers.providers import Endpoint, endpoint


@pytest.mark.parametrize(
    ("mail_type", "email", "host"),
    [
        ("outlook", "a@hotmail.com", "outlook.office365.com"),
        ("gmail", "a@my-company.com", "imap.gmail.com"),
        ("qq", "1@qq.com", "imap.qq.com"),
        ("imap", "a@163.com", "imap.163.com"),
        ("imap", "a@126.com", "imap.126.com"),
        ("imap", "a@Gmail.com", "imap.gmail.com"),
        ("imap", "a@foxmail.com", "imap.qq.com"),
        ("imap", "a@example.org", "imap.example.org"),
    ],
)
def test_the_server_follows_from_type_and_domain(mail_type: str, email: str, host: str) -> None:
    assert endpoint(mail_type, email) == Endpoint(host, 993, use_ssl=True)


def test_what_the_user_gave_wins() -> None:
    given = endpoint("gmail", "a@gmail.com", server=" mail.example ", port=1143, use_ssl=False)
    assert given == Endpoint("mail.example", 1143, use_ssl=False)


def test_port_and_encryption_follow_from_one_another() -> None:
    assert endpoint("imap", "a@b.c", port=143).use_ssl is False
    assert endpoint("imap", "a@b.c", port=9993).use_ssl is True
    assert endpoint("imap", "a@b.c", use_ssl=False).port == 143
