"""Mails that Outlook saved (`.msg`) are read as the mails that they were, and broken files do no harm."""

import contextlib
import random
from datetime import UTC, datetime

import pytest

from huahuo.mailcheck.mime.mail import attached, parse_mail
from huahuo.mailcheck.mime.outlook import STORAGES_DEEP_MAX, Compound, NotCompound, mail_of_outlook
from tests.support.models.outlook_file import FIXED, attachment, compound, sent, text

AT = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
FILE = b"%PDF canary" * 1_000
NAME_OF_DATA = "__substg1.0_37010102".encode("utf-16-le")
STREAMS = {
    FIXED: sent(AT),
    **dict([
        text("0037", "发票 March"), text("0C1A", "Zoë"), text("5D01", "zoe@example.com"),
        text("0E04", "bob@example.com"), text("1035", "<m1@example.com>"), text("1000", "Hello 你好\r\n"),
    ]),
    "__substg1.0_10130102": b"<p>Hello</p>",
    **attachment(
        0, text("3707", "发票.pdf"), text("370E", "application/pdf"), ("__substg1.0_37010102", FILE)
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
    assert found[1] == FILE
    assert b"Subject: Inner" in source


def test_a_text_in_an_old_character_set_is_guessed() -> None:
    file = compound({"__substg1.0_0037001E": "您的验证码是".encode("gbk")})
    assert parse_mail(mail_of_outlook(file)).subject == "您的验证码是"


@pytest.mark.parametrize("data", [b"", b"Subject: x\r\n\r\n", compound({})[:700], b"\xd0\xcf\x11\xe0" * 300])
def test_what_is_no_such_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotCompound):
        Compound(data)


def test_a_broken_file_gives_a_mail_or_is_refused() -> None:
    whole, chance = compound(STREAMS), random.Random(1)
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 30)):
            broken[chance.randrange(chance.choice((512, len(whole))))] = chance.randrange(256)
        with contextlib.suppress(NotCompound):
            parse_mail(mail_of_outlook(bytes(broken)))


def test_files_that_share_their_bytes_do_not_multiply_them() -> None:
    files = [attachment(n, ("__substg1.0_37010102", FILE if n else FILE * 9)) for n in range(9)]
    whole = bytearray(compound({name: data for one in files for name, data in one.items()}))
    assert len(mail_of_outlook(bytes(whole))) < 2 * len(whole)
    entries = [at for at in range(512, len(whole), 128) if whole[at : at + 40] == NAME_OF_DATA]
    first = max(entries, key=lambda at: whole[at + 120 : at + 128][::-1])
    for at in entries:
        whole[at + 116 : at + 128] = whole[first + 116 : first + 128]
    with pytest.raises(NotCompound):
        mail_of_outlook(bytes(whole))


def test_storages_in_many_storages_are_left_out() -> None:
    deep = "/".join("s" * (STORAGES_DEEP_MAX + 1))
    file = Compound(compound({f"{deep}/x": b"far", f"{deep[2:]}/x": b"near"}))
    assert file.below("") == [f"{deep[2:]}/x"]
