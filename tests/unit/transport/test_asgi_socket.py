"""What a connection writes, as an ASGI server gets it; and what waits while that server does not take it."""

import pytest

from huahuo.transport.http.asgi_socket import Unwrapped
from huahuo.transport.protocol.frames import PING, binary_frame, text_frame

pytestmark = pytest.mark.virtual_time


async def test_what_many_get_is_taken_apart_once() -> None:
    unwrapped, frame = Unwrapped(), text_frame(b'{"type":"live"}')
    assert unwrapped.messages(frame) is unwrapped.messages(frame)
    assert unwrapped.messages(binary_frame(b"zstd")) == [({"type": "websocket.send", "bytes": b"zstd"}, 4)]
    assert unwrapped.messages(PING) == [], "pings are the server's"
