"""What the service shows over HTTP: its pages, the description of its API, the API, and its metrics.

Each metric is asked for when a scrape comes, never per event.
"""

from pathlib import Path

import msgspec

from huahuo.actors import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.actors.plugins.actions import Registry
from huahuo.app.config import Settings
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.executor import FairExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.pages import site
from huahuo.pages.site import classic_site
from huahuo.transport.accounts.accounts import AskRights
from huahuo.transport.durable_streams.serving import DurableStreams
from huahuo.transport.http import routes
from huahuo.transport.http.api import Api
from huahuo.transport.http.sign_in import SignIn
from huahuo.transport.http.site import Asset, Site
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.server import Server


def part_metrics(
    metrics: Metrics,
    log: Log,
    runtime: Runtime,
    directory: Directory,
    hub: Hub,
) -> None:
    """Metrics of the log, the connections, the actors and the entities."""
    metrics.gauge("log_position", "Last durable position of the log.", lambda: log.position)
    metrics.total(
        "corrupt", "Reads of the log that did not fit their check: an alarm.", lambda: log.corruption.found
    )
    metrics.gauge("connections_authenticated", "Authenticated WebSockets.", lambda: hub.joined_count)
    metrics.gauge("dead_letters", "Messages that nobody handled.", lambda: runtime.dead_letters)
    metrics.gauge("actor_restarts", "Restarts of failed actors.", lambda: runtime.restarts)
    metrics.gauge("entities_resident", "Entities in memory.", lambda: directory.resident)
    metrics.total("entities_loaded", "Entities that came into memory.", lambda: directory.activations)
    metrics.total("entities_passivated", "Idle ones that left it.", lambda: directory.passivations)
    metrics.total("entities_degraded", "Entities that failed too often.", lambda: directory.degradations)


def bound_metrics(metrics: Metrics, server: Server, directory: Directory, pages: Site) -> None:
    """Metrics of the bounded queues and caches (docs/limits.md)."""
    turns, pictures = server.turns, server.pictures
    metrics.total("snapshots_built", "Snapshots built; more may have been sent.", lambda: pictures.drawn)
    metrics.gauge("users_over_share", "Users who owe time of the loop.", lambda: turns.shares.over)
    metrics.total("share_waits", "Times a user had to wait for others.", lambda: turns.shares.slowed)
    metrics.gauge("entities_bytes", "Estimated size of the entities in memory.", lambda: directory.weight)
    metrics.gauge("inbox_bytes", "Commands that wait for entities, bytes.", lambda: directory.waiting_bytes)
    keyframes = directory.keyframes
    metrics.gauge("keyframes_pending_bytes", "Keyframes not written yet.", lambda: keyframes.pending_bytes)
    metrics.total("keyframes_written", "Keyframes written.", lambda: keyframes.written)
    metrics.total("keyframes_failed", "Keyframes that could not be written.", lambda: keyframes.failed)
    metrics.total("keyframes_left_out", "Skipped, as too many waited.", lambda: keyframes.left_out)
    metrics.total(
        "http_requests_refused", "Plain HTTP requests answered 429.", lambda: pages.limit.refused_count
    )


def queue_metrics(metrics: Metrics, log: StoreLog, executor: FairExecutor) -> None:
    """Metrics of what waits for the log's writer and for threads."""
    metrics.gauge("log_queue_bytes", "Appends that wait for their commit.", lambda: log.queue_bytes)
    metrics.total(
        "log_appends_refused",
        "Appends refused because too much of their user waits.",
        lambda: log.appends_refused,
    )
    metrics.gauge(
        "jobs_waiting",
        "Reads, and texts to parse, that wait for a thread.",
        lambda: executor.waiting + log.reads_waiting,
    )
    metrics.total(
        "jobs_refused",
        "The same, refused because too many wait.",
        lambda: executor.refused + log.reads_refused,
    )


def kept_metrics(metrics: Metrics, log: SqliteLog) -> None:
    """Metrics of what a log on disk keeps under ids that clients choose, and of its file."""
    metrics.gauge(
        "log_written_by_others",
        "1 if another program wrote the log's file.",
        lambda: bool(log.written_by_others),
    )
    metrics.gauge("streams_in_memory", "Streams whose heads are in memory.", lambda: log.streams_in_memory)
    metrics.gauge("command_records", "Answers of commands on disk.", lambda: log.command_records)
    metrics.gauge("ack_clients", "Clients that have acks on disk.", lambda: log.ack_clients)


def http_metrics(metrics: Metrics, api: Api) -> None:
    """Metrics of the API over HTTP."""
    metrics.gauge("http_readers", "Readers of server-sent events.", lambda: api.readers)
    metrics.gauge("http_waiting", "Requests that wait for an event.", lambda: api.arrivals.waiting)
    metrics.gauge("http_tickets", "Tickets that nobody has used.", lambda: api.tickets)
    metrics.total(
        "http_calls_refused", "Requests with a token answered 429.", lambda: api.users.refused_count
    )


def pages_of(
    settings: Settings,
    log: Log,
    ambient: Ambient,
    metrics: Metrics,
    registry: Registry,
    more: dict[str, Asset],
) -> Site:
    """The files for browsers: the console, or at its place a front end that the user has."""
    shown, elsewhere = site.assets(), None
    if settings.classic_ui:
        try:
            theirs, elsewhere = classic_site(Path(settings.classic_ui))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        shown = theirs | site.assets(site.CONSOLE)
    shown = shown | more | _described(registry, settings)
    per_s = settings.http_requests_per_s
    return Site(log, ambient, metrics, shown, requests_per_s=per_s, elsewhere=elsewhere)


def _described(registry: Registry, settings: Settings) -> dict[str, Asset]:
    """The API over HTTP as a document, for programs that make clients of it."""
    durable = settings.durable_streams != "off"
    made = routes.openapi_document(BUILD, registry.commands, registry.routes.values(), durable=durable)
    return {"/openapi.json": Asset.of("application/json", msgspec.json.encode(made), any_origin=True)}


def api_of(
    settings: Settings,
    server: Server,
    pages: Site,
    log: Log,
    hub: Hub,
    metrics: Metrics,
    sign_in: SignIn,
    registry: Registry,
    rights: AskRights | None,
) -> Api:
    """The API over HTTP."""
    api = Api(
        server,
        pages,
        log=log,
        acked=hub.acked,
        limit=pages.limit,
        requests_per_user=settings.http_calls_per_s,
        shared_caches=settings.http_shared_cache,
        sign_in=sign_in,
        routes=registry.routes.values(),
        page_at_login=bool(settings.classic_ui),
    )
    if settings.durable_streams != "off":
        streams = DurableStreams(
            server.wires,
            log,
            api.arrivals,
            is_open=settings.durable_streams == "open",
            forced=settings.durable_streams_forced,
            shared=settings.http_shared_cache,
            may=None if rights is None else rights.may,
        )
        api.serve_durable_streams(streams)
    http_metrics(metrics, api)
    return api
