"""One mailbox as a user sees it. Pure data."""

import msgspec


class Row(msgspec.Struct, frozen=True, gc=False):
    """One mailbox as PROTOCOL 6 shows it; `last_check_time` moves only after a success.

    Never changed, only replaced: whoever holds some rows holds the state of one moment.
    """

    id: int
    user_id: int
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
