"""A data directory with real checks in it, made once by a real service and a real IMAP server.

with recording(tmp_path) as recorded:
    recorded.server         the service, still running
    recorded.good           a mailbox that was checked twice, with mails
    recorded.broken         one that was refused, and whose server then went away: it ended in `error`
"""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S
from tests.support.servers.pymap import Pymap, pymap
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving

USER = 42
TERMINAL = {"ok", "error", "need_reauth", "cancelled"}


class Recorded:
    """What was done, by name."""

    good: int
    broken: int

    def __init__(self, server: Serving) -> None:
        self.server = server
        self.data = server.data

    def copy(self, target: Path) -> Path:
        """The directory's files as they are now."""
        shutil.copytree(self.data, target)
        return target


@contextlib.contextmanager
def recording(root: Path) -> Iterator[Recorded]:
    """Record a little history; the service still runs when the block begins."""
    with serving(root / "data") as server:
        recorded = Recorded(server)
        with pymap() as mail:
            mail.add_mail(b"Subject: hello\r\nFrom: a@b.example\r\n\r\nworld", b"Subject: code 1234\r\n\r\nx")
            asyncio.run(_good(recorded, mail))
        asyncio.run(_check(recorded, recorded.broken))
        yield recorded


def environ() -> dict[str, str]:
    """The keys of the recorded directory, for commands over it."""
    return {"HUAHUO_JWT_SECRET": JWT_SECRET, "HUAHUO_MASTER_KEY": MASTER_KEY}


async def _good(recorded: Recorded, mail: Pymap) -> None:
    reached = {"mail_type": "imap", "server": mail.host, "use_ssl": False, "password": mail.password}
    async with _client(recorded.server) as client:
        # One server that knows one user: the other one is refused there.
        for name, email in (("good", mail.user), ("broken", f"nobody-{mail.user}")):
            added = await client.send("add_email", email=email, port=mail.port, **reached)
            setattr(recorded, name, added["email_id"])
    await _check(recorded, recorded.good)
    mail.add_mail(b"Subject: later\r\n\r\ny")
    await _check(recorded, recorded.good)
    await _check(recorded, recorded.broken)


async def _check(recorded: Recorded, email_id: int) -> dict[str, Any]:
    async with _client(recorded.server) as client, client.events(f"user/{USER}", after="head") as events:
        await client.send("check_emails", email_ids=[email_id])
        async with asyncio.timeout(WITHIN_S):
            async for event in events:
                if event.data.get("email_id") == email_id and event.data.get("status") in TERMINAL:
                    return event.data
    raise AssertionError("the stream ended")


def _client(server: Serving) -> Client:
    return Client(server.url, token=server.token(USER, "alice"), client="tests")
