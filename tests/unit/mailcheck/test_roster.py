"""The roster's decisions: add, update, delete, check, cancel. Given events, when a command, then."""

from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.records import Success, encode
from huahuo.mailcheck.roster.decider import (
    AddEmail,
    CancelCheck,
    CheckEmails,
    DeleteEmails,
    UpdateEmail,
)
from tests.support.models.mail_book import USER, Book, snapshot_state
from tests.support.models.mail_rules import leaks

U = f"user/{USER}"


@pytest.fixture
def book() -> Book:
    """With mailbox 1."""
    book = Book()
    book.add("a@x.com")
    return book


def row(book: Book, email_id: int) -> dict[str, Any]:
    rows = msgspec.json.decode(snapshot_state(book.roster_state(USER)))["emails"]
    found: dict[str, Any] = next(r for r in rows if r["id"] == email_id)
    return found


def check(book: Book, email_id: int) -> int:
    """Queue a check; gives its id."""
    book.roster(USER, CheckEmails((email_id,)))
    return book.roster_state(USER).checks[email_id]


# -- add ----------------------------------------------------------------------------------------


def test_adding_a_mailbox_emits_an_event_and_seals_its_secrets_outside_it() -> None:
    book = Book()
    decision = book.roster(
        USER,
        AddEmail(email=" A@Example.com ", mail_type="imap", secrets={"password": Secret("canary")}),
    )
    assert decision.reply == Success("邮箱添加成功", email_id=1)
    assert book.said(U) == [
        {
            "type": "email_added",
            "email_id": 1,
            "email": "A@Example.com",
            "mail_type": "imap",
            "server": "imap.example.com",
            "port": 993,
            "use_ssl": True,
        }
    ]
    assert book.types("mailbox/1") == ["mailbox_added"]
    assert book.said("mailbox/1")[0]["secrets"] == ["password"]
    assert book.secrets == {("mailbox/1", "password"): Secret("canary")}
    assert leaks(["canary"], *(e.body for e in book.events), decision.record or b"") == []


P = {"password": Secret("canary-1")}
OAUTH = {"client_id": Secret("canary-2"), "refresh_token": Secret("canary-3")}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"email": "", "secrets": P}, "邮箱地址和密码不能为空"),
        ({"email": "no-address", "secrets": P}, "邮箱地址格式错误"),
        ({"secrets": {}}, "邮箱地址和密码不能为空"),
        ({"mail_type": "pop3", "secrets": P}, "不支持的邮箱类型"),
        ({"mail_type": "outlook", "secrets": P}, "Outlook邮箱需要提供Client ID和Refresh Token"),
        ({"mail_type": "outlook", "secrets": P | {"client_id": Secret("x")}},
         "Outlook邮箱需要提供Client ID和Refresh Token"),
        ({"mail_type": "qq", "secrets": OAUTH}, "邮箱地址和密码不能为空"),
        ({"port": 0, "secrets": P}, "端口无效"),
        ({"port": 65_536, "secrets": P}, "端口无效"),
        ({"server": "imap.example.com:993", "secrets": P}, "服务器地址无效"),
        ({"server": "0x7f000001", "secrets": P}, "服务器地址无效"),
        ({"secrets": {"password": Secret("a\r\nb")}}, "字段内容无效"),
        ({"secrets": {"password": Secret("x" * 9000)}}, "字段内容无效"),
    ],
)  # fmt: skip
def test_an_account_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    book = Book()
    decision = book.roster(USER, AddEmail(**{"email": "a@x.com", "mail_type": "imap"} | fields))
    assert isinstance(decision.reply, Refusal)
    assert (decision.reply.code, decision.reply.message) == ("invalid_field", message)
    assert decision.record == encode(decision.reply)
    assert (book.events, decision.secrets) == ([], ())


@pytest.mark.parametrize(("mail_type", "secrets"), [("outlook", OAUTH), ("gmail", OAUTH), ("gmail", P)])
def test_oauth_types_take_a_token_instead_of_a_password(mail_type: str, secrets: dict[str, Secret]) -> None:
    assert Book().add(mail_type=mail_type, secrets=secrets) == 1


# -- update -------------------------------------------------------------------------------------


def test_a_new_password_is_sealed_and_told_without_it(book: Book) -> None:
    book.roster(USER, UpdateEmail(email_id=1, secrets={"password": Secret("canary")}))
    assert book.said(U, 1) == [{"type": "email_updated", "email_id": 1}]
    assert book.said("mailbox/1", 1) == [{"type": "secret_stored", "name": "password"}]
    assert book.secrets["mailbox/1", "password"] == Secret("canary")


def test_an_update_of_nothing_says_nothing(book: Book) -> None:
    assert isinstance(book.roster(USER, UpdateEmail(email_id=1, port=993)).reply, Success)
    assert book.types(U) == ["email_added"]


def test_chosen_folders_are_kept_once_each_and_both_streams_say_so(book: Book) -> None:
    book.roster(USER, UpdateEmail(email_id=1, folders=(" Spam", "Spam", "Work/中 ")))
    assert row(book, 1)["folders"] == ["Spam", "Work/中"]
    assert book.mailbox_state(1).folders == ("Spam", "Work/中")
    book.roster(USER, UpdateEmail(email_id=1, folders=None))
    assert "folders" not in row(book, 1)
    assert book.mailbox_state(1).folders is None


@pytest.mark.parametrize("name", ["x" * 201, "a\nb", "\x7f"])
def test_a_folder_whose_name_none_can_have_is_refused_by_its_field(book: Book, name: str) -> None:
    reply = book.roster(USER, UpdateEmail(email_id=1, folders=("Spam", name))).reply
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.details) == ("invalid_field", "folders")


def test_another_type_brings_its_own_server_and_needs_its_own_secrets(book: Book) -> None:
    refused = book.roster(USER, UpdateEmail(email_id=1, mail_type="outlook")).reply
    assert isinstance(refused, Refusal)
    book.roster(USER, UpdateEmail(email_id=1, mail_type="outlook", secrets=OAUTH))
    assert (row(book, 1)["mail_type"], row(book, 1)["server"]) == ("outlook", "outlook.office365.com")


@pytest.mark.parametrize("given", [{}, {"proxy": Secret("direct")}, {"client_id": Secret("c")}])
def test_another_server_gets_no_stored_secret(book: Book, given: dict[str, Secret]) -> None:
    decision = book.roster(USER, UpdateEmail(email_id=1, server="imap.evil.example", secrets=given))
    assert isinstance(decision.reply, Refusal)
    assert decision.reply.code == "invalid_field"
    assert row(book, 1)["server"] == "imap.x.com"


def test_on_the_way_to_another_server_what_was_not_given_anew_is_destroyed() -> None:
    book = Book()
    book.roster(USER, AddEmail(email="a@gmail.com", mail_type="gmail", secrets={**OAUTH, **P}))
    decision = book.roster(USER, UpdateEmail(email_id=1, server="imap.evil.example", secrets=P))
    assert isinstance(decision.reply, Success)
    assert decision.drop_secrets == (("mailbox/1", "client_id"), ("mailbox/1", "refresh_token"))


@pytest.mark.parametrize(
    "same", [{"server": "IMAP.X.com"}, {"server": "imap.x.com", "port": 143}, {"server": "imap.gmail.com"}]
)
def test_the_same_host_and_the_hosts_of_the_table_need_no_secret_again(
    book: Book, same: dict[str, Any]
) -> None:
    decision = book.roster(USER, UpdateEmail(email_id=1, **same))
    assert isinstance(decision.reply, Success)
    assert decision.drop_secrets == ()


# -- check and cancel ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CheckEmails, CancelCheck, DeleteEmails])
def test_a_list_of_ids_is_neither_empty_nor_too_long(kind: type[CheckEmails]) -> None:
    book = Book(ids_max=3)
    for ids, code in (((), "invalid_field"), ((1, 2, 3, 4), "too_large")):
        reply = book.roster(USER, kind(ids)).reply
        assert isinstance(reply, Refusal)
        assert reply.code == code
    taken = book.roster(USER, kind((1, 2, 3))).reply
    assert not isinstance(taken, Refusal) or taken.code != "too_large"


# -- delete -------------------------------------------------------------------------------------


# -- the fold -----------------------------------------------------------------------------------


# -- the stream that only the roster writes -------------------------------------------------------
