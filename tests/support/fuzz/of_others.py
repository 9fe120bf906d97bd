"""What comes from clients, servers and operators in whole pieces: conversations, answers, settings, searches.

See `targets`.
"""

import sqlite3
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.words import language_of
from huahuo.app.application import standard
from huahuo.app.config import Table
from huahuo.eventstore.audit.tables import match_of as audit_expression
from huahuo.eventstore.fulltext import words as text_words
from huahuo.mailcheck.api.mailbox_list import Sort, entry_of
from huahuo.mailcheck.classic.interpreter import FireMailTongue
from huahuo.mailcheck.mime.outlook import mail_of_outlook, text_of_rtf, unpack
from huahuo.mailcheck.records import page_key
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.oauth import code_of
from huahuo.mailcheck.servers.outcome import Answer, issued, retry_after_s
from huahuo.mailcheck.servers.providers import Providers
from huahuo.storage.upkeep import rules_of
from huahuo.transport.durable_streams import stream_rules as durable
from huahuo.transport.http import stream_pages
from huahuo.transport.http.messages import Request
from huahuo.transport.protocol.dialects import DOCUMENT, V1
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, note_command
from tests.support.models.outlook_file import compound

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
