"""Fuzz targets of what others send: proxies, mail servers, token servers, other nodes."""

import asyncio
import contextlib
import socket
import sqlite3
import struct
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import h11
import msgspec

from huahuo.actors.plugins.words import language_of
from huahuo.app.application import standard
from huahuo.app.config import Table
from huahuo.cluster import node_requests
from huahuo.cluster.node_requests import Asker, NodeRefused, NodesDoor, NodeSilent
from huahuo.cluster.request_signing import HEADER, Head, Signer
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.audit.tables import match_of as audit_expression
from huahuo.eventstore.fulltext import words as text_words
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.api.mailbox_list import Sort, entry_of
from huahuo.mailcheck.classic.interpreter import FireMailTongue
from huahuo.mailcheck.classic.routes import mails_in, uploaded
from huahuo.mailcheck.mime.mail import mail_of_outlook, parse_mail
from huahuo.mailcheck.mime.outlook import text_of_rtf, unpack
from huahuo.mailcheck.records import page_key
from huahuo.mailcheck.servers.faults import Answer, MailFault, issued, retry_after_s
from huahuo.mailcheck.servers.graph import Graph
from huahuo.mailcheck.servers.http_exchanges import target_of
from huahuo.mailcheck.servers.oauth import code_of
from huahuo.mailcheck.servers.providers import Providers
from huahuo.storage.upkeep import rules_of
from huahuo.transport import native
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.rights import Verified
from huahuo.transport.durable_streams import stream_rules as durable
from huahuo.transport.http import asgi, stream_pages
from huahuo.transport.http.messages import Request
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.dialects import DOCUMENT, V1
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.frame_reader import short_text, texts_in
from huahuo.transport.workers import channel as workers
from huahuo.transport.workers.channel import LATER, Channel, OwnerPort, WorkerPort
from tests.support.drivers.session import Driver, note_command
from tests.support.fuzz.looped import done
from tests.support.fuzz.sockets import as_frames
from tests.support.models.outlook_file import compound

_PIECES_MAX: Final = 8


# Proxies and servers around it ---------------------------------------------------------------------------

FORWARDED: Final = (
    b"10.0.0.1\n203.0.113.7, 10.0.0.2",
    b"::ffff:10.0.0.1\n[2001:db8::1]:4711\n1.2.3.4:80, 10.9.9.9",
    b"198.51.100.9\n127.0.0.1",
)
_door: Final = AddressDoor(trusted_proxies=["10.0.0.0/8"])
_KEY_CHARS_MAX: Final = 64


def forwarded(data: bytes) -> None:
    """Whom `X-Forwarded-For` names is believed of a trusted proxy only. Its key is short."""
    peer, *values = data.decode("latin-1").split("\n")
    key = _door.address(peer, values)
    assert 0 < len(key) <= _KEY_CHARS_MAX
    alone = _door.address(peer, ())
    assert key == alone or alone.startswith("10."), (key, alone)


SCOPES: Final = (
    b"/app/streams/system\n/app\n/app/streams/system?x",
    b"//evil/%2e\n\n//evil/%2e",
    b"/\xff\n\n/%ff",
)


def scopes(data: bytes) -> None:
    """A path as an ASGI server hands it on. Raises UnicodeDecodeError."""
    path, root, raw = [*data.split(b"\n"), b"", b""][:3]
    scope = {
        "path": path.decode("utf-8", "replace"), "root_path": "", "raw_path": raw, "headers": [(root, raw)]
    }  # fmt: skip
    assert asgi.path_of(scope).startswith("/")
    assert not asgi.root_of(scope).startswith("//"), "a link below it would lead to another host"
    asgi.path_of({**scope, "root_path": root.decode("latin-1")})
    asgi.all_of(scope, b"host")
    asgi.has_body(scope)
    asgi.must_be_utf8(scope)


# Mail ----------------------------------------------------------------------------------------------------

GRAPH: Final = (
    (
        b'{"value":[{"id":"A","receivedDateTime":"2026-11-27T10:00:00Z","subject":"s","from":{"emailAddress":'
        b'{"name":"n","address":"a@b.c"}},"hasAttachments":true}],"@odata.nextLink":"https://graph.example/v1/x"}'
    ),
    b'{"value":[{"id":"f","displayName":"Inbox"}],"@odata.deltaLink":"https://graph.example/v1/y"}',
    b'{"error":{"code":"ErrorItemNotFound","message":"gone","innerError":{"date":"x"}}}',
)


class _Graph:
    """Answers each request with the same bytes. Implements what `Graph` needs of `Requests`."""

    def __init__(self, status: int, body: bytes) -> None:
        self.answer = Answer(status, {"retry-after": "x"}, body)
        self.asked: list[str] = []

    async def get(self, url: str, **_more: object) -> Answer:
        self.asked.append(url)
        return self.answer


def graph(data: bytes) -> None:
    """What Microsoft Graph answers. No request leaves for another place."""
    for status in (200, 403, 404):
        stands: Any = _Graph(status, data)
        done(_listed(stands))
        for url in stands.asked:
            with contextlib.suppress(ValueError, MailFault):
                asked, host = target_of(url)
                assert (asked.scheme, asked.host, host) == (b"https", b"graph.example", "graph.example"), url


async def _listed(stands: Any) -> None:
    async def renew() -> Secret:
        return Secret("again")

    reading = Graph(
        stands, FakeAmbient(), url="https://graph.example/v1", token=Secret("t"), renew=renew, proxy=None
    )
    try:
        await reading.folders()
        page = await reading.page()
        for link in (page.following, page.later):
            await reading.page(link)
    except MailFault:
        pass


UPLOADS: Final = (
    (
        b'multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name="f"; filename="a.eml"'
        b"\r\n\r\nSubject: x\n\nhello\r\n--b--\r\n"
    ),
    (
        b'multipart/form-data; boundary="b c"\n--b c\r\nContent-Disposition: form-data; filename="a.mbox"'
        b"\r\n\r\nFrom a\nSubject: 1\n\n>From x\nFrom b\nSubject: 2\n\n\r\n--b c--"
    ),
)


def uploads(data: bytes) -> None:
    """A form with a file of mails."""
    content_type, _, body = data.partition(b"\n")
    found = uploaded(content_type.decode("latin-1"), body)
    content = body if found is None else found[1]
    for kind in ("eml", "emlx", "mbox", "msg"):
        for mail in mails_in(kind, content):
            parse_mail(mail)


_SETTINGS: Final = TransportSettings(messages_per_s=0, subscriptions_max=4)
_LINES_MAX: Final = 40

CONVERSATION: Final = (
    b'{"action":"authenticate","token":"alice","client":"c","window":4,"resume":{"log":"log-1","cursors":'
    b'{"user/42":1,"system":0},"checks":{"user/42":[1,"AAAA"]}},"parts":true,"language":"en"}\n'
    b'{"action":"subscribe","id":"s","stream":"group/ops","after":"start"}\n'
    b'{"action":"ack","cursors":{"user/42":2}}\n{"action":"note","id":"n","text":"x","password":"y"}\n'
    b'{"action":"ack","cursors":{"user/42":3,"group/ops":1}}\n{"action":"unsubscribe","stream":"group/ops"}\n'
    b'{"action":"heartbeat"}\n{"action":"authenticate","token":"alice-no-groups"}\n'
)
"""What a client says, a line for each message."""


def conversation(data: bytes) -> None:
    """A session has an answer to each message, while events are committed between them."""
    dialect = V1 if data.startswith(b"{") else DOCUMENT
    driver = Driver(settings=_SETTINGS, commands=[note_command()], dialect=dialect)
    driver.append("user/42", "a", "b", "c")
    for line in data.split(b"\n")[:_LINES_MAX]:
        driver.say_raw(line)
        if driver.closed is not None:
            return
        driver.append("group/ops", "d")
        if driver.executing:
            driver.reply()
    driver.after(1)


SETTINGS: Final = (
    (
        b'port = 8765\norigins = ["https://a.example"]\nheartbeat_s = 2.5\nretention = ["group/*=30d 1GiB"]\n'
        b'trusted_proxies = ["10.0.0.0/8"]\n[providers.outlook]\nhosts = ["imap.example.com:993"]\n'
    ),
    b"\xef\xbb\xbfdata = 'x'\n\"port\" = 0x10\nlog_json = true\nbackup_every_s = inf\n",
)


def settings(data: bytes) -> None:
    """A file `huahuo.toml`, with rules of retention and providers. Raises ConfigError, ValueError."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        made = _table().load(environ={}, file=Path(file.name))
    rules_of(made.retention)
    Providers(made.plugins["mail"].providers)


@cache
def _table() -> Table:
    return Table(standard())


_SORTS: Final = [Sort(name, descending=True) for name in ("email", "last_check_time", "mail_count")]
PAGES: Final = (
    b'["email","a@example.com",7]'.hex().encode(),
    b'["mail_count",3,7]'.hex().encode(),
    b"00" * 16,
)


def pages(data: bytes) -> None:
    """What a client sends as the place of the next page."""
    text = data.decode("utf-8", "replace")
    for sort in _SORTS:
        entry = entry_of(sort, text)
        assert entry is None or isinstance(entry[1], int)
    page_key(text)


_MARKS: Final = text_words.marks_of(("subject", "from"))


@cache
def _words() -> sqlite3.Connection:
    index = sqlite3.connect(":memory:", check_same_thread=False)
    index.execute(
        "CREATE VIRTUAL TABLE words USING fts5(word, content='', columnsize=0, detail=none, tokenize='ascii')"
    )
    index.execute("CREATE VIRTUAL TABLE texts USING fts5(text)")
    return index


def searches(data: bytes) -> None:
    """What somebody searches for is an expression that SQLite takes. Raises ValueError, for the audit's."""
    text = data.decode("utf-8", "replace")
    words = text_words.parse(text, _MARKS)
    if words is not None and words.wanted:
        expression = text_words.match_of(words, ["u42"], ["m1", "m2"], ["code"])
        _words().execute("SELECT rowid FROM words WHERE words MATCH ?", (expression,)).fetchall()
    _words().execute("SELECT rowid FROM texts WHERE texts MATCH ?", (audit_expression(text),)).fetchall()


TARGETS_OF_REQUESTS: Final = (
    (
        b"GET /streams/system?after=a7c1:17&limit=10&wait=2.5&seq=3\nAccept-Language: zh;q=0.5,en-GB\n"
        b"Last-Event-ID: a7c1:3"
    ),
    (
        b"PUT /ds/group/ops/a?offset=0000000000000001&cursor=12\nContent-Type: text/plain; charset=utf-8\n"
        b"Stream-TTL: 60\nStream-Closed: true"
    ),
    (
        b"POST /ds/user/42/b?offset=now\nProducer-Id: p\nProducer-Epoch: 1\nProducer-Seq: 2\nStream-Seq: a\n"
        b"X-Forwarded-Proto: https\nX-Forwarded-Prefix: /a\nStream-Expires-At: 2026-11-27T10:00:00Z"
    ),
)


def parameters(data: bytes) -> None:
    """A request's line and headers, read as `/streams/` and as `/ds/`. Raises ValueError."""
    first, *rest = data.split(b"\n")
    method, _, target = first.partition(b" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in rest)]
    request = Request.of(method.decode("latin-1"), target.decode("latin-1"), headers, "127.0.0.1")
    language_of(request.all("accept-language"), "en")
    durable.location_of(request)
    assert durable.cursor(request, 1_790_000_000_000, 0.5).isdecimal()
    for read in (_places, durable.creation_of, durable.addition_of, durable.offset_of, _path):
        try:
            read(request)
        except (stream_pages.AskedWrongly, durable.Wrong):
            continue


def _places(request: Request) -> None:
    stream_pages.place_asked(request.query, request.header("last-event-id"), "head")
    assert 1 <= stream_pages.limit_of(request.query) <= stream_pages.LIMIT_MAX
    assert 0 <= stream_pages.wait_s_of(request.query) <= stream_pages.WAIT_S_MAX
    stream_pages.seq_of(request.query)


def _path(request: Request) -> None:
    durable.path_of(request.path.removeprefix("/ds/"))


FRONT_END: Final = (
    (
        b'{"type":"authenticate","token":"t"}\n{"type":"get_all_emails"}\n'
        b'{"type":"add_email","email":"a@example.com","password":"p","mail_type":"imap"}\n'
        b'{"type":"check_emails","email_ids":[1,2]}\n{"type":"import_emails","data":"a@b.c----p"}\n'
        b'{"type":"get_mail_records","email_id":7}\n{"type":"delete_emails","email_ids":[1]}\n'
    ),
)
_SIGNED_IN: Final = {"type": "authentication_result", "success": True, "message": "", "user": {"user_id": 42}}


def front_end(data: bytes) -> None:
    """What FireMail's page says on its WebSocket: each message is passed on as JSON, or refused."""
    it = FireMailTongue().interpreter({"type": "authenticate"})
    assert it is not None
    it.say(dict(_SIGNED_IN), 0.0)
    for number, line in enumerate(data.split(b"\n")[:_LINES_MAX]):
        try:
            message: Any = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            continue
        understood = it.hear(message, number / 10)
        msgspec.json.encode([*understood.asked, *understood.said])


ANSWERS: Final = (
    b'{"access_token":"a","expires_in":3600,"refresh_token":"r","scope":"x"}\n12',
    b'{"error":"invalid_grant","error_description":"AADSTS70000: scopes"}\nThu, 01 Jan 1970 00:01:40 GMT',
    b'{"error":{"code":"x","message":"y"}}\nMon, 01 Jan 99999999999999999999 00:00:00 +0000',
    b'{"access_token":"a","expires_in":%b}\n' % (b"9" * 400),
    b'{"device_code":"d","user_code":"u","verification_uri":"https://a.example","interval":5,"expires_in":9}\n',
)


def answers(data: bytes) -> None:
    """What a token endpoint answers, and when to ask again."""
    body, _, date = data.partition(b"\n")
    headers = {"retry-after": date.decode("latin-1")}
    wait_s = retry_after_s(headers, 1_790_000_000_000)
    assert wait_s is None or 0 <= wait_s <= 86_400
    for status in (200, 400, 429):
        answer = Answer(status, headers, body)
        for read in (issued, code_of):
            try:
                read(answer, 1_790_000_000_000)
            except MailFault:
                continue


def _tnef(*attributes: tuple[int, bytes]) -> bytes:
    packed = b"".join(
        struct.pack("<BII", 1, name, len(value)) + value + b"\0\0" for name, value in attributes
    )
    return struct.pack("<IH", 0x223E9F78, 1) + packed


_PROPERTIES: Final = struct.pack("<IHHII", 1, 0x1F, 0x1000, 1, 6) + "abc".encode("utf-16-le") + b"\0\0"
FILES: Final = (
    _tnef((0x00069007, b"\xe4\x04\0\0\0\0\0\0"), (0x0002800C, b"text\0"), (0x00069003, _PROPERTIES)),
    _tnef((0x00069002, b"\0" * 14), (0x00018010, b"a.txt\0"), (0x0006800F, b"data")),
    struct.pack("<II4sI", 60, 48, b"MELA", 0) + rb"{\rtf1\ansicpg1252 {\fonttbl x}\u20320? \'e9\par b\uc2 c}",
    struct.pack("<II4sI", 22, 30, b"LZFu", 0) + b"\x80{\\rtf1 \x00\x10abc\x03\x00\x20\x12\x30",
    compound({"__properties_version1.0": b"\0" * 32, "__substg1.0_0037001F": "x".encode("utf-16-le")}),
)


def attached_files(data: bytes) -> None:
    """Files of Outlook, which anybody attaches: `winmail.dat`, RTF and `.msg`. Raises NotCompound."""
    unpack(data)
    text_of_rtf(data)
    mail_of_outlook(data)


# Acks ----------------------------------------------------------------------------------------------------

_FRONT: Final = b'{"action":"ack","cursors":{"user/1":'
ACKS: Final = (
    as_frames([_FRONT + b"7}}", _FRONT + b"18}}"]),
    as_frames([_FRONT + b"999999999999999}}"]) * 4,
    as_frames([_FRONT + b"07}}"]) + b"\x89\x80\0\0\0\0",
)
_IN_C: Final = native.found()
_READ_BYTES_MAX: Final = 512
_ACKS_A_READ_MAX: Final = 4


def acks(data: bytes) -> None:
    """An ack that is read by its number alone, here or in C, is what the long way reads."""
    texts, end, _ = texts_in(data)
    seqs = [incoming.seq_of_ack(text, _FRONT) for text in texts]
    for text, seq in zip(texts, seqs, strict=True):
        assert seq < 0 or incoming.plain_ack(text) == {"user/1": seq}, text
    if _IN_C is None or not data:
        return
    data = data[:_READ_BYTES_MAX]
    if end > len(data):
        return
    came = _read_in_c(_IN_C, data)
    short = all(short_text(as_frames([text])) for text in texts)
    if end == len(data) and short and min(seqs) >= 0 and len(seqs) <= _ACKS_A_READ_MAX:
        assert came == seqs
    else:
        assert came == [data], came


def _read_in_c(module: native.Native, data: bytes) -> list[int | bytes]:
    reader, ours, peer = _sockets(module)
    module.watch_acks(reader, 0, ours.fileno(), _FRONT)
    try:
        peer.sendall(data)
        return [what for _, what in module.read_acks(reader)]
    finally:
        module.watch_acks(reader, 0)


@cache
def _sockets(module: native.Native) -> tuple[object, socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    return module.open_acks()[0], ours, peer


# Workers -------------------------------------------------------------------------------------------------


_COLUMNS: Final = ([1], ["s"], [1], "t", [b"{}"], 1, [0], "", "", "", 0, "", [b"c"])
_TO_OWNER: Final = (
    workers.message(OwnerPort.ready) + workers.message(OwnerPort.left, "127.0.0.1")
    + workers.message(OwnerPort.beat) + workers.message(OwnerPort.acks, [("user/1", "c", "s", 7)])
)  # fmt: skip
_TO_WORKER: Final = workers.message(WorkerPort.commit, _COLUMNS) + workers.message(WorkerPort.pruned)
_ANSWERED: Final = (
    b"\0\0\0\x0d\0" + b"\0" * 7 + b"\1\xa3abc" + b"\0\0\0\x10\1" + b"\0" * 7 + b"\2\x92\xa4Busy\xa1x"
)
PIPES: Final = (_TO_OWNER, _TO_WORKER, _ANSWERED)


class _Anything:
    """Every method of it notes its call."""

    def __init__(self, got: list[object]) -> None:
        self._got = got

    def __getattr__(self, _name: str) -> Any:
        def method(*args: object) -> object:
            self._got.append(args)
            return LATER

        return method


def pipes(data: bytes) -> None:
    """What a worker and its owner say, in pieces: calls and answers of theirs, or the end of the channel."""
    for port in (OwnerPort, WorkerPort):
        got: list[object] = []
        lost: list[bool] = []
        channel = Channel(port, _Anything(got), lost=lambda lost=lost: lost.append(True), now_s=float)  # type: ignore[misc]
        step = max(1, len(data) // _PIECES_MAX)
        for at in range(0, len(data), step):
            if channel.is_open:
                channel.data_received(data[at : at + step])
        assert len(lost) == (not channel.is_open)
        size = sum(len(msgspec.msgpack.encode(args)) for args in got)
        assert lost or size <= len(data) or not got


# Nodes ---------------------------------------------------------------------------------------------------


class _Question(msgspec.Struct):
    text: str
    number: int = 0


class _Reply(msgspec.Struct):
    said: str


_SECRET, _LOG = b"s" * 32, "log-1"
_signer: Final = Signer(_SECRET)
NODES: Final = (
    b"double\na\nb\n\n" + msgspec.msgpack.encode(_Question("x")),
    b"double\nweb-1\n\n0123456789abcdef\n" + msgspec.msgpack.encode({"text": "x", "number": 2}),
)


def nodes(data: bytes) -> None:
    """A request of a node is answered if it is signed, and by nobody else's words."""
    name, node, to, life, *rest = [*data.split(b"\n", 4), b"", b"", b"", b"", b""][:5]
    body = b"".join(rest)
    ambient = FakeAmbient()
    door = NodesDoor(secret=_SECRET, node="b", log_id=_LOG, ambient=ambient)
    door.on("double", _Question, _said)
    texts = [one.decode("latin-1") for one in (name, node, to, life)]
    head = Head(
        texts[0], texts[1], texts[2], texts[3] or door.life, _LOG, _signer.mark, ambient.now_ms(),
        "0" * 16, 1, sha256(body).hexdigest(),
    )  # fmt: skip
    header = _signer.header(head)
    signed, stranger = [(HEADER, header)], [(HEADER, f"{header[:-64]}{'0' * 64}")]
    assert not isinstance(door.admit(_asked(stranger), texts[0], "1.2.3.4"), Verified)
    request = _asked(signed)
    admitted = door.admit(request, texts[0], "1.2.3.4")
    if not isinstance(admitted, Verified):
        return
    visit: Any = SimpleNamespace(request=request, route=SimpleNamespace(name=texts[0]))
    answer = done(door.answer(visit, body))
    assert answer.status != 500, "what another node asks is refused, and not a fault of this one"


async def _said(_node: str, asked: _Question) -> object:
    return _Reply(asked.text * 2)


def _asked(headers: Any) -> Request:
    return Request("POST", "/nodes/x", {}, tuple(headers))


ANSWERS_OF_NODES: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nhuahuo-mac: 00\r\n\r\n"
    + msgspec.msgpack.encode(_Reply("xyz")),
    b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n2\r\n\x80\x80\r\n0\r\n\r\n",
)


def answers_of_nodes(data: bytes) -> None:
    """What comes back from where a node should be. Raises OSError, h11's errors, NodeSilent, NodeRefused."""
    asker = Asker(secret=_SECRET, node="a", log_id=_LOG, ambient=FakeAmbient())
    head = asker._head("http://b", "b", "double", b"")  # noqa: SLF001  a stranger gets no further
    status, headers, said = done(_answered(data))
    signed = (b"huahuo-mac", _signer.answer(head, status, said).encode())
    for given in (headers, [signed]):
        try:
            asker._read("b", "http://b", head, status, given, said, _Reply)  # noqa: SLF001
        except (NodeRefused, NodeSilent):
            continue
        assert given == [signed], "an answer that no node has signed is taken for one"


async def _answered(data: bytes) -> Any:
    reader, wire = asyncio.StreamReader(), h11.Connection(h11.CLIENT)
    wire.send(h11.Request(method="GET", target="/", headers=[("host", "b")]))
    wire.send(h11.EndOfMessage())
    reader.feed_data(data)
    reader.feed_eof()
    return await node_requests._answer(reader, wire)  # noqa: SLF001
