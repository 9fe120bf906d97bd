"""Texts and files inside `winmail.dat`, as Outlook sends them, and broken ones."""

import base64
import struct
from hashlib import sha256

import pytest

from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.mime.mail import Attachment, ParsedMail, attached, parse_mail
from huahuo.mailcheck.mime.outlook import unpack

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


def with_another(packed: bytes) -> bytes:
    """A mail with `b.pdf` behind its `winmail.dat`."""
    other = b"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=b.pdf\r\n\r\n"
    return mail_with(packed).replace(b"\r\n--b--", b"\r\n" + other + b"%PDF b\r\n--b--")


@pytest.mark.parametrize(
    ("packed", "names"),
    [
        (a_file("1.txt", b"1") + a_file("2.txt", b"2"), ["1.txt", "b.pdf", "2.txt"]),
        (attribute(BODY, b"only a text\0"), ["winmail.dat", "b.pdf"]),
        (attribute(BODY, b"a text\0") + a_file("1.txt", b"1"), ["1.txt", "b.pdf"]),
    ],
    ids=["two files", "a text", "a text and a file"],
)
def test_a_file_behind_winmail_dat_keeps_its_number(packed: bytes, names: list[str]) -> None:
    raw = with_another(SIGNATURE + packed)
    assert [one.name for one in parse_mail(raw).attachments] == names
    found = attached(raw, 1, 100)
    assert found is not None
    assert (found[0].name, found[1]) == ("b.pdf", b"%PDF b")


def packed_mail(inner: bytes) -> bytes:
    """A mail attached to another one."""
    told = properties((CONTENT, 0x0D, b"\0" * 16 + SIGNATURE + inner))
    return attribute(FILE, b"\0" * 14, 2) + attribute(FILE_PROPERTIES, told, 2)


def files_of_first(packed: bytes) -> list[tuple[Attachment, bytes]]:
    """The files of the mail that is the first attachment."""
    raw = attached(mail_with(SIGNATURE + packed, "x"), 0, 100_000)
    assert raw is not None
    found = [attached(raw[1], number, 100_000) for number in range(len(parse_mail(raw[1]).attachments))]
    return [one for one in found if one is not None]


def test_a_file_behind_a_mail_in_an_attached_mail_is_found() -> None:
    innermost = packed_mail(attribute(BODY, b"innermost\0") + a_file("deep.txt", b"deep"))
    found = files_of_first(packed_mail(innermost + a_file("behind.txt", b"behind")))
    assert [about.name for about, _ in found] == ["mail.eml", "behind.txt"]
    assert found[1][1] == b"behind"
    assert [one.name for one in parse_mail(found[0][1]).attachments] == ["deep.txt"]


def test_no_content_of_an_attached_mail_is_taken_for_its_boundary() -> None:
    def source(*contents: bytes) -> bytes:
        files = b"".join(a_file(f"{n}.bin", content) for n, content in enumerate(contents))
        raw = attached(mail_with(SIGNATURE + packed_mail(files), "x"), 0, 100_000)
        assert raw is not None
        return raw[1]

    boundary = source(b"first").partition(b'boundary="')[2].partition(b'"')[0]
    content = b"first\r\n--" + boundary + b"\r\n\r\nno part\r\n--" + boundary + b"--\r\n"
    raw = source(content, b"second")
    assert [attached(raw, number, 10_000) for number in range(2)] == [
        (Attachment("0.bin", "application/octet-stream", len(content)), content),
        (Attachment("1.bin", "application/octet-stream", 6), b"second"),
    ]


def test_contents_are_not_searched_for_a_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that holds every boundary of a series made each of them be looked for in all files."""
    hashed: list[int] = []

    def counted(data: bytes) -> object:
        hashed.append(len(data))
        return sha256(data)

    monkeypatch.setattr("huahuo.mailcheck.mime.mail.sha256", counted)
    content = b"".join(b"=_of_winmail_dat" + b"_" * n + b"\n" for n in range(200))
    files_of_first(packed_mail(a_file("a.bin", content)))
    assert set(hashed) == {len(content)}


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
