"""Parts of the HTTP interface."""

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.words import Words
from huahuo.transport.http.asgi import path_of, root_of
from huahuo.transport.http.event_socket import EventSocket, Shared
from huahuo.transport.http.messages import (
    Answer,
    Headers,
    Request,
    json_answer,
)
from huahuo.transport.http.native import HttpConnection
from huahuo.transport.http.sign_in import TICKETS_MAX, Tickets
from huahuo.transport.http.stream_pages import After, Page, page_headers
from huahuo.transport.protocol.frames import ServerSent, text_frame
from huahuo.transport.protocol.kinds import Outcome
from huahuo.transport.session.outgoing import Speech


def request(target: str = "/streams/user/42", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request.of("GET", target, raw, "10.0.0.1")


@pytest.mark.parametrize(
    "target", ["http://other:81/streams/x?after=1", "HTTPS://other:81/streams/x?after=1"]
)
def test_a_target_that_is_a_whole_url_names_the_host_itself(target: str) -> None:
    asked = Request.of("GET", target, [(b"Host", b"mine"), (b"Accept", b"*/*")], "")
    assert (asked.path, asked.query) == ("/streams/x", {"after": "1"})
    assert (asked.all("host"), asked.header("accept")) == (["other:81"], "*/*")


@pytest.mark.parametrize(
    ("target", "path"), [("http://x", "/"), ("http://x?a=1", "/"), ("/http://x/y", "/http://x/y")]
)
def test_the_path_of_a_whole_url_begins_with_a_slash(target: str, path: str) -> None:
    assert request(target).path == path


def test_a_ticket_is_good_once_and_for_thirty_seconds() -> None:
    numbers = iter(range(100_000))
    tickets = Tickets(lambda _count: f"t{next(numbers)}")
    first, second = tickets.make("token", 0.0), tickets.make("token", 1.0)
    assert tickets.use(first, 29.9) == "token"
    assert tickets.use(first, 29.9) is None
    assert tickets.use(second, 31.0) is None
    assert tickets.use("guessed", 31.0) is None
    assert len(tickets) == 0


def test_tickets_that_nobody_uses_take_a_bounded_amount_of_memory() -> None:
    numbers = iter(range(100_000))
    tickets = Tickets(lambda _count: f"t{next(numbers)}")
    for _ in range(TICKETS_MAX + 5):
        tickets.make("token", 0.0)
    assert len(tickets) == TICKETS_MAX
    assert tickets.use("t0", 0.0) is None
    assert tickets.use("t5", 0.0) == "token"


def page(*, more: bool, outcome: Outcome = Outcome.RESUMED) -> Page:
    events = [b'{"type":"a","stream":"user/42","seq":8}']
    return Page(stream="user/42", log="a7c1", outcome=outcome, events=events, following=8, more=more)


def test_only_a_closed_page_of_a_named_log_may_be_kept() -> None:
    def kept(made: Page, after: After, *, shared: bool = False) -> str:
        return dict(page_headers(made, after, 1, '"e"', shared=shared))["Cache-Control"]

    assert kept(page(more=True), After(7, "a7c1")) == "private, max-age=86400, immutable"
    assert kept(page(more=True), After(7, "a7c1"), shared=True) == "public, max-age=86400, immutable"
    assert kept(page(more=False), After(7, "a7c1")) == "private, no-cache"
    assert kept(page(more=True), After(7)) == "private, no-cache"
    assert kept(page(more=True, outcome=Outcome.FRESH), After(last=1)) == "private, no-cache"


@pytest.mark.parametrize(("shared", "vary"), [(False, "Accept, Authorization"), (True, "Accept")])
def test_a_kept_page_is_for_requests_of_its_kind_and_user(*, shared: bool, vary: str) -> None:
    headers = page_headers(page(more=True), After(7, "a7c1"), 1, '"e"', shared=shared)
    assert dict(headers)["Vary"] == vary
    answer = json_answer(b"{}", headers).adding((("Vary", "Origin"),))
    assert [value for name, value in answer.headers if name == "Vary"] == [f"{vary}, Origin"]


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/live/streams/system", "/live", "/streams/system"),
        ("/streams/system", "", "/streams/system"),
        ("/streams/system", "/live", "/streams/system"),
        ("/live", "/live", "/"),
        ("/livelier", "/live", "/livelier"),
        ("/streams/system/", "/live/", "/streams/system"),
        ("/live/streams/system", "/prefix/live", "/streams/system"),
        ("/v1/live/healthz", "/prefix/api/v1/live", "/healthz"),
        ("/prefix/live/healthz", "/prefix/live", "/healthz"),
        ("http://x/live/healthz", "/live", "/healthz"),
    ],
)
def test_a_path_is_taken_below_the_place_of_the_mount(path: str, root: str, below: str) -> None:
    assert path_of({"path": path, "root_path": root}) == below


@pytest.mark.parametrize(
    ("scope", "root"),
    [
        ({"root_path": "/live/", "path": "/live/who"}, "/live"),
        ({"root_path": "", "path": "/who", "raw_path": b"/a%20b/live/who"}, "/a b/live"),
        ({"root_path": "", "path": "/", "raw_path": b"/a/live/"}, "/a/live"),
        ({"root_path": "", "path": "/who/", "raw_path": b"/live/who"}, "/live"),
        ({"root_path": "", "path": "/who", "raw_path": b"/who"}, ""),
        ({"root_path": "", "path": "//who", "raw_path": b"//who"}, ""),
        ({"path": "/who", "raw_path": None}, ""),
        ({"root_path": "", "path": "/", "raw_path": b"/?ticket=secret"}, ""),
        ({"root_path": "", "path": "/", "raw_path": b"/live/?ticket=secret"}, "/live"),
        ({"root_path": "", "path": "/", "raw_path": b"//evil.example/"}, "/evil.example"),
        ({"root_path": "", "path": "/who", "raw_path": b"/%2Fevil.example/who"}, "/evil.example"),
    ],
)
def test_a_mount_that_no_root_path_names_is_what_the_path_lacks(scope: dict[str, Any], root: str) -> None:
    assert root_of(scope) == root


class Written:
    """An outlet that keeps what is written."""

    paused = False
    unsent_bytes = 0

    def __init__(self) -> None:
        self.text = b""

    def bound(self, bytes_max: int) -> None:
        """It has room for all."""

    def refuse(self, answer: Answer) -> None:
        """Nothing is refused here."""

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """The head is not looked at."""

    def write(self, text: bytes) -> None:
        self.text += text

    def write_shared(self, text: bytes, _chunk: bytes) -> None:
        self.text += text

    def end(self, deadline_s: float) -> None:
        """Nothing ends here."""

    def abort(self) -> None:
        """Nothing ends here."""


def test_a_long_state_is_told_as_it_came() -> None:
    outlet = Written()
    socket = EventSocket(outlet, Shared(ServerSent("log")), "127.0.0.1", (), lambda _: None)
    socket.write(text_frame(b'{"type":"subscribed","stream":"order/1","outcome":"reset"}'))
    head = b'{"type":"snapshot","stream":"order/1","seq":7,"state":{"price":1.50,"text":"'
    state = head + b"x" * 70_000 + b'"}}'
    socket.write(text_frame(state))
    told = b'id: log:7\nevent: reset\ndata: {"outcome":"reset",%b\n\n' % state[1:]
    assert outlet.text.endswith(told), "a number that was read and written again would be 1.5"


ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


class FullTransport(asyncio.Transport):
    """To a client that reads nothing: what is written stays in the buffer."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.reading = True
        self.full = asyncio.Event()
        self.connection: HttpConnection | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        assert self.connection is not None
        self.connection.pause_writing()
        self.full.set()

    def pause_reading(self) -> None:
        self.reading = False


class Everything:
    """Stands for what a connection asks of its owner, of the API and of the server."""

    open_timeout_s = 10.0

    def __getattr__(self, name: str) -> Any:
        return self if name in ("server", "api", "wires", "ambient") else lambda *_: None

    def monotonic_s(self) -> float:
        return 0.0

    async def admit(self, _request: object) -> None:
        """No path is the API's."""

    async def site(self, _request: object) -> Answer:
        return Answer(HTTPStatus.OK, (), b"x" * 1_000_000)

    def speech(self, _preferred: object) -> Speech:
        return Speech(Words(), "en")

    def is_serving(self) -> bool:
        return True


async def test_nothing_more_is_read_while_an_answer_waits_for_its_client() -> None:
    owner: Any = Everything()
    transport = FullTransport()
    connection = HttpConnection(owner, transport, asyncio.get_running_loop().time() + 10)
    transport.connection = connection
    connection.data_received(ASKED)
    await transport.full.wait()
    read = 0
    while transport.reading and read < 64:
        connection.data_received(b"y" * 65_536)
        read += 1
    assert read < 64
    connection.connection_lost(None)


class RefusingTransport(FullTransport):
    """To a client that reads at once, and sends on behind its refused request."""

    aborted = False

    def write(self, data: Any) -> None:
        pass

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


def refused() -> tuple[HttpConnection, RefusingTransport]:
    owner: Any = Everything()
    transport = RefusingTransport()
    connection = HttpConnection(owner, transport, asyncio.get_running_loop().time() + 10)
    connection.data_received(REFUSED)
    return connection, transport


def test_a_page_tells_of_what_was_compacted_away() -> None:
    whole = msgspec.structs.replace(page(more=True), skipped=[(3, 7)])
    assert msgspec.json.decode(whole.encoded())["skipped"] == [{"seq": 3, "to": 7, "reason": "compacted"}]
