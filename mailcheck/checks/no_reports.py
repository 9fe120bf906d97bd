"""A sink for what reads a mailbox for another reason than a check: none of its reports is of interest."""

from huahuo.mailcheck.fetched import FetchedMail, UidCursor


class NoReports:
    """See the module. Implements `Sink`; a subclass says what is wanted, and takes it."""

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`."""

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        """See `Sink`."""
