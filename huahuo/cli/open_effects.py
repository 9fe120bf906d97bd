"""What `huahuo doctor` says about open effects: how many there are, and one that may never return."""

from huahuo.actors.effects.facts import TABLE, read_row
from huahuo.app.ask import get
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.port import Log

_TIMEOUT_S = 2.0
_OLD_S = 3600.0
"""An effect that has been open for this long may never return."""
_ADVICE = "it may never return: look at it in the service's log, and end it with CancelEffects"

type Told = tuple[str, str] | None
"""The level and the text of a finding, None if there is nothing to say."""


def metrics_of(url: str, prefix: str) -> dict[str, float]:
    """The metrics of a running service whose names begin like this; none if it does not answer."""
    try:
        lines = get(url, "/metrics", _TIMEOUT_S).splitlines()
        return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if line.startswith(prefix)}
    except (OSError, ValueError):
        return {}


def of_service(url: str) -> Told:
    """From the metrics of a running service."""
    told = metrics_of(url, "huahuo_effects_")
    count = int(told.get("huahuo_effects_open", 0))
    if not count:
        return None
    oldest_s = told.get("huahuo_effects_oldest_seconds", 0)
    return _told(oldest_s, f"{count} open, the oldest for {age(oldest_s)}")


async def of_log(log: Log, ambient: Ambient) -> Told:
    """From the table of a log that no service has open. Raises as `Log.rows`."""
    rows = await log.rows(TABLE, "", limit=1)
    if not rows:
        return None
    oldest = read_row(rows[0][1])
    age_s = (ambient.now_ms() - oldest.since_ms) / 1000
    since = rfc3339(oldest.since_ms)
    return _told(
        age_s,
        f"open, and go on with the service; the oldest is {oldest.effect} of {oldest.entity}, since {since}",
    )


def _told(age_s: float, text: str) -> Told:
    return ("warning", f"{text}: {_ADVICE}") if age_s >= _OLD_S else ("ok", text)


def age(seconds: float) -> str:
    """A time in the unit that fits it."""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
