"""A long state passes by a reader of server-sent events as it is: it is neither read nor made again."""

from http import HTTPStatus

from huahuo.transport.http.event_socket import EventSocket, Shared
from huahuo.transport.http.messages import Answer, Headers
from huahuo.transport.protocol.frames import ServerSent, text_frame


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
