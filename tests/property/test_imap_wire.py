"""Whatever a server sends gives data or a broken protocol; whatever a user types is one LOGIN."""

from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import BadCredentials, BrokenProtocol
from huahuo.mailcheck.servers.imap_grammar import Part, fetched, login_pieces, search_uids, status
from tests.support.proofs import examples

BITS = st.sampled_from(
    [
        *(b"* ", b"1 ", b"FETCH ", b"(", b")", b"UID 7", b" ", b'"', b"\\", b"[", b"]", b"{3}", b"NIL"),
        *(
            b"BODY[]",
            b"BODY",
            b"BODYSTRUCTURE",
            b"ENVELOPE",
            b"INTERNALDATE",
            b"RFC822.SIZE 9",
            b"<0>",
            b"0",
            b"-1",
        ),
        *(b"OK", b"NO [X y]", b"BYE", b"h1 ", b"99999999999", b"\xff", b"\x00", b"%", b"SEARCH"),
    ]
)
LINES = st.lists(st.one_of(BITS, st.binary(max_size=4)), max_size=30).map(b"".join)
PARTS: st.SearchStrategy[list[Part]] = st.lists(
    st.one_of(LINES, st.tuples(LINES.map(lambda text: text + b"{3}"), st.binary(min_size=3, max_size=3))),
    min_size=1,
    max_size=4,
)


@settings(max_examples=examples(500), deadline=None)
@given(PARTS)
def test_any_response_is_a_fetch_or_nothing_or_broken(parts: list[Part]) -> None:
    for each in (parts, [_with_fetch(parts[0]), *parts[1:]]):
        try:
            mail = fetched(each)
        except BrokenProtocol:
            continue
        assert mail is None or 0 < mail.uid < 2**32


def _with_fetch(part: Part) -> Part:
    return (b"1 FETCH (" + part[0], part[1]) if isinstance(part, tuple) else b"1 FETCH (" + part


@settings(max_examples=examples(300), deadline=None)
@given(LINES)
def test_any_line_is_a_status_or_data_or_broken(line: bytes) -> None:
    try:
        said = status(line)
    except BrokenProtocol:
        return
    assert said is not None or line.startswith(b"*")


@settings(max_examples=examples(300), deadline=None)
@given(LINES)
def test_any_search_result_is_uids_or_broken(line: bytes) -> None:
    try:
        uids = search_uids(line)
    except BrokenProtocol:
        return
    assert all(0 < uid < 2**32 for uid in uids)


def server_reads(pieces: list[bytes]) -> tuple[str, str]:
    """The arguments as a server reads them: an own, strict reading of RFC 3501's astrings."""
    stream = b"".join(pieces)
    assert stream.startswith(b"LOGIN ")
    at, words = len(b"LOGIN "), list[bytes]()
    for _ in range(2):
        if stream[at : at + 1] == b'"':
            at += 1
            text = bytearray()
            while stream[at : at + 1] != b'"':
                at += stream[at : at + 1] == b"\\"
                assert 0x20 <= stream[at] < 0x7F
                text += stream[at : at + 1]
                at += 1
            at += 1
        else:
            end = stream.index(b"}\r\n", at)
            size = int(stream[at + 1 : end])
            text = bytearray(stream[end + 3 : end + 3 + size])
            at = end + 3 + size
        words.append(bytes(text))
        if len(words) == 1:
            assert stream[at : at + 1] == b" "
            at += 1
    assert stream[at:] == b"\r\n"
    return words[0].decode(), words[1].decode()


@settings(max_examples=examples(500), deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_credentials_arrive_as_they_are_or_are_not_sent(user: str, password: str) -> None:
    try:
        pieces = login_pieces(user, Secret(password))
    except BadCredentials:
        assert any(char in user + password for char in "\r\n\0")
        return
    assert server_reads([bytes(piece) for piece in pieces]) == (user, password)
