"""How many users can sign in each second, by who judges their tokens?

The guess before the first run: 20 µs of processor time to verify a token of the shared secret, 60 µs with
RS256, 100 µs with ES256 and 120 µs with EdDSA; a whole sign-in over a WebSocket (connect, authenticate, its
answer) 400 µs of the server more, so the algorithm costs at most a quarter of it.

`verify` is measured in this process. For `sign_ins` one process serves with the keys of another address, and
this one opens connections, 64 at a time, each with a token of its own.
"""

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from bench.harness.harness import Metric, Options, Sheet, interleaved
from bench.harness.procs import cpu_s, raise_files_max
from huahuo import Principal
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.access.claims import OWN_NAMES
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.access.verified import Verified
from huahuo.transport.accounts.accounts import Accounts, Issuer
from huahuo.transport.accounts.application import AskApplication
from huahuo.transport.accounts.key_server import KeyServer

SECRET = "bench-secret-that-is-long-enough-0000"
SHARED, CALLED = "shared secret", "authenticate="
CASES = (SHARED, "RS256", "ES256", "EdDSA", CALLED)
METRICS = (
    Metric("verify", "µs of processor/token", higher_is_better=False, compare=True),
    Metric("sign_ins", "1/s", compare=True),
    Metric("server", "µs of processor/sign-in", higher_is_better=False),
)
AT_ONCE = 64
_SERVICE = """
import sys
from huahuo import Huahuo, Principal
app = Huahuo(
    data="data", port=0, jwks_url=sys.argv[1], connections_per_ip=0, connections_per_user=0,
    unauthenticated_per_ip=0, jwt_secret=sys.argv[2], log_level="error",
    authenticate=lambda token: Principal(token) if token.startswith("user-") else None,
)
app.run()
"""


class Tokens:
    """Tokens of every case."""

    def __init__(self) -> None:
        private: dict[str, Any] = {
            "RS256": rsa.generate_private_key(65537, 2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        self._private = private
        algorithms = {name: jwt.PyJWS().get_algorithm_by_name(name) for name in private}
        jwks = [
            algorithms[name].to_jwk(key.public_key(), as_dict=True) | {"kid": name}
            for name, key in private.items()
        ]
        self.keys = msgspec.json.encode({"keys": [{**one, "key_ops": ["verify"]} for one in jwks]})

    def make(self, case: str, count: int) -> list[str]:
        """`count` tokens, each of another user."""
        if case == CALLED:
            return [f"user-{number}" for number in range(count)]
        exp = SystemAmbient().now_ms() // 1000 + 3600
        users = ({"sub": f"user-{number}", "username": "a user", "exp": exp} for number in range(count))
        if case == SHARED:
            return [jwt.encode(claims, SECRET, "HS256") for claims in users]
        key = self._private[case]
        return [jwt.encode(claims, key, case, headers={"kid": case}) for claims in users]


def run(options: Options) -> list[Sheet]:
    """See the module."""
    raise_files_max()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    tokens, sheet = Tokens(), Sheet("sign-ins", METRICS, baseline=SHARED)
    count = 64 if options.quick else 2_000

    def measure(case: str) -> None:
        given = tokens.make(case, count)
        (options.folder / case).mkdir(exist_ok=True)
        asyncio.run(_measured(case, sheet, tokens, given, options.folder))

    interleaved(CASES, options.rounds, measure, [sheet])
    return [sheet]


async def _measured(case: str, sheet: Sheet, tokens: Tokens, given: list[str], folder: Path) -> None:
    verify_us = await _verified(tokens, given)
    async with _key_server(tokens.keys) as address, _service(address, folder / case) as (url, pid):
        await _sign_in(url, given[0])  # the keys are there from now on
        began_s, began_cpu_s = time.perf_counter(), cpu_s([pid])
        room = asyncio.Semaphore(AT_ONCE)

        async def one(token: str) -> None:
            async with room:
                await _sign_in(url, token)

        await asyncio.gather(*map(one, given))
        took_s, took_cpu_s = time.perf_counter() - began_s, cpu_s([pid]) - began_cpu_s
    sheet.add(case, verify=verify_us, sign_ins=len(given) / took_s, server=1e6 * took_cpu_s / len(given))


async def _verified(tokens: Tokens, given: list[str]) -> float:
    """µs of processor time for each token."""

    async def fetch(_url: str, _timeout_s: float) -> bytes:
        return tokens.keys

    ambient = SystemAmbient()
    keys = KeyServer("https://issuer.example", ambient, fetch)
    await keys.fetched()
    accounts = Accounts(
        Authenticator(SECRET.encode()), issuer=Issuer(keys, OWN_NAMES), application=AskApplication(Principal)
    )
    now_ms, began_s = ambient.now_ms(), time.process_time()
    for token in given:
        assert isinstance(accounts.verify(token, now_ms), Verified)
    return 1e6 * (time.process_time() - began_s) / len(given)


async def _sign_in(url: str, token: str) -> None:
    async with connect(url, subprotocols=[Subprotocol("huahuo.v1")], compression=None, proxy=None) as ws:
        await ws.send(msgspec.json.encode({"action": "authenticate", "token": token}).decode())
        said = msgspec.json.decode(await ws.recv())
        assert said.get("success"), said


@contextlib.asynccontextmanager
async def _key_server(keys: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(keys) + keys)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def _service(keys: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVICE, keys, SECRET), cwd=folder, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode()
        yield line.split()[-1].replace("http", "ws", 1) + "/ws", child.pid
    finally:
        child.terminate()
        await child.wait()
