"""Mailboxes of an Outlook on this machine, which sign in with grants."""

import re
from typing import Any

from huahuo.mailcheck.servers.providers import ProviderOptions, Providers
from tests.support.servers.dovecot import Dovecot
from tests.support.servers.token_server import CLIENT_ID, IMAP_SCOPE, TokenServer
from tests.support.worlds.mail_world import MailWorld

SCOPES = ((IMAP_SCOPE, "offline_access"),)
GRAPH_SCOPES = (("https://graph.microsoft.com/.default",),)


def mime(subject: str) -> bytes:
    return f"Subject: {subject}\r\nFrom: a@b.c\r\nMessage-ID: <{subject}@b.c>\r\n\r\nbody\r\n".encode()


def outlook(mails: Dovecot, tokens: TokenServer, **changed: Any) -> dict[str, Any]:
    """Settings of a world in which Outlook is on this machine."""
    keys: dict[str, Any] = {
        "hosts": (f"127.0.0.1:{mails.port}",),
        "tls": "none",
        "token_url": (f"{tokens.url}/token",),
        "devicecode_url": f"{tokens.url}/devicecode",
        "graph_url": f"{tokens.url}/graph",
        "graph_scopes": GRAPH_SCOPES,
        "scopes": SCOPES,
    }
    return {"providers": Providers({"outlook": ProviderOptions(**(keys | changed))})}


async def add(world: MailWorld, email: str, refresh_token: str) -> int:
    return await world.add(
        email, mail_type="outlook", password=None, client_id=CLIENT_ID, refresh_token=refresh_token
    )


async def subjects(world: MailWorld, email_id: int) -> list[str]:
    body = await world.do("get_mail_records", email_id=email_id)
    return sorted(row["subject"] for row in body["data"])


def add_user(mails: Dovecot, test: str) -> str:
    """A user with two mails, named after a test."""
    name = re.sub(r"[^a-z0-9]+", "-", test.lower()).strip("-")[-50:] + "@example.com"
    mails.add_user(name)
    mails.add_mail(name, mime("first"), mime("second"))
    return name
