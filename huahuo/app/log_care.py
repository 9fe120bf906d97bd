"""What only our own engines of the log offer: audit questions, compaction, bounds, commit times."""

from collections.abc import Sequence

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.past import together
from huahuo.actors.plugins.plugin import Plugin
from huahuo.admin.actions import LogCare
from huahuo.app import metrics_of
from huahuo.app.config import Settings
from huahuo.app.stopping import Parts
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.audit.index import DATABASE as AUDIT_DATABASE
from huahuo.eventstore.core.fair_executor import Charge, FairExecutor
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.rounds import Rounds


def bound(
    log: StoreLog,
    settings: Settings,
    executor: FairExecutor,
    metrics: Metrics,
    charge: Charge,
    rounds: Rounds,
) -> None:
    """Bound what may wait for the log, measure it, and charge its work to the users."""
    log.bill(charge)
    log.observe_commits(metrics.committed)
    log.bound_queue(bytes_per_user=settings.log_queue_bytes_per_user, bytes_max=settings.log_queue_bytes_max)
    rounds.room.append(log.has_room)
    log.bound_reads(waiting_per_user=settings.jobs_waiting_per_user, waiting_max=settings.jobs_waiting_max)
    metrics_of.queues(metrics, log, executor)
    if isinstance(log, SqliteLog):
        metrics_of.kept(metrics, log)


def written_by_others(log: Log) -> str:
    """What `/readyz` adds if another program wrote the log's file, else ""."""
    return log.written_by_others if isinstance(log, SqliteLog) else ""


def look_after(
    log: StoreLog,
    ambient: Ambient,
    settings: Settings,
    plugins: Sequence[Plugin],
    registry: Registry,
    parts: Parts,
) -> None:
    """Offer the actions of administrators on the log."""
    past = together([plugin.past for plugin in plugins])
    if isinstance(log, SqliteLog):
        care = LogCare(log, ambient, index=settings.data / AUDIT_DATABASE, past=past)
    else:
        care = LogCare(log, ambient, index=None, past=past, executor=InlineExecutor())
    care.register(registry)
    parts.add("audit", care.close)
