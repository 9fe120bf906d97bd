"""The one place where concrete classes meet: settings in, a running service out.

The plug-ins define the purpose of a service. It starts whole or not at all, and stops its parts in
reverse order, once. An idle service lets go of frames for others at the same place, recent events and
pages of the database: they are made or read again when somebody asks, and each block of the allocator
that holds one of them stays in memory whole.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.past import together
from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.actors.plugins.registration import bring_all
from huahuo.app import background_work, cluster_service, credentials, nodes, process, service_http, workers
from huahuo.app.application import unserved
from huahuo.app.background_work import Storing, Work, trace_service
from huahuo.app.cluster_service import AmongNodes
from huahuo.app.config import Settings
from huahuo.app.credentials import NOBODY, Asked, Keys
from huahuo.app.foundation import REAL, World, keep_key, keys_of_directory, lay_ground
from huahuo.app.nodes import issued_of, latest_of
from huahuo.app.process import AtStop, Parts, release_free
from huahuo.app.service_port import WaitingRoom
from huahuo.app.workers import Fleet, open_port, tell_address
from huahuo.cluster.coordination import Duty
from huahuo.cluster.node_requests import Peers
from huahuo.cluster.trimming import Trimmer
from huahuo.dictionaries import zstd_dictionaries
from huahuo.errors import ConfigError, HuahuoError, ways_on
from huahuo.eventstore.ambient import Ambient, AwakeAmbient, SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import Corrupt
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
from huahuo.transport.http.api import Api
from huahuo.transport.http.native import NativeHttp
from huahuo.transport.http.site import Phase, Site
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


class Admitted(msgspec.Struct, frozen=True):
    """`authenticator`: the tokens of the service itself. `verifier`: every token and key that it takes."""

    users: UserBook
    login: Login
    api_keys: KeyBook
    authenticator: Authenticator
    verifier: WithKeys


async def admit(
    settings: Settings,
    secrets: Keys,
    asked: Asked,
    host: Host,
    ambient: Ambient,
    registry: Registry,
    parts: Parts,
) -> Admitted:
    """Read the users and keys that the log has, and register their commands and routes.

    `ambient`: its clock goes on while the process sleeps, so a sign-in link ends when it says.
    """
    log = host.log
    latest_ms = latest_of(log)
    authenticator = credentials.authenticator(settings, secrets, latest_ms, issued_of(log, latest_ms))
    users = UserBook(log, ambient, host.executor, latest_ms)
    parts.add("users", users.stop)
    await users.start()
    login = Login(
        users, authenticator, ambient, token_ttl_s=settings.login_ttl_s, registration=settings.registration
    )
    UserActions(users, login).register(registry)
    for route in UserRoutes(users, login, ambient).routes(classic=bool(settings.classic_ui)):
        registry.route(route)
    keys = KeyBook(log, ambient, authenticator.issue_ms, latest_ms)
    parts.add("API keys", keys.stop)
    await keys.start()
    judges = credentials.accounts(settings, authenticator, asked, host.ambient)
    parts.add("accounts", judges.close)
    verifier = admit_keys(keys, users, judges, authenticator.revocations, registry)
    return Admitted(users, login, keys, authenticator, verifier)


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
        ground = await lay_ground(
            settings, secrets, self._ambient, ambient, self._world, self.storing, self._rights, room, parts
        )
        host, turns, fairness, executor = ground.host, ground.turns, ground.fairness, ground.executor
        self.log, self.feed, self._metrics = log, feed, metrics = ground.log, ground.feed, ground.metrics
        self.registry = registry = Registry()
        self.publisher = Publisher(log, ambient, registry, self._may_publish, nodes.latest_of(log))
        self.publisher.register()
        self._bring(host, registry)
        if (told := unserved(log, self._plugins)) is not None:
            _log.warning(told[1])
        fairness.at_work = [brought.at_work for brought in self._brought.values()]
        if isinstance(log, StoreLog):
            background_work.bound_log(log, settings, executor, metrics, fairness.charge, turns.rounds)
            background_work.look_after(log, ambient, settings, self._plugins, registry, parts)
        admitted = await admit(settings, secrets, self._asked, host, self._ambient, registry, parts)
        self.users, self.login, self.api_keys = admitted.users, admitted.login, admitted.api_keys
        allow_private = settings.webhooks_allow_private
        posting = Posting(ambient, allow_private=allow_private, resolver=host.resolver)
        self.webhooks = Webhooks(host, registry, self.users, posting, allow_private=allow_private)
        self._brought["webhooks"] = self.webhooks.brought
        self.hub = hub = Hub(
            log,
            ambient,
            revocations=admitted.authenticator.revocations,
            connections_per_user=settings.connections_per_user,
            awake=ambient,
        )
        self.gate = gate = Gate(
            log, ambient, observe=metrics.command, settle=nodes.settle_of(log), fairness=fairness
        )
        self._pages = pages = service_http.pages_of(
            settings, log, ambient, metrics, registry, dictionaries.assets()
        )
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
            verifier=admitted.verifier,
            metrics=metrics,
            runtime=ground.runtime,
            ambient=ambient,
            fingerprint_key=fingerprint_key,
            compression=compression,
            executor=executor,
            turns=turns,
            may_read=self._may_read,
            language=settings.language or None,
        )
        self.http = api = service_http.api_of(
            settings, server, pages, log, hub, metrics, self.login, registry, self._rights
        )
        self.fleet = fleet = self._make_fleet(
            log=log, feed=feed, registry=registry, gate=gate, hub=hub, door=door, verifier=admitted.verifier,
            server=server, metrics=metrics, ambient=ambient, fingerprint_key=fingerprint_key,
            judges_others=self._may_read is not None,
            manners=workers.manners(settings, dictionaries.used.data),
        )  # fmt: skip
        pages.gather = fleet.metrics if fleet else None
        self._clients = Clients(registry, hub, fleet.look_at_positions if fleet else None)
        service_http.part_metrics(metrics, log, ground.runtime, ground.directory, hub)
        server.measured(metrics, compression, lambda: hub.open_count, lambda: gate.running)
        service_http.bound_metrics(metrics, server, ground.directory, pages)
        await self._keep_room(pages, host, secrets.master_key)
        await self._begin()
        parts.add_timed("commands", gate.drain)
        await self._open(server, api, room)
        parts.add("requests that wait", api.close)
        pages.phase = Phase.READY
        parts.add("pages", lambda: setattr(pages, "phase", Phase.DRAINING))
        if self._listen:
            tell_address(settings, self.url, parts if self._world.publish_address else None)

    def _make_fleet(self, **owner: Any) -> Fleet | None:
        """The processes that serve WebSockets, not started. None: this one does. Keywords as of `Owner`."""
        if not self._listen or self.settings.workers <= 1:
            return None
        return workers.fleet(Owner(**owner), self.settings)

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

    async def _keep_room(self, pages: Site, host: Host, master_key: bytes) -> None:
        storing = self.storing
        storing.guard(self.gate, self.publisher, self.http, self.login)
        own = account_steps(self.users, self.api_keys)
        brought = (one.forget for one in self._brought.values())
        storing.can_erase(host, self.users, (*own, *brought, ack_step(self.hub.write_acks)))
        key_told = keep_key(self.settings, master_key, host, self._parts)
        told = key_told, lambda: background_work.written_by_others(host.log), storing.told
        pages.told = lambda: "; ".join(filter(None, (say() for say in told))) or None
        past = together([plugin.past for plugin in self._plugins])
        await storing.begin(host, self._world.free_bytes, past, self.registry, self._parts)

    async def _begin(self) -> None:
        """Go on with what an earlier process left: on a node that has not joined yet, once it has."""
        if self.settings.otel:
            given = self.gate, self.hub, self.feed, self.publisher, self._brought.values()
            self.traces = trace_service(*given, self._ambient, self._parts)
        await self.hub.start()
        self._parts.add("hub", self.hub.stop)
        log, hub = self.log, self.hub
        work = Work(self._brought)
        if isinstance(log, StoreLog):
            self.duty = nodes.duty_of(
                self.settings, log, self.clock, work.take_up, work.rest, work.divide, work.known,
                lambda: self.url if hasattr(self, "port") else "", lambda: hub.joined_count,
                lambda: self._pages.takes_clients, work.version,
            )  # fmt: skip
        self.peers = cluster_service.peers_of(
            self.settings, log, self._ambient, self.http, self.duty, self._parts
        )
        ask = None
        if self.peers is not None and self.duty is not None:
            among = AmongNodes(self.peers, self.duty, hub, self._clients, self._ambient, self._parts)
            among.share(cluster_service.rates_of(self._pages, self.http, self.login), self._parts)
            ask = among.members
            self.trimmer = cluster_service.serve_nodes(
                self.settings, log, self._ambient, self.duty, self.peers, storing=self.storing,
                metrics=self._metrics, hub=hub, pages=self._pages, registry=self.registry, parts=self._parts,
                ask=ask, lending=self._lending, finalize=work.finalize,
            )  # fmt: skip
        cluster_service.register_node_actions(self.registry, self.duty, ask)
        work.duty, work.trimmer = self.duty, self.trimmer
        await work.begin(self.log, self._parts)

    def first_link(self) -> str | None:
        """Where the first administrator is made, once. None: the log is in use already."""
        code = self.login.first_code() if self.log.position == 0 else None
        return None if code is None else f"{self.url}{site.SETTING_UP_PATH}#{code}"

    def _bring(self, host: Host, registry: Registry) -> None:
        self._lending = host.lending
        self.storing.register(host, self._plugins, registry)
        try:
            self._brought = bring_all(self._plugins, host, self.settings.plugins, registry)
        except ValueError as error:
            raise ConfigError(str(error)) from error


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
