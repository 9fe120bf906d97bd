"""A publisher says that nothing was sent only where that is certain."""

import contextlib
import socket
import threading

import pytest

from huahuo.errors import Unknown
from huahuo.publisher import Publisher

_BODY = b'{"at": {"stream": "s", "seq": 1}}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
)


def _request(peer: socket.socket) -> bytes:
    said = b""
    while b'"n"' not in said:
        said += peer.recv(65536)
    return said


def test_a_request_to_a_service_that_ends_before_it_answers_may_have_taken_effect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                _request(peer)
                peer.sendall(_ANSWER)
                _request(peer)  # it takes effect, and the process is killed
                listening.close()

        serving = threading.Thread(target=serve)
        serving.start()
        publisher = Publisher(f"http://127.0.0.1:{port}", "token", timeout_s=5)
        with contextlib.closing(publisher):
            publisher.publish("s", "a", {"n": 1})
            with pytest.raises(Unknown, match="unknown after 5 s whether /publish took effect"):
                publisher.publish("s", "a", {"n": 2})
        serving.join()
