"""What `huahuo doctor` says about followers: how far behind they are, and what they could not deal with."""

from huahuo.actors.followers import record
from huahuo.cli.open_effects import Told, age, metrics_of
from huahuo.eventstore.port import Log

_STUCK_S = 600.0
"""A delivery that has been under way for this long may never return."""
_LOST = (
    "the place of {} is lost, so it does not run: stop the service and run `huahuo projections place {}"
    " --after POSITION` (0: everything is delivered again)"
)
_LIST = "see `huahuo projections list`"


def of_service(url: str) -> Told:
    """From the metrics of a running service."""
    told = metrics_of(url, "huahuo_followers")
    count = int(told.get("huahuo_followers", 0))
    if not count:
        return None
    busy_s = told.get("huahuo_followers_busy_seconds", 0)
    found = _told(
        count,
        lag=int(told.get("huahuo_followers_lag_events", 0)),
        dead=int(told.get("huahuo_followers_dead_letters", 0)),
        paused=int(told.get("huahuo_followers_paused", 0)),
    )
    if busy_s < _STUCK_S:
        return found
    return "warning", f"{found[1]}; a delivery has been under way for {age(busy_s)}: it may never return"


async def of_log(log: Log) -> Told:
    """From the rows of a log that no service has open. Raises as `Log.rows`."""
    kept = [await record.standing(log, name) for name in await record.names(log)]
    if not kept:
        return None
    if lost := [one.name for one in kept if one.state == record.LOST]:
        return "error", _LOST.format(", ".join(lost), lost[0])
    return _told(
        len(kept),
        lag=max(one.lag for one in kept),
        dead=sum(one.dead_letters for one in kept),
        paused=sum(one.state == "paused" for one in kept),
    )


def _told(count: int, *, lag: int, dead: int, paused: int) -> tuple[str, str]:
    text = f"{count}, the last of them {lag} events behind"
    if paused:
        text += f", {paused} paused"
    if not dead:
        return ("ok", text) if not paused else ("warning", f"{text}: {_LIST}")
    return "warning", f"{text}, {dead} dead letters: {_LIST}, and `huahuo projections retry NAME`"
