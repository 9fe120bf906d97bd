"""Token endpoints and Graph over TLS: the certificate must prove the name, also behind a proxy."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers, parse_proxy
from tests.support.servers.forward_proxy import forward_proxy
from tests.support.servers.tls import Authority
from tests.support.servers.token_server import CLIENT_ID, GRAPH_SCOPE, TokenServer, token_server
from tests.support.worlds.mail_world import MailWorld, in_real_world

USER = "alice@example.com"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tokens(authority: Authority, tmp_path: Path) -> Iterator[TokenServer]:
    authority.server_files(tmp_path, "localhost", "login.example")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with token_server(tls=tls) as server:
        server.host = "localhost"
        yield server


def graph_only(tokens: TokenServer, host: str) -> Providers:
    """Outlook at this token server, called `host`; IMAP has no scope, so mails come by Graph."""
    url = f"https://{host}:{tokens.port}"
    options = ProviderOptions(
        hosts=("127.0.0.1:1",),
        tls="none",
        token_url=f"{url}/token",
        graph_url=f"{url}/graph",
        scopes=(("https://outlook.office.com/IMAP.AccessAsUser.All",),),
    )
    return Providers({"outlook": options})


async def checked(world: MailWorld, tokens: TokenServer) -> dict[str, Any]:
    token = tokens.grant(USER, GRAPH_SCOPE)
    tokens.inbox(USER).extend([b"Subject: one\r\n\r\nx"] * 3)
    email_id = await world.add(
        USER, mail_type="outlook", password=None, client_id=CLIENT_ID, refresh_token=token
    )
    return await world.checked(email_id)


def test_mails_come_over_https(tokens: TokenServer, authority: Authority) -> None:
    async def test(world: MailWorld) -> None:
        assert (await checked(world, tokens))["status"] == "ok"

    network = Network(allow_private=True, tls=authority.context())
    in_real_world(test, network=network, providers=graph_only(tokens, "localhost"))


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_carries_https(tokens: TokenServer, authority: Authority, scheme: str) -> None:
    tokens.host = "login.example"

    async def test(world: MailWorld) -> None:
        assert (await checked(world, tokens))["status"] == "ok"

    network = Network(allow_private=True, tls=authority.context())
    with forward_proxy() as proxy:
        through = parse_proxy(proxy.url(scheme), trusted=True)
        providers = graph_only(tokens, "login.example")
        in_real_world(test, network=network, providers=providers, proxy=through)
        assert set(proxy.asked) == {("login.example", tokens.port)}


def test_a_certificate_that_nobody_vouches_for_ends_the_check_and_no_token_is_sent(
    tokens: TokenServer,
) -> None:
    async def test(world: MailWorld) -> None:
        end = await checked(world, tokens)
        assert (end["status"], end["error_class"]) == ("error", "tls")
        assert tokens.requests == []

    in_real_world(test, providers=graph_only(tokens, "localhost"))


def test_a_certificate_for_another_name_is_refused(tokens: TokenServer, authority: Authority) -> None:
    async def test(world: MailWorld) -> None:
        end = await checked(world, tokens)
        assert (end["status"], end["error_class"]) == ("error", "tls")
        assert tokens.requests == []

    network = Network(allow_private=True, tls=authority.context())
    in_real_world(test, network=network, providers=graph_only(tokens, "127.0.0.1"))


def test_a_token_endpoint_in_a_private_network_needs_mail_allow_private(
    tokens: TokenServer, authority: Authority
) -> None:
    async def test(world: MailWorld) -> None:
        end = await checked(world, tokens)
        assert (end["status"], end["error_class"]) == ("error", "config")
        assert tokens.requests == []

    in_real_world(test, network=Network(tls=authority.context()), providers=graph_only(tokens, "localhost"))
