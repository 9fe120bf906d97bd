"""Entries of the table of providers at a real server: ways of TLS and of signing in."""

from collections.abc import Iterator
from typing import Any

import pytest

from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.servers.token_server import CLIENT_ID, KEY, token_server
from tests.support.worlds.mail_world import MailWorld, in_real_world, real_world

pytestmark = pytest.mark.e2e

USER = "alice@example.com"


@pytest.fixture(scope="module")
def secure() -> Iterator[Dovecot]:
    with dovecot(tls=True, token_key=KEY) as server:
        server.add_user(USER)
        server.add_mail(USER, b"Subject: one\r\n\r\nx")
        yield server


@pytest.fixture(scope="module")
def clear() -> Iterator[Dovecot]:
    with dovecot() as server:
        server.add_user(USER)
        server.add_mail(USER, b"Subject: one\r\n\r\nx")
        yield server


def settings(server: Dovecot, port: int, **keys: Any) -> dict[str, Any]:
    """A world with a provider `corp` at this server."""
    options = ProviderOptions(hosts=(f"localhost:{port}",), **keys)
    tls: dict[str, Any] = {} if server.authority is None else {"tls": server.authority.context()}
    return {
        "network": Network(allow_private=True, **tls),
        "providers": Providers({"corp": options}),
    }


async def status_of(world: MailWorld) -> tuple[str, str]:
    end = await world.checked(await world.add(USER, mail_type="corp", password="secret"))
    return end["status"], end.get("error_class", "")


@pytest.mark.parametrize("auth", ["login", "plain"])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_a_password_signs_in_under_tls(secure: Dovecot, tls: str, auth: str) -> None:

    port = secure.tls_port if tls == "implicit" else secure.port
    async with real_world(**settings(secure, port, tls=tls, auth=auth)) as world:
        assert await status_of(world) == ("ok", "")


async def test_starttls_that_is_demanded_and_not_offered_keeps_the_password_here(clear: Dovecot) -> None:
    async with real_world(**settings(clear, clear.port, tls="starttls")) as world:
        before = clear.log.count("method=")
        assert await status_of(world) == ("error", "tls")
        assert clear.log.count("method=") == before


async def test_without_tls_none_is_used_even_where_it_is_offered(secure: Dovecot) -> None:
    async with real_world(
        **settings(secure, secure.port, tls="none") | {"network": Network(allow_private=True)}
    ) as world:
        assert await status_of(world) == ("ok", "")


async def test_no_more_connections_are_made_than_the_entry_allows(secure: Dovecot) -> None:
    async with real_world(**settings(secure, secure.tls_port, connections_max=1)) as world:
        for number in range(4):
            secure.add_user(f"{number}@example.com")
            await world.add(f"{number}@example.com", mail_type="corp", password="secret")
        await world.do("check_emails", email_ids=[1, 2, 3, 4])
        for email_id in (1, 2, 3, 4):
            await world.ended(email_id)
        assert {row["status"] for row in (await world.rows()).values()} == {"ok"}
        assert world.mail.connections_peak == 1


def test_gmail_with_a_grant_signs_in_with_a_token_and_the_applications_secret(secure: Dovecot) -> None:
    with token_server() as tokens:

        async def test(world: MailWorld) -> None:
            email_id = await world.add(
                USER,
                mail_type="gmail",
                password=None,
                client_id=CLIENT_ID,
                refresh_token=tokens.grant(USER),
            )
            assert (await world.checked(email_id))["status"] == "ok"
            assert tokens.requests[0]["client_secret"] == "application secret"

        options = ProviderOptions(
            hosts=(f"localhost:{secure.tls_port}",),
            token_url=f"{tokens.url}/token",
            client_secret="application secret",
        )
        given = settings(secure, secure.tls_port) | {"providers": Providers({"gmail": options})}
        in_real_world(test, **given)
