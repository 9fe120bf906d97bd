"""IMAP's texts: how credentials are written, and what a response says."""

import pytest

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import BadCredentials, BrokenProtocol
from huahuo.mailcheck.servers.imap_grammar import (
    CREDENTIAL_BYTES_MAX,
    Fetched,
    fetched,
    literal_size,
    login_pieces,
    number,
    search_uids,
    status,
    uid_set,
)


@pytest.mark.parametrize(
    ("user", "password", "pieces"),
    [
        ("bob", "pw", [b'LOGIN "bob" "pw"\r\n']),
        ("bob", "", [b'LOGIN "bob" ""\r\n']),
        ("bob", 'a"b\\c', [b'LOGIN "bob" "a\\"b\\\\c"\r\n']),
        ("bob", "pä", [b'LOGIN "bob" {3}\r\n', b"p\xc3\xa4\r\n"]),
        ("ü", "p", [b"LOGIN {2}\r\n", b'\xc3\xbc "p"\r\n']),
        ("ü", "ä", [b"LOGIN {2}\r\n", b"\xc3\xbc {2}\r\n", b"\xc3\xa4\r\n"]),
        ("bob", "a\tb", [b'LOGIN "bob" {3}\r\n', b"a\tb\r\n"]),
        ("bob", "{5}", [b'LOGIN "bob" "{5}"\r\n']),
    ],
)
def test_credentials_are_quoted_or_sent_as_literals(user: str, password: str, pieces: list[bytes]) -> None:
    assert [bytes(piece) for piece in login_pieces(user, Secret(password))] == pieces


@pytest.mark.parametrize("evil", ["a\r", "a\nb", "\0", "\ud800", "x" * (CREDENTIAL_BYTES_MAX + 1)])
def test_what_cannot_be_sent_is_refused_for_user_and_password(evil: str) -> None:
    for user, password in ((evil, "p"), ("u", evil)):
        with pytest.raises(BadCredentials) as refused:
            login_pieces(user, Secret(password))
        assert evil not in str(refused.value)


def test_the_pieces_do_not_show_the_password() -> None:
    assert "canary" not in repr(login_pieces("bob", Secret("canary")))
    assert "canary" not in repr(login_pieces("bob", Secret("cänary canary")))


@pytest.mark.parametrize(
    ("uids", "text"), [([5], b"5"), ([1, 2, 3], b"1:3"), ([1, 3, 4, 9], b"1,3:4,9"), ([7, 9], b"7,9")]
)
def test_uids_are_written_as_ranges_that_hold_nothing_else(uids: list[int], text: bytes) -> None:
    assert uid_set(uids) == text


@pytest.mark.parametrize(
    ("line", "size"),
    [(b"x {12}", 12), (b"x {0}", 0), (b"x {1} y", None), (b"{-1}", None), (b"{99999999999}", None)],
)
def test_a_line_says_how_long_its_literal_is(line: bytes, size: int | None) -> None:
    assert literal_size(line) == size


def test_a_status_has_code_and_text() -> None:
    said = status(b"h3 NO [AUTHENTICATIONFAILED] Invalid credentials")
    assert said is not None
    assert (said.tag, said.status, said.code, said.text) == (
        b"h3",
        "NO",
        "AUTHENTICATIONFAILED",
        b"Invalid credentials",
    )
    said = status(b"* ok [uidvalidity 42]")
    assert said is not None
    assert (said.status, said.code, said.argument) == ("OK", "UIDVALIDITY", b"42")
    assert status(b"* 3 EXISTS") is None


@pytest.mark.parametrize("line", [b"", b" ", b"h1", b"h1 EXISTS", b"\xff\xff", b"*"])
def test_a_line_without_form_is_a_broken_protocol(line: bytes) -> None:
    if line == b"*":
        assert status(line) is None
        return
    with pytest.raises(BrokenProtocol):
        status(line)


@pytest.mark.parametrize(("text", "value"), [(b"0", 0), (b"42", 42), (b"4294967295", 2**32 - 1)])
def test_a_number_has_32_bits(text: bytes, value: int) -> None:
    assert number(text) == value
    assert number(b"-" + text) is None
    assert number(b"9" + text.rjust(10, b"0")) is None


def test_search_results_are_numbers() -> None:
    assert search_uids(b"") == []
    assert search_uids(b" 3 1 2 ") == [3, 1, 2]
    assert search_uids(b"1 2 (MODSEQ 917162500)") == [1, 2]


def test_a_fetch_tells_uid_size_date_and_body() -> None:
    told = fetched([b'3 FETCH (UID 9 RFC822.SIZE 120 INTERNALDATE "01-Jul-2025 10:00:00 +0800")'])
    assert told == Fetched(9, 120, 1_751_335_200_000)
    assert fetched([(b"3 FETCH (UID 9 BODY[] {4}", b"body"), b")"]) == Fetched(9, body=b"body")
    assert fetched([(b"3 fetch (BODY[]<0> {4}", b"body"), b" UID 9)"]) == Fetched(9, body=b"body")
    assert fetched([b'3 FETCH (UID 9 BODY[] "quoted")']) == Fetched(9, body=b"quoted")
    assert fetched([b'3 FETCH (UID 9 BODY[] "123")']) == Fetched(9, body=b"123")
    assert fetched([b"3 FETCH (UID 9 BODY[] NIL)"]) == Fetched(9)


@pytest.mark.parametrize(
    "date",
    [
        b"01-Jul-2025 10:00:00 +0800",
        b" 1-jan-1999 00:00:00 -0330",
        b"29-FEB-2024 23:59:59 +0000",
        b"31-Feb-2025 10:00:00 +0000",
        b"01-Xyz-2025 10:00:00 +0000",
    ],
)
def test_the_usual_order_of_what_is_asked_says_the_same_as_any_other(date: bytes) -> None:
    usual = fetched([b'3 FETCH (UID 9 RFC822.SIZE 120 INTERNALDATE "' + date + b'")'])
    other = fetched([b'3 FETCH (RFC822.SIZE 120 INTERNALDATE "' + date + b'" UID 9)'])

    assert usual == other
    assert usual is not None


def test_a_fetch_without_uid_and_other_data_tell_nothing() -> None:
    assert fetched([b"3 FETCH (FLAGS (\\Seen))"]) is None
    assert fetched([b"3 EXISTS"]) is None


@pytest.mark.parametrize(
    "date",
    [
        b"nonsense",
        b"",
        b"31-Feb-2025 99:00:00 +0000",
        b"01-Jan-0001 00:00:00 +0000",
        b"01-Jan-2025 00:00:00 +9900",
    ],
)
def test_a_date_that_is_none_does_not_lose_the_mail(date: bytes) -> None:
    told = fetched([b'3 FETCH (UID 9 RFC822.SIZE 1 INTERNALDATE "' + date + b'")'])
    assert told is not None
    assert (told.uid, told.size) == (9, 1)
