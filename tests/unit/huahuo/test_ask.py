"""What the command line asks of a running service goes straight to it, and what is said if none answers."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.app import service_port
from huahuo.app.config import Settings
from huahuo.app.service_port import not_ready, time_of
from huahuo.audit.audited_log import Elsewhere, ask_service
from huahuo.errors import ConfigError, HuahuoError
from tests.support.servers.ports import held_port


@contextlib.contextmanager
def _greeted(greeting: bytes) -> Iterator[str]:
    """The address of what says this to each of two who connect, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test has failed, and nobody comes any more
                for _ in range(2):
                    one, _ = listening.accept()
                    with one:
                        one.recv(1 << 16)
                        one.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b'INFO {"server_id":"N"}\r\n', "no answer: "),  # as NATS greets
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n", "HTTP Error 503"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP Error 404"),
    ],
)
def test_what_is_no_service_is_told_as_one_that_is_not_ready(greeting: bytes, said: str) -> None:
    with _greeted(greeting) as place:
        assert not_ready(f"http://{place}").startswith(said)
        assert time_of(f"http://{place}") is None


@pytest.mark.parametrize("form", ["{}", "http://{}/", "ws://{}", "WS://{}/ws", "http://{}/ws"])
def test_a_service_is_asked_at_each_form_of_address_that_a_client_takes(form: str) -> None:
    with _greeted(
        b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 01:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
    ) as place:
        assert not_ready(form.format(place)) == ""
        assert time_of(form.format(place)) == 1795827600


def settings(directory: Path) -> Settings:
    return Settings(data=directory, jwt_secret="a secret of more than 32 bytes, for tests")


@pytest.mark.parametrize(("action", "done"), [("get_nodes", ""), ("trim_log", ", and may have done it")])
async def test_a_service_that_does_not_answer_in_time_is_told_apart_from_one_that_refused(
    tmp_path: Path, action: str, done: str
) -> None:
    with held_port() as port:
        url = f"http://127.0.0.1:{port}"
        service_port.write_address(tmp_path, url)
        with pytest.raises(HuahuoError) as told:
            await ask_service(settings(tmp_path), action, timeout_s=0.2)
    said = str(told.value)
    began = f"the service at {url} has not answered {action} within 0.2 s{done}; its /readyz says: "
    assert said.startswith(began)
    assert "Connection refused" in said


async def test_what_is_no_address_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--url: "):
        await ask_service(settings(tmp_path), "get_nodes", elsewhere=Elsewhere("http://", "t"))
