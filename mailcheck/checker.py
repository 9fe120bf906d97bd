"""One check of one mailbox, from the name of its server to the last new mail. Effects only: no event, no log.

The mailbox actor starts it as a task and may cancel it at any time; the connection is then cut.
"""

from eventstore.ambient import Ambient
from eventstore.executor import Executor
from mailcheck.check_api import CheckLimits, Ok, Sink, Target, UidCursor
from mailcheck.hosts import HostLimits
from mailcheck.network import Network


async def check(
    target: Target,
    since: UidCursor | None,
    *,
    sink: Sink,
    limits: CheckLimits,
    network: Network,
    hosts: HostLimits,
    executor: Executor,
    ambient: Ambient,
) -> Ok:
    """Fetch everything newer than `since` and hand it to `sink`.

    Raises:
        CheckFailed: with the classified outcome.
    """
    raise NotImplementedError
