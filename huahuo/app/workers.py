"""The workers of a service, from its settings and its parts."""

from huahuo.app import bounds
from huahuo.app.config import Settings
from huahuo.app.fleet import Fleet
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.workers.owner import Manners, Owner, share


def limits(settings: Settings) -> TransportSettings:
    """The limits of one worker."""
    return share(bounds.of_transport(settings), settings.workers)


def manners(settings: Settings, dictionary: bytes) -> Manners:
    """What a worker is told of the settings."""
    return Manners(
        settings=limits(settings),
        dictionary=dictionary,
        language=settings.language,
        trusted_proxies=settings.trusted_proxies,
        tail_events_max=settings.tail_events_max,
        tail_bytes_max=bounds.tail_bytes_max(settings),
        log_level=settings.log_level,
        log_json=settings.log_json,
    )


def fleet(owner: Owner, settings: Settings) -> Fleet:
    """The workers, not started, with what the owner's metrics say of them."""
    made, metrics = Fleet(owner, settings.workers), owner.metrics
    metrics.gauge("workers", "Processes that serve WebSockets.", lambda: len(made.pids))
    metrics.total("worker_restarts", "Workers that were replaced.", lambda: made.restarts)
    metrics.gauge(
        "worker_queue_bytes", "Commits and answers not sent to workers.", lambda: made.waiting_bytes
    )
    return made
