"""Labels that do not say what follows: of character sets and encodings, of lists below a mail, of senders."""

import base64

import pytest

from huahuo.mailcheck.mime.charsets import decode
from huahuo.mailcheck.mime.mail import parse_mail

TEXT = "您的验证码是 482913，请勿告诉别人"


def body_of(headers: str, body: bytes) -> str:
    return parse_mail(f"Content-Type: text/plain; charset={headers}\r\n\r\n".encode() + body).text


@pytest.mark.parametrize("label", ["gb2312", "gbk", "big5", "shift_jis", "euc-kr"])
@pytest.mark.parametrize("text", [TEXT, "验证", "登录验证", "日本語のコード", "인증번호"])
def test_utf_8_under_the_label_of_another_east_asian_set_is_read(label: str, text: str) -> None:
    assert body_of(label, text.encode()) == text


@pytest.mark.parametrize("cut_bytes", [1, 2])
def test_a_long_text_whose_last_character_is_cut_is_known_as_utf_8_too(cut_bytes: int) -> None:
    assert decode((TEXT * 20).encode()[:-cut_bytes], "gb2312") == (TEXT * 20)[:-1] + "\ufffd"


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("gb2312", "联通"),
        ("gbk", TEXT),
        ("gb18030", "浠绱鐮"),
        ("big5", "繁體中文驗證碼"),
        ("euc-kr", "한국어"),
    ],
)
def test_text_of_an_east_asian_set_is_not_taken_for_utf_8(label: str, text: str) -> None:
    assert body_of(label, text.encode(label)) == text


@pytest.mark.parametrize(
    "footer", ["--\r\nThis mail was scanned. (No virus)\r\n", "_____\r\nList: a@b.example\r\n"]
)
@pytest.mark.parametrize("text", [TEXT, TEXT + "!", TEXT + "!!"])
def test_lines_in_clear_text_below_base64_do_not_spoil_it(text: str, footer: str) -> None:
    body = base64.encodebytes((text * 20).encode()) + footer.encode()

    assert body_of("utf-8\r\nContent-Transfer-Encoding: base64", body) == text * 20


def test_a_foreign_line_amid_base64_ends_nothing() -> None:
    first, second = base64.encodebytes(("a" * 570).encode()), base64.encodebytes(("b" * 570).encode())

    found = body_of("utf-8\r\nContent-Transfer-Encoding: base64", first + b"**\r\n" + second)

    assert found == "a" * 570 + "b" * 570


@pytest.mark.parametrize("line", [1, 2])
def test_a_character_too_many_in_one_of_the_last_lines_of_base64_ends_nothing(line: int) -> None:
    lines = base64.encodebytes(b"a" * 130).split(b"\n")
    lines[line] = lines[line][:4] + b"!" + lines[line][4:]

    assert body_of("utf-8\r\nContent-Transfer-Encoding: base64", b"\n".join(lines)) == "a" * 130


def test_an_encoding_in_quotes_is_known() -> None:
    assert body_of('utf-8\r\nContent-Transfer-Encoding: "BASE64"', base64.b64encode(TEXT.encode())) == TEXT


def test_the_mark_at_the_beginning_of_a_text_is_not_shown() -> None:
    assert body_of("utf-8", b"\xef\xbb\xbfhello") == "hello"


def test_a_sender_whose_name_has_a_comma_but_no_quotes_keeps_all_of_it() -> None:
    assert parse_mail(b"From: Doe, John <a@b.example>\r\n\r\n").sender == '"Doe, John" <a@b.example>'


def test_of_two_senders_the_first_is_shown() -> None:
    assert parse_mail(b"From: x@b.example, John <a@b.example>\r\n\r\n").sender == "x@b.example"
