"""The import of many mailboxes in one append."""

from typing import Literal

import pytest

from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.model import Secret
from huahuo.mailcheck import zh
from huahuo.mailcheck.events import StartCheck
from huahuo.mailcheck.records import ImportResult, LineFailure
from huahuo.mailcheck.roster.commands import ImportEmails
from huahuo.mailcheck.roster.importer import bytes_in_memory, parse
from tests.support.models.mail_book import USER, Book
from tests.support.models.mail_rules import leaks

U = f"user/{USER}"


def do_import(book: Book, text: str, mail_type: str = "imap") -> ImportResult | Refusal:
    reply = book.roster(USER, ImportEmails(mail_type, parse(text, mail_type))).reply
    assert isinstance(reply, ImportResult | Refusal)
    return reply


def test_all_good_lines_come_in_one_append_and_the_others_are_told_by_number() -> None:
    book = Book()
    book.add("old@x.com")
    text = "a@x.com----canary-1\n\nOLD@x.com----canary-2\nrubbish-canary\nb@163.com----canary-3\na@x.com----x"
    assert do_import(book, text) == ImportResult(
        total=5,
        success=2,
        failed=3,
        failed_details=[
            LineFailure(3, "邮箱地址已存在"),
            LineFailure(4, zh.TWO_FIELDS),
            LineFailure(6, "邮箱地址重复"),
        ],
    )
    assert [(e["email_id"], e["email"], e["server"]) for e in book.said(U, 1)] == [
        (2, "a@x.com", "imap.x.com"),
        (3, "b@163.com", "imap.163.com"),
    ]
    assert book.secrets["mailbox/3", "password"] == Secret("canary-3")
    assert leaks(["canary-1", "canary-2", "rubbish-canary"], *(e.body for e in book.events)) == []


@pytest.mark.parametrize("validate", ["login", "check"])
def test_each_mailbox_of_an_import_is_signed_in_to_or_checked_if_it_asks_for_that(
    validate: Literal["login", "check"],
) -> None:
    book = Book()
    data = parse("a@x.com----p\nb@y.com----p", "imap")
    decision = book.roster(USER, ImportEmails("imap", data, validate))
    started = [one for one in decision.effects if isinstance(one, StartCheck)]
    is_login = validate == "login"
    assert [(one.email_id, one.host, one.login) for one in started] == [
        (1, "imap.x.com", is_login),
        (2, "imap.y.com", is_login),
    ]
    assert book.roster_state(USER).checks == {one.email_id: one.check_id for one in started}


def test_an_import_counts_more_in_memory_than_its_text_and_by_its_lines() -> None:
    one, many = "a" * 4_000, "a\n" * 2_000
    assert bytes_in_memory(one) >= 2 * len(one)
    assert bytes_in_memory(many) >= bytes_in_memory(one) + 400 * 1_999


def test_an_outlook_line_brings_its_token_sealed() -> None:
    book = Book()
    uuid = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"
    do_import(book, f"a@outlook.com----pw----{uuid}----canary-token", "outlook")
    assert book.said("mailbox/1")[0]["secrets"] == ["password", "client_id", "refresh_token"]
    assert book.secrets["mailbox/1", "refresh_token"] == Secret("canary-token")


def test_the_bound_of_mailboxes_holds_line_by_line() -> None:
    book = Book(mailboxes_max=2)
    book.add("old@x.com")
    result = do_import(book, "a@x.com----p\nb@x.com----p\nc@x.com----p")
    assert isinstance(result, ImportResult)
    assert (result.success, [f.line for f in result.failed_details]) == (1, [2, 3])


def test_nothing_usable_writes_nothing_and_takes_no_numbers() -> None:
    book = Book()
    assert do_import(book, "\n\n") == ImportResult(0, 0, 0, [])
    assert do_import(book, "bad") == ImportResult(1, 0, 1, [LineFailure(1, zh.TWO_FIELDS)])
    assert (book.events, book.counters) == ([], {})


def test_an_unknown_type_is_refused_as_a_whole() -> None:
    refused = do_import(Book(), "a@x.com----p", "pop3")
    assert isinstance(refused, Refusal)
    assert refused.code == "invalid_field"


def test_an_address_of_one_provider_is_no_mailbox_of_another() -> None:
    book = Book()
    text = "a@outlook.com----p\nb@qq.com----p\nc@example.com----p"
    result = do_import(book, text, "qq")
    assert isinstance(result, ImportResult)
    assert [(one.line, one.reason) for one in result.failed_details] == [
        (1, zh.OTHER_TYPE.format("outlook", "outlook"))
    ]
    assert [e["email"] for e in book.said(U)] == ["b@qq.com", "c@example.com"]


def test_columns_say_where_each_mailbox_is() -> None:
    book = Book()
    text = "email,password,mail_type,server,port\na@x.com,p,imap,mail.y.com,1143\nb@qq.com,p,qq,,"
    assert do_import(book, text) == ImportResult(2, 2, 0, [])
    assert [(e["mail_type"], e["server"], e["port"]) for e in book.said(U)] == [
        ("imap", "mail.y.com", 1143),
        ("qq", "imap.qq.com", 993),
    ]
