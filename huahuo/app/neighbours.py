"""What this node and the others ask of each other, and what each does for the log that they share."""

from collections.abc import Awaitable, Callable

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.lending import Lending
from huahuo.app import cluster_actions, keys, nodes
from huahuo.app.cluster_actions import Drain
from huahuo.app.config import Settings
from huahuo.app.node_actions import AskMembers
from huahuo.app.stopping import Parts
from huahuo.app.storing import Storing
from huahuo.cluster import members, signing
from huahuo.cluster.asking import Asker
from huahuo.cluster.borrowing import Borrowing
from huahuo.cluster.clock import Clock
from huahuo.cluster.copies import Copies
from huahuo.cluster.door import NodesDoor
from huahuo.cluster.duty import Duty
from huahuo.cluster.peers import Peers
from huahuo.cluster.rates import Rate
from huahuo.cluster.trimming import Trimmer
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.port import Log
from huahuo.transport.http.api import Api
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.site import Phase, Site
from huahuo.users.login import Login


def peers_of(
    settings: Settings, log: Log, ambient: Ambient, api: Api, duty: Duty | None, parts: Parts
) -> Peers | None:
    """The other nodes, and the door at which they ask this one; None if the service is alone."""
    replica = nodes.replica_of(log)
    if replica is None or duty is None:
        return None
    secret = derive(keys.read(settings).master_key, signing.PURPOSE)
    door = NodesDoor(secret=secret, node=replica.node, log_id=log.log_id, ambient=ambient)
    api.serve_nodes(door)
    asker = Asker(secret=secret, node=replica.node, log_id=log.log_id, ambient=ambient)
    peers = Peers(asker, door, members=lambda: duty.members, silent_s=duty.silent_s)
    copies = Copies(settings.data, ambient)
    copies.serve(peers, replica.told)
    parts.add("copies for nodes", copies.close)
    return peers


def say_what_is_undone(duty: Duty, metrics: Metrics, pages: Site) -> None:
    """Tell in `/readyz` and `/metrics` if no node does the work."""
    told = pages.told
    pages.told = lambda: "; ".join(filter(None, (duty.undone, told()))) or None
    metrics.gauge("work_undone", "1 while no node does the work.", lambda: bool(duty.undone))


def rates_of(pages: Site, api: Api, login: Login) -> dict[str, Rate]:
    """What a user or an address may do a second, and wrong passwords a minute: it holds over all nodes."""
    return {"requests": pages.limit, "calls": api.users, **login.failures}


def serve(
    settings: Settings,
    log: Log,
    ambient: Ambient,
    duty: Duty,
    peers: Peers,
    *,
    storing: Storing,
    metrics: Metrics,
    hub: Hub,
    pages: Site,
    registry: Registry,
    parts: Parts,
    ask: AskMembers,
    lending: Lending,
    finalize: Callable[[str], Awaitable[None]],
) -> Trimmer:
    """Offer what administrators ask of a cluster. Returns what trims the ordered log, not begun."""
    replica = nodes.replica_of(log)
    assert replica is not None, "a node has one"
    trimmer = Trimmer(
        log=log,
        replica=replica,
        duty=duty,
        ambient=ambient,
        keep_s=settings.log_trim_after_h * 3600,
        backed_up_ms=lambda: None if storing.backups is None else storing.backups.newest_ms,
    )
    metrics.gauge(
        "shreds_untrimmed", "Shreds whose keys the ordered log still has.", lambda: len(trimmer.shreds)
    )
    metrics.gauge("shreds_untrimmed_seconds", "Age of the oldest of them.", lambda: trimmer.oldest_shred_s)

    say_what_is_undone(duty, metrics, pages)

    def ready(is_ready: bool) -> None:
        pages.phase = Phase.READY if is_ready else Phase.DRAINING

    async def where() -> list[str]:
        now, _ = await ask()
        return members.takers(now, duty.node)

    def unfit(why: str | None) -> None:
        pages.unfit = why

    if lending.lends:
        lending.over_nodes = borrowing = Borrowing(peers, ambient, lending.take, lambda: duty.holder)
        borrowing.start()
        parts.add("places over nodes", borrowing.stop)
    clock = Clock(peers, duty, ambient, unfit)
    replica.clocks.ask_others = clock.others_ms
    replica.clocks.ask_earliest = clock.earliest_ms
    clock.start()
    parts.add("clocks of nodes", clock.stop)
    drain = Drain(duty, hub, ready, where)
    parts.add("drain", drain.stop)
    cluster_actions.register(registry, duty, peers, trimmer, drain, finalize)
    return trimmer
