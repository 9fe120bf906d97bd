"""What `huahuo doctor` says about shredded keys that the ordered log of several nodes still has."""

from huahuo.cli.open_effects import Told, age, metrics_of

LATE_S = 86_400.0
"""A shred is trimmed within a day."""


def of_service(url: str) -> Told:
    """From the metrics of a running node."""
    told = metrics_of(url, "huahuo_shreds_untrimmed")
    if "huahuo_shreds_untrimmed" not in told:
        return None
    count, since_s = int(told["huahuo_shreds_untrimmed"]), told.get("huahuo_shreds_untrimmed_seconds", 0.0)
    if not count:
        return "ok", "the ordered log has no key that was shredded"
    text = f"the ordered log still has the keys of {count} shreds, the oldest of {age(since_s)} ago"
    if since_s <= LATE_S:
        return "ok", text
    return "warning", f"{text}: run `huahuo cluster trim`, which says what it waits for"
