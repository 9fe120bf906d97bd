"""Mails as they really come: character sets, broken words, broken structure, attachments, and attacks."""

import base64
import time

import pytest

from huahuo.mailcheck.checks.folder_reader import RawMail, fetched_mail
from huahuo.mailcheck.mime.charsets import decode
from huahuo.mailcheck.mime.mail import (
    ParsedMail,
    attached,
    parse_mail,
)
from huahuo.mailcheck.mime.parts import HEADERS_BYTES_MAX
from tests.support.models.broken_mails import broken_mails


def subject_of(value: bytes) -> str:
    return parse_mail(b"Subject: " + value + b"\r\n\r\nbody").subject


def word(raw: bytes, charset: str) -> bytes:
    return b"=?" + charset.encode() + b"?B?" + base64.b64encode(raw) + b"?="


def body_of(raw: bytes, charset: str) -> str:
    header = b'Content-Type: text/plain; charset="' + charset.encode() + b'"\r\n\r\n'
    return parse_mail(header + raw).text


CHARSETS = [
    ("utf-8", "utf-8", "验证码 ёж 日本 é"),
    ("gb2312", "gbk", "您的验证码是123456"),
    ("gb2312", "gbk", "朱镕基"),  # a GBK character under the GB2312 label, as most senders do it
    ("GBK", "gbk", "简体中文"),
    ("gb18030", "gb18030", "𠀀𪚥"),
    ("big5", "big5", "繁體中文驗證碼"),
    ("iso-2022-jp", "iso2022_jp", "日本語のメール"),
    ("Shift_JIS", "cp932", "日本語①"),
    ("euc-jp", "euc_jp", "日本語"),
    ("ks_c_5601-1987", "cp949", "한국어"),
    ("KOI8-R", "koi8-r", "Привет"),
    ("windows-1251", "cp1251", "Привет"),
    ("iso-8859-1", "cp1252", "café – “quoted”"),
    ("iso-8859-9", "iso8859-9", "İstanbul"),
    ("windows-1256", "cp1256", "مرحبا"),
    ("hz-gb-2312", "hz", "中文"),
    ("utf-7", "utf-7", "日本"),
    ("utf-16", "utf-16", "日本"),
]


@pytest.mark.parametrize(("label", "codec", "text"), CHARSETS)
def test_a_body_in_any_character_set_is_read(label: str, codec: str, text: str) -> None:
    assert body_of(text.encode(codec), label) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"=?utf-8?Q?caf=C3=A9_au_lait?=", "café au lait"),
        (b"=?utf-8?q?with blanks inside?=", "with blanks inside"),
        (b"Re: =?utf-8?B?5L2g5aW9?= [x] =?utf-8?B?5L2g?= =?utf-8?B?5aW9?= end", "Re: 你好 [x] 你好 end"),
        (b"=?utf-8?B?5L2g5aW9?=tail", "你好tail"),
        (b"=?utf-8*zh?B?5L2g5aW9?=", "你好"),
        (b"=?utf-8?B?5L2g5aW9", "=?utf-8?B?5L2g5aW9"),
        (b"=?utf-8?B?5L2g 5aW9 ?=", "你好"),
        (b"=?utf-8?B?5L2g5aW?=", "你\ufffd"),
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"=?x-nonsense?B?5L2g5aW9?=", "你好"),
        (b"=?utf-8?B??=", ""),
        (b"=?utf-8?B?****?=", ""),
        (b"=?gb2312?B?xOO6ww==?= =?utf-8?B?5L2g5aW9?=", "你好你好"),
        (b"two\r\n\tlines", "two lines"),
        (b"", ""),
    ],
)
def test_encoded_words_are_read_as_far_as_they_can_be(raw: bytes, text: str) -> None:
    assert subject_of(raw) == text


def test_a_subject_is_one_visible_line() -> None:
    hostile = "a\r\nBcc: x\x00\x1b[31m\u202ereversed\u2066\u2028b\ud800\ufeff\x85c"
    shown = subject_of(word(hostile.encode("utf-8", "surrogatepass"), "utf-8"))
    assert "\n" not in shown
    assert shown.startswith("a Bcc: x[31mreversed b")
    assert not any(char in shown for char in "\r\n\0\x1b\u202e\u2066\u2028\ud800\ufeff\x85")


@pytest.mark.parametrize(
    ("raw", "sender"),
    [
        (b"Bob <bob@example.com>", "Bob <bob@example.com>"),
        (b"bob@example.com", "bob@example.com"),
        (b"<bob@example.com>", "bob@example.com"),
        (b'"Bob, Jr." <bob@example.com>', '"Bob, Jr." <bob@example.com>'),
        (word("张三".encode("gbk"), "gb2312") + b" <z@163.com>", "张三 <z@163.com>"),
        (b'"' + word("张三".encode(), "utf-8") + b'" <z@163.com>', "张三 <z@163.com>"),
        ("张三 <z@163.com>".encode(), "张三 <z@163.com>"),
        ("张三 <z@163.com>".encode("gbk"), "张三 <z@163.com>"),
        (
            word(b"boss@bank.com <boss@bank.com>", "utf-8") + b" <evil@x.org>",
            '"boss@bank.com <boss@bank.com>" <evil@x.org>',
        ),
        (b"a@x.org, b@x.org", "a@x.org"),
        (b"Undisclosed: ;", "Undisclosed: ;"),
        (b"not an address", "not an address"),
        (b"", ""),
        (b"(" * 3000, "(" * 319 + "…"),
    ],
)
def test_a_sender_is_a_name_and_the_address_it_really_has(raw: bytes, sender: str) -> None:
    assert parse_mail(b"From: " + raw + b"\r\n\r\n").sender == sender


@pytest.mark.parametrize(
    ("raw", "ms"),
    [
        (b"Tue, 01 Jul 2025 10:00:00 +0800", 1_751_335_200_000),
        (b"1 Jul 2025 02:00:00 GMT", 1_751_335_200_000),
        (b"Tue, 01 Jul 2025 02:00:00 -0000", 1_751_335_200_000),
        (b"Tue, 1 Jul 25 02:00 UT", 1_751_335_200_000),
        (b"Tue, 01 Jul 2025 10:00:00 +0800 (CST)", 1_751_335_200_000),
        (b"", None),
        (b"yesterday", None),
        (b"Tue, 99 Foo 2025 99:99:99 +9999", None),
        (b"Fri, 31 Dec 9999 23:59:59 -2359", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_a_date_is_read_or_absent(raw: bytes, ms: int | None) -> None:
    assert parse_mail(b"Date: " + raw + b"\r\n\r\n").date_ms == ms


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
    ("headers", "counts"),
    [
        ("Content-Type: application/pdf; name=x.pdf", True),
        ("Content-Type: text/plain; name=x.txt", False),
        ("Content-Type: text/plain; name=x.txt\nContent-Disposition: attachment", True),
        ("Content-Disposition: ATTACHMENT", True),
        ("Content-Type: text/calendar; name=invite.ics", True),
        ("Content-Type: text/csv", True),
        ("Content-Type: application/pdf", True),
        ("Content-Type: application/pdf\nContent-ID: <1>", True),
        ("Content-Type: image/jpeg\nContent-ID: <1>", True),
        ("Content-Type: message/rfc822", True),
        ("Content-Type: image/jpeg; name=photo.jpg\nContent-ID: <1>", True),
    ],
)
def test_what_counts_as_an_attachment_in_a_mixed_mail(headers: str, counts: bool) -> None:
    raw = f"Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n{headers}\n\nAAAA\n--b--\n"
    assert parse_mail(raw.encode()).has_attachments is counts


@pytest.mark.parametrize("parent", ["related", "mixed"])
def test_a_picture_that_the_text_does_not_show_is_listed_and_given(parent: str) -> None:
    raw = (
        f"Content-Type: multipart/{parent}; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src='cid:1'>\n"
        "--b\nContent-Type: image/png\nContent-ID: <1>\n\nshown\n"
        "--b\nContent-Type: image/png\nContent-ID: <2>\n\nAAAA\n--b--\n"
    ).encode()
    [listed] = parse_mail(raw).attachments
    assert (listed.name, listed.type) == ("image.png", "image/png")
    assert attached(raw, 0, 100) == (listed, b"AAAA")


@pytest.mark.parametrize("parent", ["signed", "report", "encrypted"])
def test_what_is_for_programs_is_no_file(parent: str) -> None:
    part = "--b\n\ntext\n--b\nContent-Type: application/pgp-signature\n\nAAAA\n--b--\n"
    assert not parse_mail(f"Content-Type: multipart/{parent}; boundary=b\n\n{part}".encode()).attachments


def test_an_invitation_that_is_attached_too_is_listed_once() -> None:
    calendar = "Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n"
    alternative = (
        "Content-Type: multipart/alternative; boundary=c\n\n--c\n\ntext\n--c\n" + calendar + "--c--\n"
    )
    attachment = "Content-Type: application/ics; name=invite.ics\nContent-Disposition: attachment\n\nBEGIN\n"
    both = f"Content-Type: multipart/mixed; boundary=b\n\n--b\n{alternative}--b\n{attachment}--b--\n"
    assert [one.name for one in parse_mail(both.encode()).attachments] == ["invite.ics"]
    assert [one.name for one in parse_mail(alternative.encode()).attachments] == ["invite.ics"]


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


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("filename*=utf-8''%E5%8F%91%E7%A5%A8.pdf", "发票.pdf"),
        ("filename*0*=utf-8''%E5%8F%91%E7; filename*1*=%A5%A8; filename*2=\".pdf\"", "发票.pdf"),
        ('filename="=?utf-8?B?5Y+R56WoLnBkZg==?="', "发票.pdf"),
        ("filename=plain.pdf", "plain.pdf"),
        ('filename="a\\"b.pdf"', 'a"b.pdf'),
        ('filename="unclosed.pdf', "unclosed.pdf"),
        ("filename=../../etc/passwd", "../../etc/passwd"),
        ('filename="evil\u202efdp.exe"', "evilfdp.exe"),
        ("filename*=nonsense", "nonsense"),
        ("filename", ""),
    ],
)
def test_a_file_name_is_read_in_each_way_of_writing_it(parameter: str, name: str) -> None:
    raw = f"Content-Disposition: attachment; {parameter}\n\nx".encode()
    assert [each.name for each in parse_mail(raw).attachments] == [name]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        # never closed
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo", "one\ntwo"),
        # the boundary is not the one announced
        (
            b"Content-Type: multipart/mixed; boundary=b\n\n--c\nContent-Type: text/plain\n\none\n--c--\n",
            "one",
        ),
        # no boundary announced
        (b"Content-Type: multipart/mixed\n\n--c\nContent-Type: text/plain\n\none\n--c--\n", "one"),
        # no boundary anywhere
        (b"Content-Type: multipart/mixed; boundary=b\n\nnothing like it", "nothing like it"),
        # a longer line that begins like the boundary
        (
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--bb\nstill\n--b--\n",
            "one\n--bb\nstill",
        ),
        # preamble and epilogue
        (b"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\none\n--b--\nepilogue", "one"),
        # a quoted boundary with blanks
        (b'Content-Type: multipart/mixed; boundary="a b"\n\n--a b\n\none\n--a b--\n', "one"),
        # an empty part
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\none\n--b--\n", "\none"),
    ],
)
def test_broken_structure_shows_what_there_is(raw: bytes, text: str) -> None:
    assert parse_mail(raw).text == text


def test_the_headers_of_all_parts_share_a_bound_and_the_root_comes_first() -> None:
    padding = b"X:\n" * 80_000
    part = b"\n--b\n" + padding + b"Content-Disposition: attachment\n\nAAAA"
    raw = padding + b"Content-Type: multipart/mixed; boundary=b\nSubject: s\n\n" + part * 10 + b"\n--b--\n"
    parsed = parse_mail(raw)
    assert len(padding) * 5 > HEADERS_BYTES_MAX > len(padding) * 4
    assert parsed.subject == "s"
    assert len(parsed.attachments) == 3, "the root and three of its parts fit"


NEST = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000))
ATTACKS = {
    "nesting": NEST + b"line\n" * 400_000,
    "endless header": b"Subject: " + b"a\n " * 1_000_000,
    "a million headers": b"X:\n" * 1_000_000,
    "a million parts": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"\n--x" * 1_000_000,
    "a million near boundaries": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"\n--xY" * 1_000_000,
    "parameters": b"Content-Type: a/b" + b';a="' * 100_000 + b"\n\n",
    "backslashes": b'Content-Type: a/b; name="' + b"\\" * 100_000 + b"\n\n",
    "half words": b"Subject: " + b"=?a?q?" * 50_000 + b"\n\n",
    "commas": b"From: " + b"," * 100_000 + b"\n\n",
    "comments": b"From: " + b"(" * 100_000 + b"\n\n",
    "blanks": b"Content-Type: multipart/mixed\n\n--" + b" " * 1_000_000,
    "shifts": b"Content-Type: text/plain; charset=hz\n\n" + b"~{~}" * 500_000,
    "base64": b"Content-Transfer-Encoding: base64\n\n" + b"=A\n" * 1_000_000,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_mail_costs_no_more_than_its_size(name: str) -> None:
    """The bound is generous, for slow machines; what is quadratic takes minutes at this size."""
    started = time.thread_time()
    parse_mail(ATTACKS[name])
    assert time.thread_time() - started < 3


def test_a_mail_that_defeats_the_parser_is_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def defeated(raw: bytes) -> ParsedMail:
        raise RuntimeError

    monkeypatch.setattr("huahuo.mailcheck.mime.mail.parsed_mail", defeated)
    assert parse_mail("Subject: 你好".encode()).text == "Subject: 你好"


TEXT = "您的验证码是 482913，请勿告诉别人"


def labelled_body_of(headers: str, body: bytes) -> str:
    return parse_mail(f"Content-Type: text/plain; charset={headers}\r\n\r\n".encode() + body).text


@pytest.mark.parametrize("label", ["gb2312", "gbk", "big5", "shift_jis", "euc-kr"])
@pytest.mark.parametrize("text", [TEXT, "验证", "登录验证", "日本語のコード", "인증번호"])
def test_utf_8_under_the_label_of_another_east_asian_set_is_read(label: str, text: str) -> None:
    assert labelled_body_of(label, text.encode()) == text


@pytest.mark.parametrize("cut_bytes", [1, 2])
def test_a_long_text_whose_last_character_is_cut_is_known_as_utf_8_too(cut_bytes: int) -> None:
    assert decode((TEXT * 20).encode()[:-cut_bytes], "gb2312") == (TEXT * 20)[:-1] + "\ufffd"


def test_a_foreign_line_amid_base64_ends_nothing() -> None:
    first, second = base64.encodebytes(("a" * 570).encode()), base64.encodebytes(("b" * 570).encode())

    found = labelled_body_of("utf-8\r\nContent-Transfer-Encoding: base64", first + b"**\r\n" + second)

    assert found == "a" * 570 + "b" * 570


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
