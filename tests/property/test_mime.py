"""Any bytes are a mail: nothing raises, and the result is always text that JSON can carry."""

from email.message import EmailMessage

from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.mailcheck.mime.charsets import decode, readable
from huahuo.mailcheck.mime.mail import content_document, parse_mail, parsed_mail
from tests.support.proofs import examples

BITS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\n\n", b"\r\n\r\n", b";", b'"', b"\\", b"=", b"?", b"\0"),
        *(b"Subject: ", b"From: ", b"Date: ", b"Content-Type: ", b"Content-Disposition: attachment"),
        *(b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n"),
        *(b"multipart/mixed", b"multipart/related", b"message/rfc822", b"text/html", b"text/plain"),
        *(b"; boundary=b", b"\n--b\n", b"\n--b--\n", b"; charset=", b"gb2312", b"utf-7", b"iso-2022-jp"),
        *(b"=?utf-8?B?", b"?=", b"=?gbk?Q?", b"; filename*0*=utf-8''", b"; filename*=", b"%ff", b"\xff\xfe"),
        *(b"\x1b$B", b"~{", b"+2AA-", b"\xed\xa0\x80", b"Tue, 01 Jul 2025 10:00:00 +9999", b"<a@b.c>"),
    ]
)
MAILS = st.lists(st.one_of(BITS, st.binary(max_size=8)), max_size=60).map(b"".join)


@settings(max_examples=examples(600), deadline=None)
@given(MAILS)
def test_no_mail_raises_and_every_mail_is_json(raw: bytes) -> None:
    mail = parsed_mail(raw)
    content_document(mail, truncated=False).decode("utf-8")
    for line in (mail.subject, mail.sender, mail.message_id, *(each.name for each in mail.attachments)):
        assert not any(char in line for char in "\r\n\0")
        line.encode("utf-8")
    assert mail.has_attachments == bool(mail.attachments)


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_raise(raw: bytes) -> None:
    content_document(parsed_mail(raw), truncated=True)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.binary(max_size=40),
    st.one_of(st.text(max_size=20), st.sampled_from(["utf-7", "hz", "utf-16", "big5"])),
)
def test_decoding_never_raises_and_gives_clean_text(raw: bytes, label: str) -> None:
    text = decode(raw, label)
    text.encode("utf-8")
    assert "\0" not in text


@settings(max_examples=examples(200), deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=60))
def test_a_subject_written_by_the_standard_library_is_read_back(subject: str) -> None:
    mail = EmailMessage()
    mail["Subject"] = subject.strip()
    mail.set_content("x")
    shown = parse_mail(mail.as_bytes()).subject
    assert shown.split() == subject.split()


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([b"=?utf-8?Q?", b"?=", b"=?b?B?", b"=", b"\xff"]), st.binary(max_size=5))
    )
)
def test_header_values_never_raise(pieces: list[bytes]) -> None:
    assert "\n" not in readable(b"".join(pieces), charset="gbk")
