"""The text of mails that Outlook kept as compressed RTF."""

import struct

import pytest

from huahuo.mailcheck.mime.outlook import TEXT_BYTES_MAX, mail_of_outlook, text_of_rtf
from tests.support.models.outlook_file import compound, text

PACKED = bytes.fromhex(
    "2d000000 2b000000 4c5a4675 f1c5c7a7 03000a00 72637067 31323542 320af320"
    "68656c09 00206277 05b06c64 7d0a800f a0"
)
"""The example of the format's own description."""


def unpacked(rtf: bytes, kind: bytes = b"MELA") -> bytes:
    return struct.pack("<II4sI", len(rtf) + 12, len(rtf), kind, 0) + rtf


def test_packed_text_is_read() -> None:
    assert text_of_rtf(PACKED) == "hello world"


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
    assert text_of_rtf(unpacked(rtf)) == told


@pytest.mark.parametrize(
    "data", [b"", b"x" * 40, PACKED[:20], unpacked(b"no rtf"), unpacked(b"{\\rtf", b"ABCD")]
)
def test_what_is_no_rtf_has_no_text(data: bytes) -> None:
    assert text_of_rtf(data) == ""


@pytest.mark.parametrize("more", [b"{" * 2_000_000, b"\\'" * 1_000_000, b"\\u9?" * 500_000])
def test_rtf_beyond_the_bound_is_not_read(more: bytes) -> None:
    assert len(text_of_rtf(unpacked(b"{\\rtf" + more))) <= TEXT_BYTES_MAX


def test_what_grows_without_end_is_unpacked_to_the_bound() -> None:
    endless = struct.pack("<II4sI", 0, 2**32 - 1, b"LZFu", 0) + b"\0{\\rtf abc" * 200_000

    assert len(text_of_rtf(endless)) <= TEXT_BYTES_MAX


def test_a_mail_that_outlook_kept_as_rtf_alone_has_its_text() -> None:
    msg = compound({
        **dict([text("0037", "Sign in"), text("5D01", "bank@example.com")]),
        "__substg1.0_10090102": PACKED,
    })  # fmt: skip

    assert b"aGVsbG8gd29ybGQ" in mail_of_outlook(msg)
