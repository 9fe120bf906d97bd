"""The one place where concrete classes meet: settings in, a running service out.

The plug-ins define the purpose of a service. It starts whole or not at all, and stops its parts in
reverse order, once. An idle service lets go of frames for others at the same place, recent events and
pages of the database: they are made or read again when somebody asks, and each block of the allocator
that holds one of them stays in memory whole.

Only our own engines of the log offer audit questions, compaction, bounds and commit times. Traces are made
where the setting `otel` asks for them; without it, none of that is imported.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from huahuo.actors import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.past import together
from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.actors.plugins.registration import bring_all
from huahuo.admin import LogCare
from huahuo.app import cluster_service, credentials, nodes, process, workers
from huahuo.app.application import unserved
from huahuo.app.background_work import Storing, Work
from huahuo.app.cluster_service import AmongNodes, Drain, register_cluster_actions
from huahuo.app.config import Settings
from huahuo.app.credentials import NOBODY, Asked, Keys
from huahuo.app.foundation import REAL, Fairness, World, keep_key, keys_of_directory
from huahuo.app.process import AtStop, Parts, release_free
from huahuo.app.service_port import WaitingRoom
from huahuo.app.workers import Fleet, open_port, tell_address
from huahuo.build import BUILD
from huahuo.cluster import coordination, request_signing
from huahuo.cluster.clock import Clock
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import Load, Member
from huahuo.cluster.node_requests import Asker, NodesDoor, Peers
from huahuo.cluster.replica_copies import Copies
from huahuo.cluster.shared_places import Borrowing
from huahuo.cluster.shared_presence import SharedPresence
from huahuo.cluster.trimming import Trimmer
from huahuo.dictionaries import zstd_dictionaries
from huahuo.errors import ConfigError, HuahuoError, ways_on
from huahuo.eventstore.ambient import Ambient, AwakeAmbient, SystemAmbient
from huahuo.eventstore.audit.index import DATABASE as AUDIT_DATABASE
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.executor import FairExecutor, InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.connections import no_room
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.pages import site
from huahuo.replay.feed import Feed
from huahuo.storage.upkeep import account_steps, ack_step
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.durable_streams.serving import DurableStreams
from huahuo.transport.http import routes
from huahuo.transport.http.api import Api
from huahuo.transport.http.native import NativeHttp
from huahuo.transport.http.site import Asset, Phase, Site
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.load.shares import Shares
from huahuo.transport.protocol.dialects import Compression
from huahuo.transport.server.hub import Clients, Hub
from huahuo.transport.server.server import Server
from huahuo.transport.workers.owner import Owner
from huahuo.users.api_keys import KeyBook, WithKeys, admit_keys
from huahuo.users.book import UserBook
from huahuo.users.login import Login
from huahuo.users.user_api import UserActions, UserRoutes
from huahuo.webhooks.deliveries import Posting
from huahuo.webhooks.webhooks import Webhooks

if TYPE_CHECKING:
    from huahuo.tracing.spans import Works


_log = structlog.get_logger(__name__)


class App:
    """A service: `await start()`, then `url`; `await stop()` drains. What is in `_parts` is stopped."""

    publisher: Publisher
    log: Log
    feed: Feed
    registry: Registry
    gate: Gate
    hub: Hub
    users: UserBook
    login: Login
    api_keys: KeyBook
    webhooks: Webhooks
    server: Server
    duty: Duty | None = None
    """This node among the others; None if the service is alone."""
    peers: Peers | None = None
    """Asks the other nodes; None if the service is alone."""
    trimmer: Trimmer | None = None
    http: Api
    port: int

    def __init__(
        self,
        settings: Settings,
        ambient: Ambient,
        world: World = REAL,
        *,
        plugins: Sequence[Plugin] = (),
        listen: bool = True,
        asked: Asked = NOBODY,
    ) -> None:
        """`listen` False: another server has the port, and hands in its requests and sockets.

        `asked`: the application's functions that are asked about users.
        """
        self.settings = settings
        self._ambient = ambient
        self._awake = AwakeAmbient(ambient)
        self._parts = Parts()
        self._at_stop = AtStop()
        self._stopping: asyncio.Task[None] | None = None
        self._asked = asked
        self._rights = rights = credentials.rights(settings, asked)
        self._may_read = None if rights is None else rights.may_read
        self._may_publish = None if rights is None else rights.may_publish
        self._listen = listen
        self._plugins = tuple(plugins)
        self._brought: dict[str, Brought] = {}
        self._world = world
        self.storing = Storing(settings)
        self.fleet: Fleet | None = None
        """The processes that serve WebSockets. None: this one does."""
        self.traces: Works | None = None
        """Makes spans of jobs. None: jobs are not traced."""

    @property
    def clock(self) -> Ambient:
        """The service's time, which stands still while the machine sleeps."""
        return self._awake

    def on_stop(self, stops: Callable[[], object]) -> Callable[[], None]:
        """See `AtStop.add`."""
        return self._at_stop.add(stops)

    async def start(self) -> None:
        """Open the log, continue the work that an earlier process left, listen.

        Raises:
            HuahuoError: the directory is in use or damaged, a key does not fit, the port is taken.
        """
        try:
            await self._start()
        except BaseException as error:
            await self._parts.stop(self.settings.drain_timeout_s)
            if isinstance(error, Corrupt):
                raise HuahuoError(f"{error}; {ways_on(self.settings.data)}") from error
            if (full := no_room(error, self.settings.data)) is not None:
                raise HuahuoError(str(full)) from error
            raise
        if isinstance(self._ambient, SystemAmbient):  # a simulated clock has no thread besides its loop
            self._parts.add(
                "loop watch",
                process.watch_loop(asyncio.get_running_loop(), self._ambient.monotonic_s, self._awake),
            )

    async def stop(self, timeout_s: float | None = None) -> None:
        """Disconnect the clients, stop the plug-ins (they continue at the next start), close the log.

        All parts share one deadline: `timeout_s`, but at most the setting `drain_timeout_s`. A stuck part is
        cancelled, and left behind if even that does not end it.
        Idempotent: a second call, even after the first was cancelled, waits for the same stop.
        """
        if self._stopping is None:
            self._at_stop.begin()
            most_s = self.settings.drain_timeout_s
            within_s = most_s if timeout_s is None else min(timeout_s, most_s)
            self._stopping = asyncio.create_task(self._parts.stop(within_s), name="stop")
        await asyncio.shield(self._stopping)

    @property
    def url(self) -> str:
        """The address at which it listens. Raises HuahuoError: another server has the port."""
        if not self._listen:
            raise HuahuoError("this service has no address of its own: its ASGI server has the port")
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.port}"

    def api(self, plugin: str) -> Any:
        """The API that a plug-in offers to an embedding application.

        Raises:
            HuahuoError: this service has no such plug-in, or it offers nothing.
        """
        brought = self._brought.get(plugin)
        if brought is None or brought.api is None:
            raise HuahuoError(f"this service has no plug-in {plugin!r} that can be called")
        return brought.api

    async def _start(self) -> None:
        settings, ambient, parts = self.settings, self._awake, self._parts
        dictionaries = zstd_dictionaries.find_dictionaries(settings.data, settings.dictionary)
        compression = Compression(dictionaries.used)
        secrets = keys_of_directory(settings, self._ambient, self._plugins)
        room = WaitingRoom(settings.host, settings.port if self._listen else 0, max(1, settings.workers))
        parts.add("waiting room", room.close)
        await self._lay_ground(secrets, room)
        log, feed, metrics, registry = self.log, self.feed, self._metrics, self.registry
        self.publisher = Publisher(log, ambient, registry, self._may_publish, nodes.latest_of(log))
        self.publisher.register()
        self._bring()
        if told := unserved(log, self._plugins):
            _log.warning(told)
        self._fairness.at_work = [brought.at_work for brought in self._brought.values()]
        if isinstance(log, StoreLog):
            self._bound_log(log)
            self._look_after(log)
        authenticator, verifier = await self._admit(secrets)
        allow_private = settings.webhooks_allow_private
        posting = Posting(ambient, allow_private=allow_private, resolver=self._host.resolver)
        self.webhooks = Webhooks(self._host, registry, self.users, posting, allow_private=allow_private)
        self._brought["webhooks"] = self.webhooks.brought
        self.hub = hub = Hub(
            log,
            ambient,
            revocations=authenticator.revocations,
            connections_per_user=settings.connections_per_user,
            awake=ambient,
        )
        self.gate = gate = Gate(
            log, ambient, observe=metrics.command, settle=nodes.settle_of(log), fairness=self._fairness
        )
        self._pages = pages = self._make_pages(dictionaries.assets())
        door = AddressDoor(settings.connections_per_ip, settings.trusted_proxies)
        fingerprint_key = derive(secrets.master_key, "command fingerprints")
        self.server = server = Server(
            settings=workers.of_transport(settings),
            log=log,
            feed=feed,
            registry=registry,
            gate=gate,
            hub=hub,
            door=door,
            verifier=verifier,
            metrics=metrics,
            runtime=self._runtime,
            ambient=ambient,
            fingerprint_key=fingerprint_key,
            compression=compression,
            executor=self._executor,
            turns=self._turns,
            may_read=self._may_read,
            language=settings.language or None,
        )
        self.http = api = self._make_api()
        if self._listen and settings.workers > 1:
            owner = Owner(
                log=log, feed=feed, registry=registry, gate=gate, hub=hub, door=door, verifier=verifier,
                server=server, metrics=metrics, ambient=ambient, fingerprint_key=fingerprint_key,
                judges_others=self._may_read is not None,
                manners=workers.manners(settings, dictionaries.used.data),
            )  # fmt: skip
            self.fleet = workers.fleet(owner, settings)
        fleet = self.fleet
        pages.gather = fleet.metrics if fleet else None
        self._clients = Clients(registry, hub, fleet.look_at_positions if fleet else None)
        server.measured(metrics, compression, lambda: hub.open_count, lambda: gate.running)
        self._measure()
        await self._keep_room(secrets.master_key)
        await self._begin()
        parts.add_timed("commands", gate.drain)
        await self._open(server, api, room)
        parts.add("requests that wait", api.close)
        pages.phase = Phase.READY
        parts.add("pages", lambda: setattr(pages, "phase", Phase.DRAINING))
        if self._listen:
            tell_address(settings, self.url, parts if self._world.publish_address else None)

    async def _lay_ground(self, secrets: Keys, room: WaitingRoom) -> None:
        """Open the log, and make what stands on it directly. `room`: has the port while a node can't serve.

        Raises HuahuoError.
        """
        settings, awake, parts = self.settings, self._awake, self._parts
        self.log = log = await self._world.open(settings, secrets, self._ambient, room, parts)
        self._executor = executor = self._world.executor(settings, parts)
        self.feed = feed = Feed(
            log, tail_events_max=settings.tail_events_max, tail_bytes_max=workers.tail_bytes_max(settings)
        )
        feed.catch_up = nodes.catch_up_of(log)
        self._runtime = Runtime(asyncio.get_running_loop(), ambient=awake)
        parts.add_timed("actors", self._runtime.stop)
        self._turns = Turns(Shares(), awake.monotonic_s, process_s=awake.process_s)
        self._fairness = fairness = Fairness(self._turns)
        executor.bill(fairness.charge, awake.thread_s)
        self._directory = directory = Directory(
            self._runtime, log, feed, awake, limits=workers.of_entities(settings), fairness=fairness
        )
        parts.add_timed("entities", directory.close)
        self._metrics = Metrics()
        self.registry = Registry()
        self._host = Host(
            log=log,
            directory=directory,
            feed=feed,
            ambient=awake,
            executor=executor,
            fairness=fairness,
            wait_s=fairness.wait_s,
            metrics=self._metrics,
            files=settings.data if isinstance(log, SqliteLog) else None,
            may_read=self._may_read,
            has_room=self.storing.room.has_room,
            resolver=self._world.resolver(),
            shared=nodes.replica_of(log) is not None,
            classic_ui=bool(settings.classic_ui),
        )

    def _bring(self) -> None:
        self.storing.register(self._host, self._plugins, self.registry)
        try:
            self._brought = bring_all(self._plugins, self._host, self.settings.plugins, self.registry)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _bound_log(self, log: StoreLog) -> None:
        """Bound what may wait for the log, and charge its work to the users."""
        settings = self.settings
        log.bill(self._fairness.charge)
        writer, reads = log.writer, log.readers
        writer.observe = self._metrics.committed
        writer.queue_bytes_per_user = settings.log_queue_bytes_per_user
        writer.queue_bytes_max = settings.log_queue_bytes_max
        self._turns.rounds.room.append(writer.has_room)
        if isinstance(reads, FairExecutor):
            reads.waiting_per_user_max = settings.jobs_waiting_per_user
            reads.waiting_max = settings.jobs_waiting_max

    def _look_after(self, log: StoreLog) -> None:
        """Offer the actions of administrators on the log."""
        past = together([plugin.past for plugin in self._plugins])
        if isinstance(log, SqliteLog):
            care = LogCare(log, self._awake, index=self.settings.data / AUDIT_DATABASE, past=past)
        else:
            care = LogCare(log, self._awake, index=None, past=past, executor=InlineExecutor())
        care.register(self.registry)
        self._parts.add("audit", care.close)

    async def _admit(self, secrets: Keys) -> tuple[Authenticator, WithKeys]:
        """Read the users and keys that the log has, and register their commands and routes.

        Returns what judges the tokens of the service itself, and what judges every token and key. Their clock
        goes on while the process sleeps, so a sign-in link ends when it says.
        """
        settings, ambient, log, parts = self.settings, self._ambient, self.log, self._parts
        latest_ms = nodes.latest_of(log)
        authenticator = credentials.authenticator(
            settings, secrets, latest_ms, nodes.issued_of(log, latest_ms)
        )
        self.users = users = UserBook(log, ambient, self._executor, latest_ms)
        parts.add("users", users.stop)
        await users.start()
        self.login = login = Login(
            users,
            authenticator,
            ambient,
            token_ttl_s=settings.login_ttl_s,
            registration=settings.registration,
        )
        UserActions(users, login).register(self.registry)
        for route in UserRoutes(users, login, ambient).routes(classic=bool(settings.classic_ui)):
            self.registry.route(route)
        self.api_keys = keys = KeyBook(log, ambient, authenticator.issue_ms, latest_ms)
        parts.add("API keys", keys.stop)
        await keys.start()
        judges = credentials.accounts(settings, authenticator, self._asked, self._awake)
        parts.add("accounts", judges.close)
        return authenticator, admit_keys(keys, users, judges, authenticator.revocations, self.registry)

    def _make_pages(self, more: dict[str, Asset]) -> Site:
        """The files for browsers: the console, or at its place a front end that the user has."""
        settings, elsewhere = self.settings, None
        shown = site.assets()
        if settings.classic_ui:
            try:
                theirs, elsewhere = site.classic_site(Path(settings.classic_ui))
            except ValueError as error:
                raise ConfigError(str(error)) from error
            shown = theirs | site.assets(site.CONSOLE)
        return Site(
            self.log,
            self._awake,
            self._metrics,
            shown | more | _described(self.registry, settings),
            requests_per_s=settings.http_requests_per_s,
            elsewhere=elsewhere,
        )

    def _make_api(self) -> Api:
        """The API over HTTP."""
        settings, server, rights = self.settings, self.server, self._rights
        api = Api(
            server,
            self._pages,
            log=self.log,
            acked=self.hub.acked,
            limit=self._pages.limit,
            requests_per_user=settings.http_calls_per_s,
            shared_caches=settings.http_shared_cache,
            sign_in=self.login,
            routes=self.registry.routes.values(),
            page_at_login=bool(settings.classic_ui),
        )
        if settings.durable_streams != "off":
            streams = DurableStreams(
                server.wires,
                self.log,
                api.arrivals,
                is_open=settings.durable_streams == "open",
                forced=settings.durable_streams_forced,
                shared=settings.http_shared_cache,
                may=None if rights is None else rights.may,
            )
            api.serve_durable_streams(streams)
        return api

    def _measure(self) -> None:
        """Metrics of the parts and of their bounded queues and caches (docs/limits.md).

        Each is asked for when a scrape comes, never per event.
        """
        gauge, total = self._metrics.gauge, self._metrics.total
        log, hub, api, directory, runtime = self.log, self.hub, self.http, self._directory, self._runtime
        executor, turns, keyframes = self._executor, self._turns, directory.keyframes
        pictures, limit = self.server.pictures, self._pages.limit
        gauge("log_position", "Last durable position of the log.", lambda: log.position)
        total(
            "corrupt",
            "Reads of the log that did not fit their check: an alarm.",
            lambda: log.corruption.found,
        )
        gauge("connections_authenticated", "Authenticated WebSockets.", lambda: hub.joined_count)
        gauge("dead_letters", "Messages that nobody handled.", lambda: runtime.dead_letters)
        gauge("actor_restarts", "Restarts of failed actors.", lambda: runtime.restarts)
        gauge("entities_resident", "Entities in memory.", lambda: directory.resident)
        total("entities_loaded", "Entities that came into memory.", lambda: directory.activations)
        total("entities_passivated", "Idle ones that left it.", lambda: directory.passivations)
        total("entities_degraded", "Entities that failed too often.", lambda: directory.degradations)
        total("snapshots_built", "Snapshots built; more may have been sent.", lambda: pictures.drawn)
        gauge("users_over_share", "Users who owe time of the loop.", lambda: turns.shares.over)
        total("share_waits", "Times a user had to wait for others.", lambda: turns.shares.slowed)
        gauge("entities_bytes", "Estimated size of the entities in memory.", lambda: directory.weight)
        gauge("inbox_bytes", "Commands that wait for entities, bytes.", lambda: directory.waiting_bytes)
        gauge("keyframes_pending_bytes", "Keyframes not written yet.", lambda: keyframes.pending_bytes)
        total("keyframes_written", "Keyframes written.", lambda: keyframes.written)
        total("keyframes_failed", "Keyframes that could not be written.", lambda: keyframes.failed)
        total("keyframes_left_out", "Skipped, as too many waited.", lambda: keyframes.left_out)
        total("http_requests_refused", "Plain HTTP requests answered 429.", lambda: limit.refused_count)
        gauge("http_readers", "Readers of server-sent events.", lambda: api.readers)
        gauge("http_waiting", "Requests that wait for an event.", lambda: api.arrivals.waiting)
        gauge("http_tickets", "Tickets that nobody has used.", lambda: api.tickets)
        total("http_calls_refused", "Requests with a token answered 429.", lambda: api.users.refused_count)
        if not isinstance(log, StoreLog):
            return
        writer, fair = log.writer, [one for one in (executor, log.readers) if isinstance(one, FairExecutor)]
        gauge("log_queue_bytes", "Appends that wait for their commit.", lambda: writer.queue_bytes)
        total(
            "log_appends_refused",
            "Appends refused because too much of their user waits.",
            lambda: writer.refused,
        )
        gauge(
            "jobs_waiting",
            "Reads, and texts to parse, that wait for a thread.",
            lambda: sum(one.waiting for one in fair),
        )
        total(
            "jobs_refused",
            "The same, refused because too many wait.",
            lambda: sum(one.refused for one in fair),
        )
        if not isinstance(log, SqliteLog):
            return
        gauge(
            "log_written_by_others",
            "1 if another program wrote the log's file.",
            lambda: bool(log.written_by_others),
        )
        gauge("streams_in_memory", "Streams whose heads are in memory.", lambda: log.streams_in_memory)
        gauge("command_records", "Answers of commands on disk.", lambda: log.command_records)
        gauge("ack_clients", "Clients that have acks on disk.", lambda: log.ack_clients)

    async def _open(self, server: Server, api: Api, room: WaitingRoom) -> None:
        self._parts.add_timed("work of the application", self._at_stop.finish)
        if self._listen:
            server.plain = NativeHttp(server, api)
            self.port = await open_port(server, self.settings, self.fleet, room)
        else:
            server.begin()
        self._parts.add_timed("connections", server.drain)
        if self.fleet is not None:
            self._parts.add_timed("workers", self.fleet.drain)
        if self.duty is not None:
            await self.duty.tell()  # its first words had no address yet

    async def _keep_room(self, master_key: bytes) -> None:
        storing, host, log = self.storing, self._host, self.log
        storing.guard(self.gate, self.publisher, self.http, self.login)
        own = account_steps(self.users, self.api_keys)
        brought = (one.forget for one in self._brought.values())
        storing.can_erase(host, self.users, (*own, *brought, ack_step(self.hub.write_acks)))
        key_told = keep_key(self.settings, master_key, host, self._parts)

        def told() -> str | None:
            others = log.written_by_others if isinstance(log, SqliteLog) else ""
            return "; ".join(filter(None, (key_told(), others, storing.told()))) or None

        self._pages.told = told
        past = together([plugin.past for plugin in self._plugins])
        await storing.begin(host, self._world.free_bytes, past, self.registry, self._parts)

    async def _begin(self) -> None:
        """Go on with what an earlier process left: on a node that has not joined yet, once it has."""
        if self.settings.otel:
            self._trace()
        log, hub, parts = self.log, self.hub, self._parts
        await hub.start()
        parts.add("hub", hub.stop)
        work = Work(self._brought)
        if isinstance(log, StoreLog):
            self.duty = self._make_duty(log, work)
        ask = None
        if self.duty is not None:
            ask = self._serve_nodes(self.duty, work.finalize)
        cluster_service.register_node_actions(self.registry, self.duty, ask)
        work.duty, work.trimmer = self.duty, self.trimmer
        await work.begin(self.log, self._parts)

    def _make_duty(self, log: StoreLog, work: Work) -> Duty | None:
        """This node among the others; None if the service is alone."""
        replica = nodes.replica_of(log)
        if replica is None:
            return None
        settings, ambient, load = self.settings, self._awake, Load(self._awake)
        secrets = credentials.read_keys(settings)
        marks = ",".join(map(nodes.mark_of, (secrets.jwt_secret, *secrets.previous)))

        def tell(beat: int) -> Member:
            return Member(
                url=settings.advertise or (nodes.reachable(self.url) if hasattr(self, "port") else ""),
                build=BUILD,
                keys=marks,
                beat=beat,
                at_ms=ambient.now_ms(),
                applied=replica.shared.offset,
                connections=self.hub.joined_count,
                format=replica.format,
                load=load.lately(),
                takes_clients=self._pages.takes_clients and not replica.trouble,
                version=work.version,
            )

        async def turned() -> None:
            replica.write_format(await coordination.read_format(log))

        return Duty(
            log=log, ambient=ambient, node=replica.node, tell=tell, work=work.take_up, rest=work.rest,
            divide=work.divide, known=work.known, turned=turned,
        )  # fmt: skip

    def _trace(self) -> None:
        """Make spans of commands, commits, acks, timers, effects and jobs from now on.

        Raises ConfigError: the packages of the extra `otel` are not installed.
        """
        from huahuo.tracing.spans import here, spans_of_service

        spans, end = spans_of_service(self._ambient)
        self._parts.add("export of traces", lambda: asyncio.to_thread(end))  # it sends what is left
        self._parts.add("tracing", self.feed.tap(spans.committed))
        self.gate.traced = spans.command
        self.hub.told_ack = spans.acked
        self.publisher.here = here
        for one in self._brought.values():
            one.trace(spans.works)
        self.traces = spans.works

    def _serve_nodes(
        self, duty: Duty, finalize: Callable[[str], Awaitable[None]]
    ) -> cluster_service.AskMembers:
        """Open the door for the other nodes, and offer what administrators ask of a cluster.

        Returns what asks all nodes how they are. The trimmer is made and not begun.
        """
        settings, log, ambient, hub, parts = self.settings, self.log, self._ambient, self.hub, self._parts
        replica = nodes.replica_of(log)
        assert replica is not None, "a node has one"
        secret = derive(credentials.read_keys(settings).master_key, request_signing.PURPOSE)
        door = NodesDoor(secret=secret, node=replica.node, log_id=log.log_id, ambient=ambient)
        self.http.serve_nodes(door)
        asker = Asker(secret=secret, node=replica.node, log_id=log.log_id, ambient=ambient)
        self.peers = peers = Peers(asker, door, members=lambda: duty.members, silent_s=duty.silent_s)
        copies = Copies(settings.data, ambient)
        copies.serve(peers, replica.told)
        parts.add("copies for nodes", copies.close)
        among = AmongNodes(peers, duty, hub, self._clients, ambient, parts)
        failures = self.login.failures
        among.share({"requests": self._pages.limit, "calls": self.http.users, **failures})
        shared = SharedPresence(self.server.wires.presence, peers)
        shared.start()
        parts.add("presence over nodes", shared.stop)
        storing, gauge = self.storing, self._metrics.gauge
        self.trimmer = trimmer = Trimmer(
            log=log,
            replica=replica,
            duty=duty,
            ambient=ambient,
            keep_s=settings.log_trim_after_h * 3600,
            backed_up_ms=lambda: None if storing.backups is None else storing.backups.newest_ms,
        )
        gauge("shreds_untrimmed", "Shreds whose keys the ordered log still has.", lambda: len(trimmer.shreds))
        gauge("shreds_untrimmed_seconds", "Age of the oldest of them.", lambda: trimmer.oldest_shred_s)
        cluster_service.say_what_is_undone(duty, self._metrics, self._pages)
        if (lending := self._host.lending).lends:
            lending.over_nodes = borrowing = Borrowing(peers, ambient, lending.take, lambda: duty.holder)
            borrowing.start()
            parts.add("places over nodes", borrowing.stop)
        pages = self._pages
        clock = Clock(replica.clocks, duty, lambda why: setattr(pages, "unfit", why))
        clock.start()
        parts.add("clocks of nodes", clock.stop)

        def ready(is_ready: bool) -> None:
            pages.phase = Phase.READY if is_ready else Phase.DRAINING

        drain = Drain(duty, hub, ready, among.others_that_take_clients)
        parts.add("drain", drain.stop)
        register_cluster_actions(self.registry, duty, peers, trimmer, drain, finalize)
        return among.members

    def first_link(self) -> str | None:
        """Where the first administrator is made, once. None: the log is in use already."""
        code = self.login.first_code() if self.log.position == 0 else None
        return None if code is None else f"{self.url}{site.SETTING_UP_PATH}#{code}"


def _described(registry: Registry, settings: Settings) -> dict[str, Asset]:
    """The API over HTTP as a document, for programs that make clients of it."""
    durable = settings.durable_streams != "off"
    made = routes.openapi_document(BUILD, registry.commands, registry.routes.values(), durable=durable)
    return {"/openapi.json": Asset.of("application/json", msgspec.json.encode(made), any_origin=True)}


def letting_go(app: App) -> Callable[[], None]:
    """What the tidier calls when the loop is idle."""
    freeing: set[asyncio.Task[None]] = set()

    async def free(log: SqliteLog) -> None:
        with contextlib.suppress(RuntimeError):  # the log closes, and its pages go with it
            await log.forget_pages()
        release_free()

    def let_go() -> None:
        app.server.frames.clear()
        app.feed.let_go()
        if isinstance(app.log, SqliteLog):
            task = asyncio.get_running_loop().create_task(free(app.log), name="forget pages")
            freeing.add(task)
            task.add_done_callback(freeing.discard)

    return let_go
