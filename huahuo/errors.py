"""What a user of huahuo may see raised: each says what to do.

HuahuoError
 +- ConfigError      a setting is missing, malformed or contradicts another one
 +- NotRunning       the service is not running (any more)
 +- OutcomeUnknown   the log could not say whether it wrote, or did not answer in time
"""

from pathlib import Path


class HuahuoError(Exception):
    """Base of the application's own errors; the text is meant for people."""


class ConfigError(HuahuoError):
    """A setting is missing, malformed or contradicts another one."""


class NotRunning(HuahuoError):  # noqa: N818  a state, said as one
    """The service is not running: it was not started, or has stopped."""


class OutcomeUnknown(HuahuoError):  # noqa: N818
    """Whether the event was written is not known: look at the log before you report it again."""


def ways_on(data: Path) -> str:
    """What can be done about a log whose end is gone."""
    return (
        "nothing was changed; keep a copy of the directory, then either restore a backup into a new one"
        f" (huahuo restore), or go on without what is missing (huahuo doctor --data {data} --accept-loss)"
    )
