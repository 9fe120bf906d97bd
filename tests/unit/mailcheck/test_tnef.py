"""Texts and files inside `winmail.dat`, as Outlook sends them, and broken ones."""

import base64
import struct

import pytest

from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.mime.mail import Attachment, ParsedMail, attached, parse_mail
from huahuo.mailcheck.mime.tnef import unpack

SIGNATURE = struct.pack("<IH", 0x223E9F78, 1)
BODY, SUBJECT, CODE_PAGE, PROPERTIES = 0x0002800C, 0x00018004, 0x00069007, 0x00069003
FILE, TITLE, DATA, FILE_PROPERTIES = 0x00069002, 0x00018010, 0x0006800F, 0x00069005
TEXT, HTML, RTF, LONG_NAME, MIME_TYPE, CONTENT = 0x1000, 0x1013, 0x1009, 0x3707, 0x370E, 0x3701


def attribute(name: int, data: bytes, level: int = 1) -> bytes:
    return struct.pack("<BII", level, name, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)


def padded(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data + b"\0" * (-len(data) % 4)


def properties(*pairs: tuple[int, int, bytes]) -> bytes:
    """Of ids, types and values, each of variable length."""
    whole = struct.pack("<I", len(pairs))
    for name, kind, value in pairs:
        whole += struct.pack("<HHI", kind, name, 1) + padded(value)
    return whole


def wide(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


def mail_with(packed: bytes, text: str = "") -> bytes:
    return (
        b"From: a@b.example\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + (
            b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode() + b"\r\n"
            if text
            else b""
        )
        + b"--b\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(packed) + b"\r\n--b--\r\n"
    )


def read(packed: bytes, text: str = "") -> ParsedMail:
    return parse_mail(mail_with(packed, text))


def a_file(name: str, content: bytes) -> bytes:
    return (
        attribute(FILE, b"\0" * 14, 2)
        + attribute(TITLE, name.encode("cp1252", "replace") + b"\0", 2)
        + attribute(DATA, content, 2)
    )


def test_a_text_that_only_winmail_dat_has_is_the_text_of_the_mail() -> None:
    found = read(SIGNATURE + attribute(BODY, b"Your verification code is 482913\0"))
    assert found.text == "Your verification code is 482913"
    code = code_of(found.subject, found.text, found.html)
    assert code is not None
    assert code.text == "482913"


def test_a_text_of_its_own_goes_before_that_of_winmail_dat() -> None:
    assert read(SIGNATURE + attribute(BODY, b"packed\0"), "own").text.strip() == "own"


def test_a_text_is_read_in_the_character_set_that_is_named() -> None:
    page = struct.pack("<II", 936, 0)
    packed = SIGNATURE + attribute(CODE_PAGE, page) + attribute(BODY, "您的验证码".encode("gbk") + b"\0")
    assert read(packed).text == "您的验证码"


def test_texts_of_properties_are_read() -> None:
    found = read(
        SIGNATURE
        + attribute(PROPERTIES, properties((TEXT, 0x1F, wide("plain 验证码")), (HTML, 0x102, b"<p>html</p>")))
    )
    assert (found.text, found.html) == ("plain 验证码", "<p>html</p>")


def test_of_a_text_that_is_only_rtf_the_words_are_read() -> None:
    rtf = rb"{\rtf1\ansi\ansicpg1252 The key is 7733\par}"
    packed = struct.pack("<II4sI", len(rtf) + 12, len(rtf), b"MELA", 0) + rtf
    assert read(SIGNATURE + attribute(PROPERTIES, properties((RTF, 0x102, packed)))).text == "The key is 7733"


def test_its_files_take_the_place_of_winmail_dat() -> None:
    packed = SIGNATURE + a_file("plan.pdf", b"%PDF") + a_file("b.txt", b"bee")
    raw = mail_with(packed, "see files")
    found = parse_mail(raw)
    assert found.has_attachments
    assert found.attachments == [
        Attachment("plan.pdf", "application/octet-stream", 4),
        Attachment("b.txt", "application/octet-stream", 3),
    ]
    assert attached(raw, 1, 100) == (Attachment("b.txt", "application/octet-stream", 3), b"bee")


def test_a_file_has_its_long_name_and_type() -> None:
    told = properties((LONG_NAME, 0x1F, wide("发票 2025.pdf")), (MIME_TYPE, 0x1F, wide("application/pdf")))
    packed = SIGNATURE + a_file("F~1.PDF", b"%PDF") + attribute(FILE_PROPERTIES, told, 2)
    assert read(packed, "x").attachments == [Attachment("发票 2025.pdf", "application/pdf", 4)]


def test_an_attached_mail_is_listed_and_can_be_read() -> None:
    inner = (
        SIGNATURE + attribute(SUBJECT, b"Inner\0") + attribute(BODY, b"inner text\0") + a_file("i.bin", b"12")
    )
    told = properties((CONTENT, 0x0D, b"\0" * 16 + inner))
    raw = mail_with(SIGNATURE + attribute(FILE, b"\0" * 14, 2) + attribute(FILE_PROPERTIES, told, 2), "x")
    assert [(one.name, one.type) for one in parse_mail(raw).attachments] == [("Inner.eml", "message/rfc822")]
    found = attached(raw, 0, 10_000)
    assert found is not None
    mail = parse_mail(found[1])
    assert (mail.subject, mail.text, [one.name for one in mail.attachments]) == (
        "Inner",
        "inner text",
        ["i.bin"],
    )


def test_one_without_files_or_text_is_listed_as_it_came() -> None:
    assert [one.name for one in read(SIGNATURE, "x").attachments] == ["winmail.dat"]
    assert [one.name for one in read(b"no such thing", "x").attachments] == ["winmail.dat"]


def test_one_that_is_the_whole_mail_is_read() -> None:
    packed = base64.encodebytes(SIGNATURE + attribute(BODY, b"alone\0"))
    head = b"Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    found = parse_mail(head + packed)
    assert (found.text, found.has_attachments) == ("alone", False)


@pytest.mark.parametrize("named", [b"application/octet-stream; name=WinMail.dat", b"application/vnd.ms-tnef"])
def test_it_is_known_by_its_type_or_its_name(named: bytes) -> None:
    packed = base64.encodebytes(SIGNATURE + attribute(BODY, b"found\0"))
    head = b"Content-Type: " + named + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert parse_mail(head + packed).text == "found"


def test_a_text_outlives_what_is_cut_off_after_it() -> None:
    whole = SIGNATURE + attribute(BODY, b"kept\0") + a_file("f", b"x" * 1000)
    for length in range(len(SIGNATURE) + len(attribute(BODY, b"kept\0")), len(whole), 97):
        found = unpack(whole[:length])
        assert found is not None
        assert found.text == "kept"


@pytest.mark.parametrize(
    "told",
    [
        struct.pack("<I", 0xFFFFFFFF) + b"\0" * 1000,
        struct.pack("<IHHI", 1, 0x1003, 0x1000, 0xFFFFFFF),
        struct.pack("<IHHII", 1, 0x1F, 0x1000, 1, 0xFFFFFFFF),
        struct.pack("<IHH", 1, 0x7777, 0x1000),
        struct.pack("<IHH16sII", 1, 0x1F, 0x8001, b"", 1, 0xFFFFFF),
        b"\1",
    ],
)
def test_broken_properties_end_the_reading_of_them(told: bytes) -> None:
    found = unpack(SIGNATURE + attribute(PROPERTIES, told) + attribute(BODY, b"after\0"))
    assert found is not None
    assert found.text == "after"


def test_a_property_with_a_name_of_its_own_is_passed_over() -> None:
    own = struct.pack("<HH16sI", 0x1F, 0x8001, b"", 1) + padded(wide("name")) + struct.pack("<I", 1)
    own += padded(wide("value"))
    told = struct.pack("<I", 2) + own + struct.pack("<HHI", 0x1F, TEXT, 1) + padded(wide("text"))
    found = unpack(SIGNATURE + attribute(PROPERTIES, told))
    assert found is not None
    assert found.text == "text"


def test_mails_in_mails_are_opened_to_a_bound() -> None:
    inner = SIGNATURE
    for _ in range(50):
        told = properties((CONTENT, 0x0D, b"\0" * 16 + inner))
        inner = SIGNATURE + attribute(FILE, b"\0" * 14, 2) + attribute(FILE_PROPERTIES, told, 2)
    assert len(parse_mail(mail_with(inner, "x")).attachments) == 1
