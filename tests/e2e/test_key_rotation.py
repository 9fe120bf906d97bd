"""An issuer's keys over the life of a service: new, withdrawn, and their server down or hung."""

import contextlib
import http.client
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.models.issuer import AUDIENCE, ISSUER, Pair, key_set, pair
from tests.support.patience import WITHIN_S, until
from tests.support.servers.ports import held_port
from tests.support.servers.serving import Serving, serving
from tests.support.worlds.services import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OLD, NEW, NEWEST, FORGED = (
    pair(*one) for one in (("RS256", "a"), ("EdDSA", "b"), ("ES256", "c"), ("RS256", "a", 2))
)


class KeyServer:
    """A web server of this machine that serves one folder, as a process."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/keys.json"

    def has(self, *pairs: Pair) -> None:
        """These keys, and no others, from now on."""
        (self._folder / "next.json").write_bytes(key_set(*pairs))
        (self._folder / "next.json").rename(self._folder / "keys.json")

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(self._port)],
                cwd=self._folder, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        until_answered(f"http://127.0.0.1:{self._port}/log", 200)

    def hang(self) -> None:
        """It takes connections, and answers nothing."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(WITHIN_S)
            self._process = None

    def requests(self) -> int:
        return (self._folder / "log").read_text().count("GET /keys.json")

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyServer]:
    with held_port() as port:
        server = KeyServer(tmp_path / "keys", port)
        yield server
        server.kill()


def bearer(one: Pair) -> str:
    return one.token(exp=time.time() + 3600)


def status(url: str, token: str = "") -> int:
    """What a request is answered; 0 if it is not."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(asked, timeout=WITHIN_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException):
        return 0


def until_answered(url: str, expected: int, token: str = "") -> None:
    until(lambda: status(url, token) == expected, lambda: status(url, token))


def signed_in(server: Serving, one: Pair) -> int:
    return status(f"{server.url}/streams/user/alice", bearer(one))


@contextlib.contextmanager
def service(tmp_path: Path, keys: KeyServer) -> Iterator[Serving]:
    with serving(
        tmp_path / "data",
        HUAHUO_JWKS_URL=keys.url,
        HUAHUO_JWT_ISSUER=ISSUER,
        HUAHUO_JWT_AUDIENCE=AUDIENCE,
    ) as server:
        yield server


def test_tokens_hold_as_the_keys_of_their_issuer_do(tmp_path: Path, keys: KeyServer) -> None:
    keys.has(OLD)
    with service(tmp_path, keys) as server:
        assert signed_in(server, OLD) == 503, "nobody is called invalid while the keys are unknown"
        keys.start()
        until_answered(f"{server.url}/streams/user/alice", 200, bearer(OLD))
        assert signed_in(server, FORGED) == 401
        assert keys.requests() == 1
        keys.has(OLD, NEW)
        assert (signed_in(server, NEW), signed_in(server, OLD), keys.requests()) == (200, 200, 2)
        keys.has(NEW, NEWEST)
        assert signed_in(server, NEWEST) == 401, "an unknown key is asked for at most once a minute"
        assert keys.requests() == 2
        keys.kill()
        assert (signed_in(server, NEW), signed_in(server, OLD)) == (200, 200)
        keys.start()
        keys.hang()
        assert (signed_in(server, NEW), signed_in(server, OLD)) == (200, 200)
        server.kill()
        server.start()
        assert signed_in(server, NEW) == 503, "the key server takes the connection and does not answer"
        keys.go_on()

        async def main() -> None:
            async with Client(server.url, token=bearer(NEWEST), backoff_s=(0.05, 0.2)) as client:
                await client.wait_online()

        run(main())
        assert (signed_in(server, NEW), signed_in(server, OLD)) == (200, 401), "it was withdrawn"
