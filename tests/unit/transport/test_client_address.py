"""The Python client's address: of a server, of a mount in another application, or of a socket itself."""

import pytest

from huahuo.transport.client.connection import websocket_url


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("https://example.org/", "wss://example.org/"),
        ("http://example.org/live", "ws://example.org/live/ws"),
        ("https://example.org/a/b/live#x", "wss://example.org/a/b/live/ws"),
        ("http://example.org/live/", "ws://example.org/live/"),
        ("http://example.org/live/ws", "ws://example.org/live/ws"),
        ("http://example.org/socket?v=1", "ws://example.org/socket?v=1"),
        ("wss://example.org/socket", "wss://example.org/socket"),
    ],
)
def test_an_address_is_that_of_a_server_of_a_mount_or_of_a_socket(given: str, meant: str) -> None:
    assert websocket_url(given) == meant


@pytest.mark.parametrize("given", ["", "notaurl", "ftp://a:1", "http://", "http://a:x", "http://a b"])
def test_what_is_no_address_is_refused_with_what_to_write(given: str) -> None:
    with pytest.raises(ValueError, match="write http://HOST:PORT"):
        websocket_url(given)
