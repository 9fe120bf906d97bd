"""What the domain's decisions start: checks, their end, and the removal of what is left. Pure data."""

import msgspec


class StartCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: run this check when its host has a place."""

    email_id: int
    check_id: int
    host: str
    user_id: int


class StopCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: the check has ended in the log; whoever runs it stops."""

    check_id: int


class Purge(msgspec.Struct, frozen=True, gc=False):
    """Effect: remove the rows and blobs of a deleted mailbox."""

    email_id: int


type Effect = StartCheck | StopCheck | Purge
