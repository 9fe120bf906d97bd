"""Mails as they really come: character sets, broken words, broken structure, attachments, and attacks."""

import pytest

from huahuo.mailcheck.checks.folder_reader import RawMail, fetched_mail
from huahuo.mailcheck.mime.charsets import decode
from huahuo.mailcheck.mime.mail import (
    ParsedMail,
    parse_mail,
)
from tests.support.models.broken_mails import broken_mails


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ("Content-Type: image/png; name=x.png\nContent-ID: <1>\nContent-Disposition: inline", False),
        ("Content-Type: image/png; name=x.png\nContent-ID: <1>", False),
        ("Content-Type: image/png; name=x.png", True),
        ("Content-Type: image/png\nContent-ID: <1>\nContent-Disposition: attachment; filename=x.png", True),
        ("Content-Type: image/png", False),
        ("Content-Type: image/png\nContent-ID: <logo@2>", False),
        ("Content-Type: image/png\nContent-ID: <3>", False),
    ],
)
def test_a_picture_inside_the_text_is_no_attachment(headers: str, counts: bool) -> None:
    raw = (
        "Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n"
        f"<img src='cid:1'><img src=\"CID:logo%402\"><p style='background: url(cid:3)'>\n"
        f"--b\n{headers}\n\nAAAA\n--b--\n"
    )
    assert parse_mail(raw.encode()).has_attachments is counts


@pytest.mark.parametrize(
    ("lines", "delsp", "text"),
    [
        ("A long para \ngraph that \nends.\nNext", "no", "A long para graph that ends.\nNext"),
        ("https://a.example/lo \nng?x=1", "yes", "https://a.example/long?x=1"),
        ("电子发 \n票已开具", "yes", "电子发票已开具"),
        ("> quoted \n> text\n>> deeper \nmine", "no", "> quoted text\n>> deeper \nmine"),
        ("bye \n-- \nBob", "no", "bye \n-- \nBob"),
        (" > no quote\n  two", "no", "> no quote\n two"),
        ("open end ", "no", "open end "),
        ("Hello, \n\nYour code: \n482913", "no", "Hello, \n\nYour code: 482913"),
        ("Hello, \n\nYour code: \n482913", "yes", "Hello,\n\nYour code:482913"),
    ],
)
def test_lines_that_were_broken_for_the_way_are_joined(lines: str, delsp: str, text: str) -> None:
    head = f"Content-Type: text/plain; charset=utf-8; format=flowed; delsp={delsp}\n\n"
    assert parse_mail((head + lines).encode()).text == text
    assert parse_mail(("Content-Type: text/plain; charset=utf-8\n\n" + lines).encode()).text == lines


def test_a_mail_that_defeats_the_parser_is_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def defeated(raw: bytes) -> ParsedMail:
        raise RuntimeError

    monkeypatch.setattr("huahuo.mailcheck.mime.mail.parsed_mail", defeated)
    assert parse_mail("Subject: 你好".encode()).text == "Subject: 你好"


TEXT = "您的验证码是 482913，请勿告诉别人"


@pytest.mark.parametrize("cut_bytes", [1, 2])
def test_a_long_text_whose_last_character_is_cut_is_known_as_utf_8_too(cut_bytes: int) -> None:
    assert decode((TEXT * 20).encode()[:-cut_bytes], "gb2312") == (TEXT * 20)[:-1] + "\ufffd"


def test_a_sender_whose_name_has_a_comma_but_no_quotes_keeps_all_of_it() -> None:
    assert parse_mail(b"From: Doe, John <a@b.example>\r\n\r\n").sender == '"Doe, John" <a@b.example>'


MAILS = dict(broken_mails())


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "whole"])
@pytest.mark.parametrize("name", MAILS)
def test_a_broken_mail_is_told(name: str, headers: bool) -> None:
    raw = RawMail(1, len(MAILS[name]), None, MAILS[name], truncated=False, headers=headers)

    told = fetched_mail(raw, 1, 1_700_000_000_000, codes=True)

    assert told.uid == 1
    assert told.subject == name or not name.startswith("case ")
