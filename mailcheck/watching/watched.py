"""One watched mailbox, as this process knows it."""

from typing import Final

from huahuo.mailcheck.checks.connections import Places
from huahuo.mailcheck.imap.client import ImapClient

NEVER_S: Final = float("inf")


class Watched:
    """One watched mailbox. `due_s` is inf while it looks, or waits for its sign-in to change."""

    __slots__ = (
        "all_due_s",
        "anew",
        "client",
        "due_s",
        "email_id",
        "failures",
        "host",
        "news",
        "places",
        "running",
        "since_s",
        "told",
    )

    def __init__(self, email_id: int, host: str) -> None:
        self.email_id = email_id
        self.host = host
        self.due_s = NEVER_S
        self.failures = 0
        self.running = False
        self.anew = False
        """Its settings changed while it looked."""
        self.news = False
        self.told = False
        """The user was told of a failure, as far as this process knows."""
        self.client: ImapClient | None = None
        self.places: Places | None = None
        """Where the connection of `client` has its place."""
        self.since_s = 0.0
        """When it took that."""
        self.all_due_s = 0.0
        """When all folders are to be read again. News of INBOX put that off no further."""

    def cut(self) -> None:
        """Cut the connection that waits in IDLE, if there is one."""
        client, places = self.client, self.places
        self.client = self.places = None
        if client is not None:
            client.abort()
        if places is not None:
            places.wake(self.email_id)
            places.give()
