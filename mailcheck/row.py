"""One mailbox as a user sees it. Pure data."""

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins.principal import UserId
from huahuo.mailcheck.claim import Claim


class Row(msgspec.Struct, frozen=True, gc=False):
    """One mailbox as PROTOCOL 6 shows it; `last_check_time` moves only after a success.

    A row is immutable and is replaced as a whole, so a copied list of rows is a consistent cut. The fields
    without a value are left out: most mailboxes have no labels, and a list may have 100,000 rows.
    """

    id: int
    user_id: UserId
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    created_at: str
    status: str = "idle"
    progress: int = 0
    message: str = ""
    last_check_time: str | None = None
    mail_count: int = 0
    watched: bool = False
    tags: tuple[str, ...] | UnsetType = UNSET
    note: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    folders: tuple[str, ...] | UnsetType = UNSET
    """Read besides INBOX, where the user has chosen them."""
    error_class: str | UnsetType = UNSET
    """Of the last check, if it failed."""
    claim: Claim | UnsetType = UNSET

    def claimed(self, now: str) -> bool:
        """Whether somebody has it now."""
        return self.claim is not UNSET and self.claim.until > now
