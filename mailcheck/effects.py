"""Effects of the domain's decisions: start or stop a check or a watcher, purge a deleted mailbox. Pure data.

Each of them also stands in the commit of its decision, as a row or an end. These tell the runners at once.
"""

import msgspec

from huahuo.actors.plugins.principal import UserId


class StartCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: run this check as soon as its host has a free place. `login`, `trace`: see `OpenCheck`."""

    email_id: int
    check_id: int
    host: str
    user_id: UserId
    login: bool = False
    trace: str = ""


class StopCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: the check has ended in the log, so the task that runs it must stop."""

    check_id: int


class Watch(msgspec.Struct, frozen=True, gc=False):
    """Effect: watch this mailbox, or look at it anew after a change of its settings or secrets."""

    email_id: int
    host: str


class Unwatch(msgspec.Struct, frozen=True, gc=False):
    """Effect: do not watch this mailbox any more."""

    email_id: int


class LookAgain(msgspec.Struct, frozen=True, gc=False):
    """Effect: a check succeeded after a failure, so the watcher of the mailbox may succeed too."""

    email_id: int


class ReadBodies(msgspec.Struct, frozen=True, gc=False):
    """Effect: mails of this mailbox were told by their headers, so read the rest of them."""

    email_id: int


class Purge(msgspec.Struct, frozen=True, gc=False):
    """Effect: remove the rows and blobs of a deleted mailbox."""

    email_id: int


type Effect = StartCheck | StopCheck | Watch | Unwatch | LookAgain | ReadBodies | Purge
