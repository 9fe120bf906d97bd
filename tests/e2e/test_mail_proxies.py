"""Checks through proxies: which way IMAP, tokens and Graph take, and what a proxy is told."""

from collections.abc import Iterator
from typing import Any

import pytest

from huahuo.mailcheck.servers.providers import ProviderOptions, Providers, parse_proxy
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.servers.forward_proxy import ForwardProxy, forward_proxy
from tests.support.servers.token_server import CLIENT_ID, GRAPH_SCOPE, KEY, TokenServer
from tests.support.worlds.mail_world import MailWorld, in_real_world, real_world

pytestmark = pytest.mark.e2e

USER = "alice@example.com"


@pytest.fixture(scope="module")
def mails() -> Iterator[Dovecot]:
    with dovecot(token_key=KEY) as server:
        server.add_user(USER)
        server.add_mail(USER, b"Subject: through\r\n\r\nx")
        yield server


@pytest.fixture(params=["", "user"], ids=["open", "with a password"])
def proxy(request: pytest.FixtureRequest) -> Iterator[ForwardProxy]:
    with forward_proxy(request.param, "pass@word" if request.param else "") as server:
        yield server


def through(server: ForwardProxy, scheme: str) -> Any:
    return parse_proxy(server.url(scheme), trusted=True)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_for_all_is_the_way_of_imap(mails: Dovecot, proxy: ForwardProxy, scheme: str) -> None:
    async with real_world(proxy=through(proxy, scheme)) as world:
        email_id = await world.add(
            USER, password="secret", server="127.0.0.1", port=mails.port, use_ssl=False
        )
        assert (await world.checked(email_id))["status"] == "ok"
        assert proxy.asked == [("127.0.0.1", mails.port)]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_tokens_and_graph_take_it_too_and_hosts_of_the_table_go_by_name(
    mails: Dovecot, tokens: TokenServer, proxy: ForwardProxy, scheme: str
) -> None:

    options = ProviderOptions(
        hosts=(f"imap.example:{mails.port}",),
        tls="none",
        token_url=f"http://login.example:{tokens.port}/token",
        graph_url=f"http://graph.example:{tokens.port}/graph",
        scopes=(("https://outlook.office.com/IMAP.AccessAsUser.All",),),
    )
    async with real_world(proxy=through(proxy, scheme), providers=Providers({"outlook": options})) as world:
        token = tokens.grant(USER, GRAPH_SCOPE)
        tokens.inbox(USER).append(b"Subject: by graph\r\n\r\nx")
        email_id = await world.add(
            USER, mail_type="outlook", password=None, client_id=CLIENT_ID, refresh_token=token
        )
        assert (await world.checked(email_id))["status"] == "ok"
        assert set(proxy.asked) == {("login.example", tokens.port), ("graph.example", tokens.port)}


def test_a_mailbox_may_have_a_proxy_of_its_own_or_none(mails: Dovecot) -> None:
    with forward_proxy() as own, forward_proxy() as common:

        async def test(world: MailWorld) -> None:
            where: dict[str, Any] = {
                "password": "secret",
                "server": "127.0.0.1",
                "port": mails.port,
                "use_ssl": False,
            }
            email_id = await world.add(USER, **where, proxy=own.url("socks5"))
            assert (await world.checked(email_id))["status"] == "ok"
            assert (len(own.asked), len(common.asked)) == (1, 0)
            await world.do("update_email", email_id=email_id, proxy="direct")
            assert (await world.checked(email_id))["status"] == "ok"
            assert (len(own.asked), len(common.asked)) == (1, 0)

        in_real_world(test, proxy=through(common, "http"))


def test_a_group_may_have_a_proxy_that_a_mailbox_of_its_own_overrides(mails: Dovecot) -> None:
    with forward_proxy() as own, forward_proxy() as groups, forward_proxy() as common:

        def asked() -> tuple[int, int, int]:
            return len(own.asked), len(groups.asked), len(common.asked)

        async def test(world: MailWorld) -> None:
            where: dict[str, Any] = {"server": "127.0.0.1", "port": mails.port, "use_ssl": False}
            email_id = await world.add(USER, password="secret", **where)
            await world.do("label_emails", email_ids=[email_id], group="ops")
            await world.do("set_group_proxy", group="ops", proxy=groups.url("socks5"))
            assert (await world.checked(email_id))["status"] == "ok"
            assert asked() == (0, 1, 0)
            await world.restart()
            await world.do("update_email", email_id=email_id, proxy=own.url("http"))
            assert (await world.checked(email_id))["status"] == "ok"
            assert asked() == (1, 1, 0)
            await world.do("update_email", email_id=email_id, proxy="direct")
            await world.do("set_group_proxy", group="ops", proxy="")
            other = await world.add(f"x.{USER}", password="secret", **where)
            await world.do("label_emails", email_ids=[other], group="ops")
            await world.checked(other)
            assert asked() == (1, 1, 1)

        in_real_world(test, proxy=through(common, "http"))


def test_a_proxy_that_refuses_is_an_error_of_the_class_network(mails: Dovecot) -> None:
    with forward_proxy("user", "right") as closed:

        async def test(world: MailWorld) -> None:
            email_id = await world.add(USER, password="secret", server="127.0.0.1", port=mails.port)
            end = await world.checked(email_id)
            assert (end["status"], end["error_class"]) == ("error", "network")
            assert "wrong" not in str(end)

        wrong = f"http://user:wrong@127.0.0.1:{closed.port}"
        in_real_world(test, proxy=parse_proxy(wrong, trusted=True))


async def test_a_malformed_proxy_is_refused_without_repeating_it(world: MailWorld) -> None:
    body = await world.do("add_email", email=USER, password="p", proxy="ftp://u:canary@h:1")
    assert (body["type"], body["code"]) == ("error", "invalid_field")
    assert "canary" not in str(body)
