"""Which mails of a user are unread on their servers, as the last reading of each folder saw it."""

import msgspec

from huahuo.eventstore.port import Log
from huahuo.mailcheck.tables.records import UNREAD, MailRecord, Unread

_FOLDERS_MAX = 100
_decode = msgspec.json.Decoder(Unread).decode


class UnreadMails:
    """For one question: what was read of a mailbox once is remembered."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._folders: dict[int, dict[str, tuple[int, frozenset[int]]]] = {}

    async def has(self, record: MailRecord) -> bool:
        """Whether this mail is one of them."""
        folders = self._folders.get(record.email_id)
        if folders is None:
            rows = await self._log.rows(UNREAD, str(record.email_id), limit=_FOLDERS_MAX)
            found = [_decode(value) for _, value in rows]
            folders = {one.folder: (one.uidvalidity, one.numbers()) for one in found if one.uids}
            self._folders[record.email_id] = folders
        uidvalidity, uids = folders.get(record.folder, (0, frozenset()))
        return record.uid in uids and record.uidvalidity == uidvalidity
