"""A port that the demo gives to a server it starts later."""

import socket
import sys

import pytest

from huahuo.demo.demo import held_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no port can be held")


def test_a_held_port_is_given_to_no_connection_and_a_server_can_listen_there_again_and_again() -> None:
    with held_port() as port, socket.create_server(("127.0.0.1", 0)) as elsewhere:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        for _ in range(2):
            with (
                socket.create_server(("127.0.0.1", port)) as server,
                socket.create_connection(("127.0.0.1", port)),
            ):
                server.accept()[0].close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_connection(elsewhere.getsockname()) as made:
            assert made.getsockname()[1] != port
