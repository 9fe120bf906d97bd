"""Behind the real nginx and Caddy, configured as shipped, clients get what they get without a proxy."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from websockets.asyncio.client import connect

from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S
from tests.support.servers.reverse_proxies import NAMES, reverse_proxy
from tests.support.servers.serving import Serving, serving
from tests.support.servers.tls import Authority

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


OVER_LIMIT = 4504


@dataclass
class Behind:
    """A service, the proxy's address, and what trusts its certificate."""

    server: Serving
    url: str
    trust: ssl.SSLContext

    async def publish(self, n: int) -> None:
        """One event on the group's stream, published past the proxy."""
        token = self.server.token(1, "root", admin=True)
        async with Client(self.server.url, token=token, client="root") as root:
            await root.send("publish", stream="group/ops", type="tick", n=n)


@pytest.fixture(scope="module", params=NAMES)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp(request.param)
    authority = Authority()
    with (
        serving(folder / "data", HUAHUO_TRUSTED_PROXIES="127.0.0.1", HUAHUO_CONNECTIONS_PER_IP="2") as server,
        reverse_proxy(request.param, server.port, folder, authority) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        (folder / "authority.pem").write_text(authority.pem(), encoding="ascii")
        patch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        yield Behind(server, url, authority.context())


async def test_a_websocket_client_gets_events_through_the_proxy(behind: Behind) -> None:
    token = behind.server.token(42, "alice", groups=("ops",))
    async with (
        asyncio.timeout(WITHIN_S),
        Client(behind.url, token=token, client="laptop") as alice,
        alice.events("group/ops", after="start") as events,
    ):
        await behind.publish(1)
        async for event in events:
            if event.data.get("n") == 1:
                break


async def test_server_sent_events_are_passed_on_while_the_answer_goes_on(behind: Behind) -> None:
    token = behind.server.token(42, "alice", groups=("ops",))
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    async with (
        asyncio.timeout(WITHIN_S),
        httpx.AsyncClient(verify=behind.trust, timeout=WITHIN_S) as http,
        http.stream("GET", f"{behind.url}/streams/group/ops", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        await behind.publish(2)
        async for line in answer.aiter_lines():
            if line.startswith("data:") and '"n":2' in line:
                break


async def test_clients_count_by_their_own_address(behind: Behind) -> None:
    address = f"{behind.url.replace('https', 'wss')}/ws"

    def from_address(last: int) -> connect:
        return connect(address, ssl=behind.trust, local_addr=(f"127.0.0.{last}", 0), open_timeout=WITHIN_S)

    async with (
        asyncio.timeout(WITHIN_S),
        from_address(2),
        from_address(2),
        from_address(3) as other,
        from_address(2) as one_too_many,
    ):
        await one_too_many.wait_closed()
        assert (one_too_many.close_code, other.close_code) == (OVER_LIMIT, None)


async def test_metrics_are_not_handed_out(behind: Behind) -> None:
    async with httpx.AsyncClient(verify=behind.trust, timeout=WITHIN_S) as http:
        assert (await http.get(f"{behind.url}/metrics")).status_code == 404
        assert (await http.get(f"{behind.url}/readyz")).text == "ready\n"
