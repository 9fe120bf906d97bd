"""The streams that `huahuo replay check` could not judge, because no entity known here folds them."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from huahuo.actors.plugins.past import Past
from huahuo.replay.history.history import History
from huahuo.terminal import counted

STATELESS: Final = frozenset({"user", "group", "system", "log", "auth", "audit", "ds", "projection"})
"""Kinds of the service's own streams that are no entities, so there is no state to compare."""


async def unjudged(past: Past, history: History, upto: int) -> dict[str, int]:
    """The number of these streams that began before position `upto`, by kind."""
    found = Counter[str]()
    for stream in history.streams(""):
        kind = stream.partition("/")[0]
        if kind in STATELESS or past.own_subject(stream) is not None:
            continue
        first = await history.read(stream, 0, events_max=1)
        found[kind] += bool(first and first[0].position <= upto)
    return dict(sorted((+found).items()))


def said(kinds: Mapping[str, int], *, application: bool) -> str:
    """That for people. `application`: one was named by `--app`."""
    streams = ", ".join(f"{counted(count, 'stream')} of {kind}" for kind, count in kinds.items())
    if application:
        return f"not judged: {streams}: the application has no such entity"
    return (
        f"not judged: {streams}: no such entity is known without its application;"
        " name it with --app MODULE:NAME, as for `huahuo serve`"
    )
