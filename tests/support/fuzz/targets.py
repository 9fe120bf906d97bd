"""Everything that reads bytes of strangers, and what each may answer: a value, or an error of its own.

A target raises AssertionError where two ways of reading differ. Any other exception is a fault.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import h11
import msgspec

from huahuo.actors.plugins.addresses import AddressRefused, host_name, refusal
from huahuo.actors.plugins.calls import Principal
from huahuo.errors import ConfigError
from huahuo.eventstore.replicated.proposal import NewerFormat
from huahuo.eventstore.sequencer.address import BadAddress, LogAddress
from huahuo.eventstore.zstd_frames import BadFrame, Compressor, Decompressor
from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.mime.mail import attached, parse_headers, parse_mail
from huahuo.mailcheck.mime.outlook import NotCompound
from huahuo.mailcheck.roster import importer
from huahuo.mailcheck.servers import imap_grammar as imap
from huahuo.mailcheck.servers.faults import BrokenProtocol
from huahuo.mailcheck.servers.providers import parse_proxy
from huahuo.transport.access.claims import ClaimNames, TokenError, own_claims, parts_of, verified_of
from huahuo.transport.access.door import origin_allowed
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.issuer_keys import BadKeySet, KeySet
from huahuo.transport.client import commands as client
from huahuo.transport.durable_streams.stream_rules import Wrong, events_of
from huahuo.transport.http.stream_pages import AskedWrongly, after_of
from huahuo.transport.protocol import incoming
from tests.support.fuzz import by_way_of_others as others
from tests.support.fuzz import on_the_wire as wire
from tests.support.fuzz import sockets
from tests.support.worlds.compressed import dictionary

_BYTES_MAX: Final = 1 << 20
_DEPTH: Final = 32
_authenticator: Final = Authenticator(b"f" * 40)
_TOKEN: Final = _authenticator.mint(Principal(1, "a"), now_ms=1_790_000_000_000, ttl_s=60, jti="j").encode()
_unzip: Final = Decompressor(None, output_bytes_max=1 << 20)
_unzip_known: Final = Decompressor(dictionary(), output_bytes_max=1 << 20)


_PLAIN: Final = b"""Subject: =?utf-8?b?5L2g5aW9?=
From: A <a@example.com>
Date: Thu, 26 Nov 2026 06:00:00 +0000

Your code is 123456"""
_PARTS: Final = b"""Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=gb2312

<b>x</b>
--b
Content-Disposition: attachment; filename="a.txt"
Content-Transfer-Encoding: base64

aGk=
--b--"""


class Target(NamedTuple):
    """`read` gets the bytes; `errors` are what it may raise; `seeds` are inputs that are right."""

    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def _messages(data: bytes) -> None:
    """The short way and the long one agree, and so do those for acks."""
    short = incoming.parse(data, bytes_max=_BYTES_MAX, depth_max=_DEPTH)
    long = incoming.parse_closely(data, bytes_max=_BYTES_MAX, depth_max=_DEPTH)
    assert short == long, (short, long)
    cursors = incoming.plain_ack(data)
    if cursors is not None:
        assert isinstance(long, incoming.Parsed), long
        acks = incoming.convert(long, incoming.Acks)
        assert isinstance(acks, incoming.Acks), acks
        assert acks.cursors == cursors
    if isinstance(long, incoming.Parsed):
        for wanted in (incoming.Authenticate, incoming.Subscribe, incoming.Unsubscribe, incoming.Acks):
            incoming.convert(long, wanted)


def _imap(data: bytes) -> None:
    line, _, rest = data.partition(b"\r\n")
    for read in (imap.literal_size, imap.status, imap.search_uids, imap.capabilities):
        try:
            read(line)
        except BrokenProtocol:
            continue
    imap.fetched([(line, rest), b")"])


def _mail(data: bytes) -> None:
    mail = parse_mail(data)
    parse_headers(data)
    attached(data, 0, 1 << 16)
    code_of(mail.subject, mail.text, mail.html)


def _import(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for mail_type in ("imap", "outlook"):
        importer.parse(text, mail_type)


def _address(data: bytes) -> None:
    name = host_name(data.decode("utf-8", "replace"))
    refusal(name, allow_private=False)


def _origin(data: bytes) -> None:
    text = data.decode("latin-1")
    if origin_allowed([text], ["app.example.com"], []):
        assert text.strip().lower().startswith(("http://app.example.com", "https://app.example.com")), text


def _token(data: bytes) -> None:
    text = data.decode("latin-1")
    said = _authenticator.verify(text, 1_790_000_000_000)
    if not hasattr(said, "code"):
        assert text.encode("latin-1") == _TOKEN, "another text is accepted as a token"


TARGETS: Final[dict[str, Target]] = {
    "messages": Target(
        _messages,
        (),
        (
            b'{"action":"ack","cursors":{"user/42":17}}',
            b'{"action":"authenticate","token":"x","client":"c","window":512,"resume":{"log":"a","cursors":{"system":7}}}',
            b'{"action":"subscribe","id":"s","stream":"group/ops","after":"start"}',
            b'{"action":"publish","id":"c1","stream":"system","type":"t","n":1.5,"deep":{"a":[1,2,{"b":null}]}}',
        ),
    ),
    "server messages": Target(
        client.parse,
        (msgspec.DecodeError, UnicodeDecodeError, ValueError),
        (
            b'{"type":"events","stream":"user/1","seq":1,"events":[{"type":"t","timestamp":"x"}]}',
            b'{"type":"token_expiring","in_s":60}',
            b'{"type":"subscribed","stream":"system","outcome":"resumed","after":1,"first":1,"head":2}',
        ),
    ),
    "tokens": Target(_token, (), (_TOKEN, b"eyJhbGciOiJub25lIn0.e30.", b"a.b.c")),
    "token parts": Target(lambda data: parts_of(data.decode("latin-1")), (TokenError,), (_TOKEN,)),
    "claims": Target(
        lambda data: verified_of(own_claims(data, ClaimNames()), lambda _user: 1),
        (TokenError,),
        (b'{"user_id":1,"username":"a","exp":1790000000,"iat":1,"jti":"x","groups":["a"],"is_admin":true}',),
    ),
    "key sets": Target(
        KeySet,
        (BadKeySet,),
        (
            b'{"keys":[{"kty":"EC","crv":"P-256","kid":"1","alg":"ES256","x":"AA","y":"AA"}]}',
            b'{"keys":[{"kty":"RSA","kid":"2","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}',
        ),
    ),
    "origins": Target(
        _origin,
        (),
        (b"https://app.example.com", b"http://localhost:80", b"null", b"https://app.example.com:443"),
    ),
    "hosts": Target(
        _address,
        (AddressRefused,),
        (b"imap.example.com", b"127.0.0.1", b"[::1]", b"xn--bcher-kva.example", b"a.b."),
    ),
    "proxies": Target(
        lambda data: parse_proxy(data.decode("utf-8", "replace")),
        (ValueError,),
        (b"socks5://user:secret@proxy.example.com:1080", b"http://proxy:3128"),
    ),
    "log addresses": Target(
        lambda data: LogAddress(data.decode("utf-8", "replace")),
        (BadAddress,),
        (b"postgres://u:p@a:1,b:2/db?schema=x", b"nats://a:4222,[::1]:4223/name?replicas=3"),
    ),
    "zstd frames": Target(
        _unzip.decompress,
        (BadFrame,),
        (b"(\xb5/\xfd \x05)\x00\x00hello", b"(\xb5/\xfd\x04X\x10\x00\x00\x00"),
    ),
    "IMAP": Target(
        _imap,
        (BrokenProtocol,),
        (
            b"* 3 FETCH (UID 7 RFC822.SIZE 10 BODY[] {5}\r\nhello)",
            b"a1 OK [READ-ONLY] done",
            b"1 2 3",
            b'* 1 FETCH (UID 1 INTERNALDATE "01-Jan-2026 00:00:00 +0000" BODY[]<0> {3}\r\nabc',
        ),
    ),
    "mails": Target(_mail, (), (_PLAIN, _PARTS)),
    "import lines": Target(
        _import,
        (importer.TooManyLines,),
        (b"a@example.com----secret----id----token\nb@example.com,pw,imap.example.com,993",),
    ),
    "durable bodies": Target(
        lambda data: events_of("ds/a", "application/json", data, "now", _DEPTH),
        (Wrong,),
        (b'[{"a":1},2,"x"]', b'{"a":[1,2,{"b":null}]}'),
    ),
    "frames": Target(
        wire.frames,
        (),
        (
            sockets.masked(0x81, b"hi"),
            sockets.masked(0x81, b"a" * 200) + sockets.masked(0x81, b"{}"),
            b"\x89\x80\0\0\0\0",
            b"\x01\x81aaaab",
        ),
    ),
    "handshakes": Target(wire.handshakes, (), (wire.HANDSHAKE,)),
    "requests": Target(wire.requests, (h11.RemoteProtocolError,), wire.REQUESTS),
    "births": Target(wire.births, (), (wire.BORN,)),
    "proposals": Target(wire.proposals, (NewerFormat,), (wire.BODY,)),
    "dictionary frames": Target(
        _unzip_known.decompress,
        (BadFrame,),
        (Compressor(dictionary(), 3).compress(b'{"type":"events","stream":"user/1","seq":1}'),),
    ),
    "places over HTTP": Target(
        lambda data: after_of(data.decode("latin-1")),
        (AskedWrongly,),
        (b"17", b"start", b"head", b"log:17", b"a7c1:17:abc"),
    ),
    "conversations": Target(others.conversation, (), (others.CONVERSATION, b"\n" + others.CONVERSATION)),
    "settings": Target(others.settings, (ConfigError, ValueError), others.SETTINGS),
    "pages": Target(others.pages, (), others.PAGES),
    "searches": Target(
        others.searches,
        (ValueError,),
        (b'invoice paris subject:"x" -draft inv*', "发票 a:b".encode(), b"a\0b"),
    ),
    "parameters": Target(others.parameters, (ValueError,), others.TARGETS_OF_REQUESTS),
    "front end": Target(others.front_end, (), others.FRONT_END),
    "answers": Target(others.answers, (), others.ANSWERS),
    "attached files": Target(others.attached_files, (NotCompound,), others.FILES),
    "sockets": Target(sockets.conversation, (), sockets.CONVERSATIONS),
    "acks": Target(others.acks, (), others.ACKS),
    "pipes": Target(others.pipes, (), others.PIPES),
    "nodes": Target(others.nodes, (), others.NODES),
    "answers of nodes": Target(
        others.answers_of_nodes, (OSError, h11.ProtocolError), others.ANSWERS_OF_NODES
    ),
    "forwarded": Target(others.forwarded, (), others.FORWARDED),
    "scopes": Target(others.scopes, (UnicodeDecodeError,), others.SCOPES),
    "graph": Target(others.graph, (), others.GRAPH),
    "uploads": Target(others.uploads, (), others.UPLOADS),
}
"""By name."""
