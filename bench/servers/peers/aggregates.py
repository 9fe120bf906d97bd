"""pyeventsourcing's aggregates over its SQLite recorder: folding, and states of the past by snapshots."""

import functools
import importlib.util
import random
import statistics
import time
from pathlib import Path
from typing import Any
from uuid import UUID

NAME = "eventsourcing"
SNAPSHOT_EVERY = 1000
_SAVE_EVERY = 500


def missing() -> str:
    """Why it cannot run here, "" if it can."""
    return "" if importlib.util.find_spec("eventsourcing") else "not installed: python -m bench install"


@functools.cache
def _classes() -> tuple[Any, Any]:
    """Made once, and only where the package is: its registry knows classes by name."""
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event

    class Mailbox(Aggregate):
        """What a check changes."""

        def __init__(self) -> None:
            self.progress = 0
            self.message = ""

        @event("Progressed")
        def progressed(self, progress: int, message: str) -> None:
            """A check went on."""
            self.progress = progress
            self.message = message

    class Mail(Application[UUID]):
        """Snapshots as often as our keyframes."""

        snapshotting_intervals = {Mailbox: SNAPSHOT_EVERY}  # noqa: RUF012  as its documentation does

    return Mailbox, Mail


def measure(path: Path, events: int, seeks: int) -> dict[str, float]:
    """Make the aggregate if it is not there; the same figures as of ours."""
    mailbox_class, application_class = _classes()
    app = application_class(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path)})
    note = path.with_suffix(".id")
    if note.exists():
        mailbox_id = UUID(note.read_text(encoding="ascii"))
    else:
        mailbox = mailbox_class()
        for number in range(events):
            mailbox.progressed(number % 101, f"正在处理第 {number} 封邮件")
            if number % _SAVE_EVERY == _SAVE_EVERY - 1:
                app.save(mailbox)
        app.save(mailbox)
        mailbox_id = mailbox.id
        note.write_text(str(mailbox_id), encoding="ascii")
    try:
        return _figures(app, mailbox_id, events, seeks)
    finally:
        app.close()


def _figures(app: Any, mailbox_id: UUID, events: int, seeks: int) -> dict[str, float]:
    began_s = time.monotonic()
    stored = list(app.events.get(mailbox_id))
    read_s = time.monotonic() - began_s
    state = None
    began_s = time.monotonic()
    for one in stored:
        state = one.mutate(state)
    folded_s = time.monotonic() - began_s
    chance = random.Random(1)
    took_ms = []
    for _ in range(seeks):
        began_s = time.monotonic()
        app.repository.get(mailbox_id, version=chance.randrange(1, events + 1))
        took_ms.append((time.monotonic() - began_s) * 1000)
    cuts = statistics.quantiles(took_ms, n=100)
    return {
        "folded": len(stored) / folded_s,
        "read_and_folded": len(stored) / (read_s + folded_s),
        "state_p50": cuts[49],
        "state_p99": cuts[98],
        "events": len(stored),
    }
