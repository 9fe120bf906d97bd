"""What comes by way of proxies, ASGI servers, SSE, Microsoft Graph and forms. See `targets`."""

import contextlib
from typing import Any, Final

import httpx

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.classic.routes import mails_in, uploaded
from huahuo.mailcheck.mime.mail import parse_mail
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.graph import Graph
from huahuo.mailcheck.servers.outcome import Answer
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.http import asgi
from tests.support.fuzz.looped import done

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
            with contextlib.suppress(httpx.InvalidURL):
                asked = httpx.URL(url)
                assert (asked.scheme, asked.netloc) == ("https", b"graph.example"), url


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
