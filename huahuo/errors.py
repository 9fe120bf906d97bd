"""Exceptions for users of huahuo. The text of each says what to do.

HuahuoError
 +- ConfigError      a setting is missing, malformed or contradicts another
 +- NotRunning       the service is not running
 +- OutcomeUnknown   the log does not know whether it wrote, or did not answer in time
     +- Unknown     a publisher heard nothing until its deadline
"""

from pathlib import Path


class HuahuoError(Exception):
    """Base of the application's own errors. The text is for people."""


class ConfigError(HuahuoError):
    """A setting is missing, malformed or contradicts another."""


class NotRunning(HuahuoError):  # noqa: N818  a state, said as one
    """The service is not running: it was not started, or has stopped."""


class OutcomeUnknown(HuahuoError):  # noqa: N818
    """It is unknown whether the event was written. Look at the log before you report it again."""


class Unknown(OutcomeUnknown):
    """A publisher's deadline passed before the service answered. The same command id may be sent again."""


class JobCancelled(Exception):  # noqa: N818  an event
    """The job was cancelled. The `with` block of a blocking job ends with it, silently."""


def ways_on(data: Path) -> str:
    """The ways on from a log that is damaged, or whose end is lost."""
    return (
        "nothing was changed: restore a backup into a new directory (huahuo restore); if there is none, take"
        f" what can be read (huahuo salvage {data} --data NEW)"
    )


def copied_again(data: Path) -> str:
    """What to do about the directory of a node of several that is damaged, or differs from the others."""
    return (
        f"this is the directory of a node: first keep a copy of {data}, which may be the only one (`huahuo"
        f" backup DIR --data {data}` makes a checked one). Look whether another node is right and ready"
        f" (`huahuo cluster status`). Only then empty {data}, but keep the keys and node.name, and start the"
        " node again: it fetches a copy from another node"
    )
