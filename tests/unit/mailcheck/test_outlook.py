"""What Outlook sends and saves: `winmail.dat`, `.msg` files and compressed RTF, also broken ones."""

import base64
import contextlib
import random
import struct
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from huahuo.mailcheck.mime import outlook
from huahuo.mailcheck.mime.mail import Attachment, ParsedMail, attached, mail_of_outlook, parse_mail
from tests.support.models.outlook_file import FIXED, attachment, compound, sent, text

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


def test_a_text_is_read_in_the_character_set_that_is_named() -> None:
    page = struct.pack("<II", 936, 0)
    packed = SIGNATURE + attribute(CODE_PAGE, page) + attribute(BODY, "您的验证码".encode("gbk") + b"\0")
    assert read(packed).text == "您的验证码"


def test_of_a_text_that_is_only_rtf_the_words_are_read() -> None:
    rtf = rb"{\rtf1\ansi\ansicpg1252 The key is 7733\par}"
    packed = struct.pack("<II4sI", len(rtf) + 12, len(rtf), b"MELA", 0) + rtf
    assert read(SIGNATURE + attribute(PROPERTIES, properties((RTF, 0x102, packed)))).text == "The key is 7733"


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
    found = outlook.unpack(SIGNATURE + attribute(PROPERTIES, told) + attribute(BODY, b"after\0"))
    assert found is not None
    assert found.text == "after"


def test_a_property_with_a_name_of_its_own_is_passed_over() -> None:
    own = struct.pack("<HH16sI", 0x1F, 0x8001, b"", 1) + padded(wide("name")) + struct.pack("<I", 1)
    own += padded(wide("value"))
    told = struct.pack("<I", 2) + own + struct.pack("<HHI", 0x1F, TEXT, 1) + padded(wide("text"))
    found = outlook.unpack(SIGNATURE + attribute(PROPERTIES, told))
    assert found is not None
    assert found.text == "text"


def test_mails_in_mails_are_opened_to_a_bound() -> None:
    inner = SIGNATURE
    for _ in range(50):
        told = properties((CONTENT, 0x0D, b"\0" * 16 + inner))
        inner = SIGNATURE + attribute(FILE, b"\0" * 14, 2) + attribute(FILE_PROPERTIES, told, 2)
    assert len(parse_mail(mail_with(inner, "x")).attachments) == 1


AT = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
SAVED = b"%PDF canary" * 1_000
NAME_OF_DATA = "__substg1.0_37010102".encode("utf-16-le")
STREAMS = {
    FIXED: sent(AT),
    **dict([
        text("0037", "发票 March"), text("0C1A", "Zoë"), text("5D01", "zoe@example.com"),
        text("0E04", "bob@example.com"), text("1035", "<m1@example.com>"), text("1000", "Hello 你好\r\n"),
    ]),
    "__substg1.0_10130102": b"<p>Hello</p>",
    **attachment(
        0, text("3707", "发票.pdf"), text("370E", "application/pdf"), ("__substg1.0_37010102", SAVED)
    ),
    **attachment(1, *((f"__substg1.0_3701000D/{name}", data) for name, data in (
        text("0037", "Inner"), text("1000", "inside"), (FIXED, sent(AT, attached=True)),
    ))),
}  # fmt: skip


def test_a_saved_mail_has_its_headers_its_texts_and_its_files() -> None:
    source = mail_of_outlook(compound(STREAMS))
    mail = parse_mail(source)
    assert (mail.subject, mail.sender) == ("发票 March", "Zoë <zoe@example.com>")
    assert (mail.message_id, mail.date_ms) == ("<m1@example.com>", int(AT.timestamp() * 1000))
    assert "Hello 你好" in mail.text
    assert "<p>Hello</p>" in mail.html
    assert (mail.attachments[0].name, mail.attachments[0].type) == ("发票.pdf", "application/pdf")
    found = attached(source, 0, 1 << 20)
    assert found is not None
    assert found[1] == SAVED
    assert b"Subject: Inner" in source


def test_a_broken_file_gives_a_mail_or_is_refused() -> None:
    whole, chance = compound(STREAMS), random.Random(1)
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 30)):
            broken[chance.randrange(chance.choice((512, len(whole))))] = chance.randrange(256)
        with contextlib.suppress(outlook.NotCompound):
            parse_mail(mail_of_outlook(bytes(broken)))


def test_files_that_share_their_bytes_do_not_multiply_them() -> None:
    files = [attachment(n, ("__substg1.0_37010102", SAVED if n else SAVED * 9)) for n in range(9)]
    whole = bytearray(compound({name: data for one in files for name, data in one.items()}))
    assert len(mail_of_outlook(bytes(whole))) < 2 * len(whole)
    entries = [at for at in range(512, len(whole), 128) if whole[at : at + 40] == NAME_OF_DATA]
    first = max(entries, key=lambda at: whole[at + 120 : at + 128][::-1])
    for at in entries:
        whole[at + 116 : at + 128] = whole[first + 116 : first + 128]
    with pytest.raises(outlook.NotCompound):
        mail_of_outlook(bytes(whole))


def test_storages_in_many_storages_are_left_out() -> None:
    deep = "/".join("s" * (outlook.STORAGES_DEEP_MAX + 1))
    file = outlook.Compound(compound({f"{deep}/x": b"far", f"{deep[2:]}/x": b"near"}))
    assert file.below("") == [f"{deep[2:]}/x"]


PACKED = bytes.fromhex(
    "2d000000 2b000000 4c5a4675 f1c5c7a7 03000a00 72637067 31323542 320af320"
    "68656c09 00206277 05b06c64 7d0a800f a0"
)
"""The example of the format's own description."""


def unpacked(rtf: bytes, kind: bytes = b"MELA") -> bytes:
    return struct.pack("<II4sI", len(rtf) + 12, len(rtf), kind, 0) + rtf


@pytest.mark.parametrize(
    ("rtf", "told"),
    [
        (rb"{\rtf1\ansi first\par second\tab third}", "first\nsecond\tthird"),
        (rb"{\rtf1\ansi\ansicpg936 \'d1\'e9\'d6\'a4\'c2\'eb: 482913}", "验证码: 482913"),
        (rb"{\rtf1\ansi\uc1 \u39564?\u-28663?\u30721? 482913}", "验选码 482913"),
        (rb"{\rtf1{\fonttbl{\f0 Arial;}}{\*\generator Riched20;}\f0 a \{b\} c\\d}", r"a {b} c\d"),
        (
            rb"{\rtf1\fromhtml1 {\*\htmltag64 <p>}\htmlrtf {\htmlrtf0 code 482913\htmlrtf\par}\htmlrtf0 }",
            "code 482913",
        ),
    ],
    ids=["lines", "a character set of two bytes", "unicode", "tables and marks", "made from HTML"],
)
def test_the_words_of_rtf_are_its_text(rtf: bytes, told: str) -> None:
    assert outlook.text_of_rtf(unpacked(rtf)) == told


@pytest.mark.parametrize("more", [b"{" * 2_000_000, b"\\'" * 1_000_000, b"\\u9?" * 500_000])
def test_rtf_beyond_the_bound_is_not_read(more: bytes) -> None:
    assert len(outlook.text_of_rtf(unpacked(b"{\\rtf" + more))) <= outlook.TEXT_BYTES_MAX


def test_what_grows_without_end_is_unpacked_to_the_bound() -> None:
    endless = struct.pack("<II4sI", 0, 2**32 - 1, b"LZFu", 0) + b"\0{\\rtf abc" * 200_000

    assert len(outlook.text_of_rtf(endless)) <= outlook.TEXT_BYTES_MAX


def test_a_mail_that_outlook_kept_as_rtf_alone_has_its_text() -> None:
    msg = compound({
        **dict([text("0037", "Sign in"), text("5D01", "bank@example.com")]),
        "__substg1.0_10090102": PACKED,
    })  # fmt: skip

    assert b"aGVsbG8gd29ybGQ" in mail_of_outlook(msg)
