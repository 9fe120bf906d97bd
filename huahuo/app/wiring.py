"""The one place where concrete classes meet: settings in, a running service out.

`App` owns everything that must be stopped, and stops it in reverse order. The plug-ins define the purpose of
a service.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from huahuo.actors import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.bringing import bring_all
from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.api_keys.actions import admit_keys
from huahuo.api_keys.book import KeyBook
from huahuo.api_keys.verifying import WithKeys
from huahuo.app import accounts, bounds, keys, log_care, metrics_of, service_file, watching, workers
from huahuo.app.accounts import NOBODY, Asked
from huahuo.app.config import Settings
from huahuo.app.fairness import Fairness
from huahuo.app.fleet import Fleet
from huahuo.app.stopping import Parts
from huahuo.app.world import REAL, World
from huahuo.build import BUILD
from huahuo.dictionaries import found
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.pages import setting_up, site
from huahuo.pages.classic import classic
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import Accounts
from huahuo.transport.accounts.application import AskRights
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.durable_streams.reader import DurableStreams
from huahuo.transport.http import openapi
from huahuo.transport.http.api import Api
from huahuo.transport.http.native import NativeHttp
from huahuo.transport.http.signing_in import SignIn
from huahuo.transport.protocol.compression import Compression
from huahuo.transport.server import get_clients
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.server import Server
from huahuo.transport.server.shares import Shares
from huahuo.transport.server.site import Asset, Phase, Site
from huahuo.transport.server.turns import Turns
from huahuo.transport.workers.owner import Owner
from huahuo.users.actions import UserActions
from huahuo.users.book import UserBook
from huahuo.users.login import Login
from huahuo.users.routes import UserRoutes
from huahuo.webhooks.posting import Posting
from huahuo.webhooks.webhooks import Webhooks

_log = structlog.get_logger(__name__)


class App:
    """A service: `await start()`, then `url`; `await stop()` drains."""

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
        self._asked = asked
        self._rights = rights = accounts.rights(settings, asked)
        self._may_read = None if rights is None else rights.may_read
        self._may_publish = None if rights is None else rights.may_publish
        self._listen = listen
        self._plugins = tuple(plugins)
        self._brought: dict[str, Brought] = {}
        self._ambient = ambient
        self._awake = AwakeAmbient(ambient)
        self._world = world
        self._parts = Parts()
        self._stopping: asyncio.Task[None] | None = None
        self.fleet: Fleet | None = None
        """The processes that serve WebSockets. None: this one does."""
        self._on_stop: dict[Callable[[], object], None] = {}

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

    @property
    def clock(self) -> Ambient:
        """The service's time, which stands still while the machine sleeps."""
        return self._awake

    def on_stop(self, stops: Callable[[], object]) -> Callable[[], None]:
        """Call `stops` once when the stop begins (at once if it has); the result ends that."""
        if self._stopping is not None:
            stops()
        else:
            self._on_stop[stops] = None
        return lambda: self._on_stop.pop(stops, None)

    async def start(self) -> None:
        """Open the log, continue the work that an earlier process left, listen.

        Raises:
            HuahuoError: the directory is in use or damaged, a key does not fit, the port is taken.
        """
        try:
            await self._start()
        except BaseException:
            await self._parts.stop(self.settings.drain_timeout_s)
            raise
        if isinstance(self._ambient, SystemAmbient):  # a simulated clock has no thread beside its loop
            self._parts.add(
                "loop watch", watching.watch(asyncio.get_running_loop(), self._ambient.monotonic_s)
            )

    async def stop(self, timeout_s: float | None = None) -> None:
        """Disconnect the clients, stop the plug-ins (they continue at the next start), close the log.

        All parts share one deadline: `timeout_s`, but at most the setting `drain_timeout_s`. A stuck part is
        cancelled, and left behind if even that does not end it.
        Idempotent: a second call, even after the first was cancelled, waits for the same stop.
        """
        if self._stopping is None:
            while self._on_stop:
                self._on_stop.popitem()[0]()
            most_s = self.settings.drain_timeout_s
            within_s = most_s if timeout_s is None else min(timeout_s, most_s)
            self._stopping = asyncio.create_task(self._parts.stop(within_s), name="stop")
        await asyncio.shield(self._stopping)

    async def _start(self) -> None:
        settings, ambient, parts = self.settings, self._awake, self._parts
        dictionaries = found.find(settings.data, settings.dictionary)
        compression = Compression(dictionaries.used)
        secrets = keys.ensure(settings, self._ambient)
        self.log = log = await self._world.open(settings, secrets, self._ambient, parts)
        executor = self._world.executor(settings, parts)
        self.feed = feed = Feed(
            log, tail_events_max=settings.tail_events_max, tail_bytes_max=settings.tail_bytes_max
        )
        runtime = Runtime(asyncio.get_running_loop(), ambient=ambient)
        parts.add_timed("actors", runtime.stop)
        turns = Turns(Shares(), ambient.monotonic_s, process_s=ambient.process_s)
        fairness = Fairness(turns)
        executor.bill(fairness.charge, ambient.thread_s)
        directory = Directory(
            runtime, log, feed, ambient, limits=bounds.of_entities(settings), fairness=fairness
        )
        parts.add_timed("entities", directory.close)
        self.registry = registry = Registry()
        metrics = Metrics()
        self.publisher = Publisher(log, ambient, registry, self._may_publish)
        self.publisher.register()
        host = Host(
            log=log,
            directory=directory,
            feed=feed,
            ambient=ambient,
            executor=executor,
            fairness=fairness,
            wait_s=fairness.wait_s,
            metrics=metrics,
            files=settings.data if isinstance(log, SqliteLog) else None,
            may_read=self._may_read,
            classic_ui=bool(settings.classic_ui),
        )
        self._bring(host, registry)
        fairness.at_work = [brought.at_work for brought in self._brought.values()]
        if isinstance(log, StoreLog):
            log_care.bound(log, settings, executor, metrics, fairness.charge)
            log_care.look_after(log, ambient, settings, self._plugins, registry, parts)
        authenticator, verifier = await self._admit_users(host, secrets)
        self.hub = hub = Hub(
            log,
            ambient,
            revocations=authenticator.revocations,
            connections_per_user=settings.connections_per_user,
            awake=ambient,
        )
        self.gate = gate = Gate(log, ambient, observe=metrics.command)
        pages = _site(settings, log, ambient, metrics, dictionaries.assets() | _described(registry, settings))
        door = AddressDoor(settings.connections_per_ip, settings.trusted_proxies)
        fingerprint_key = derive(secrets.master_key, "command fingerprints")
        server = Server(
            settings=bounds.of_transport(settings),
            log=log,
            feed=feed,
            registry=registry,
            gate=gate,
            hub=hub,
            door=door,
            verifier=verifier,
            site=pages,
            metrics=metrics,
            runtime=runtime,
            ambient=ambient,
            fingerprint_key=fingerprint_key,
            compression=compression,
            executor=executor,
            turns=turns,
            may_read=self._may_read,
            language=settings.language,
        )
        self.server = server
        self.http = api = _http(
            settings, server, pages, log, hub, metrics, self.login, registry, self._rights
        )
        self.fleet = fleet = self._make_fleet(
            log=log, feed=feed, registry=registry, gate=gate, hub=hub, door=door, verifier=verifier,
            server=server, metrics=metrics, ambient=ambient, fingerprint_key=fingerprint_key,
            judges_others=self._may_read is not None,
            manners=workers.manners(settings, dictionaries.used.data),
        )  # fmt: skip
        pages.gather = fleet.metrics if fleet else None
        get_clients.register(registry, hub, look=fleet.look_at_positions if fleet else None)
        metrics_of.parts(metrics, log, runtime, directory, hub)
        metrics_of.caches(metrics, feed, server, compression)
        metrics_of.bounds(metrics, server, gate, directory)
        metrics_of.unauthenticated(metrics, server, pages)
        await hub.start()
        parts.add("hub", hub.stop)
        await self._begin_work()
        parts.add_timed("commands", gate.drain)
        await self._open(server)
        parts.add("requests that wait", api.close)
        pages.phase = Phase.READY
        parts.add("pages", lambda: setattr(pages, "phase", Phase.DRAINING))
        if self._listen:
            self._tell_address()

    def _make_fleet(self, **owner: Any) -> Fleet | None:
        """The processes that serve WebSockets, not started. None: this one does. Keywords as of `Owner`."""
        if not self._listen or self.settings.workers <= 1:
            return None
        return workers.fleet(Owner(**owner), self.settings)

    async def _open(self, server: Server) -> None:
        if self._listen:
            await self._open_port(server)
        else:
            server.begin()
        self._parts.add_timed("connections", server.drain)
        if self.fleet is not None:
            self._parts.add_timed("workers", self.fleet.drain)

    async def _open_port(self, server: Server) -> None:
        settings = self.settings
        server.plain = NativeHttp(server, self.http)
        try:
            if self.fleet is None:
                self.port = await server.start(settings.host, settings.port)
            else:
                server.begin()
                self.port = await self._start_workers(self.fleet)
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                why = "another program listens there. Stop it, or choose another --port (0: any free one)"
            raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {why}") from None

    async def _start_workers(self, fleet: Fleet) -> int:
        """Raises OSError, HuahuoError."""
        try:
            return await fleet.start(self.settings.host, self.settings.port)
        except BaseException:
            await fleet.drain(0.0)
            raise

    def _tell_address(self) -> None:
        settings, parts = self.settings, self._parts
        if self._world.publish_address:
            service_file.write(settings.data, self.url)
            parts.add("service.json", lambda: service_file.remove(settings.data))
        if settings.host not in ("127.0.0.1", "::1", "localhost"):
            _log.warning("listening in the open without TLS: put a TLS proxy in front", host=settings.host)

    async def _admit_users(self, host: Host, secrets: keys.Keys) -> tuple[Authenticator, WithKeys]:
        """Who verifies tokens and API keys, and the users who sign in with a name and a password."""
        authenticator = accounts.authenticator(self.settings, secrets)
        self.users = UserBook(self.log, self._ambient, host.executor)
        self._parts.add("users", self.users.stop)
        await self.users.start()
        settings = self.settings
        self.login = login = Login(
            self.users,
            authenticator,
            self._ambient,
            token_ttl_s=settings.login_ttl_s,
            registration=settings.registration,
        )
        UserActions(self.users, login).register(self.registry)
        user_routes = UserRoutes(self.users, login, self._ambient)
        for route in user_routes.routes(classic=bool(settings.classic_ui)):
            self.registry.route(route)
        self.api_keys = KeyBook(self.log, self._ambient)
        self._parts.add("API keys", self.api_keys.stop)
        await self.api_keys.start()
        self._make_webhooks(host)
        tokens, revocations = self._accounts(authenticator), authenticator.revocations
        return authenticator, admit_keys(self.api_keys, self.users, tokens, revocations, self.registry)

    async def _begin_work(self) -> None:
        """Go on with what an earlier process left."""
        parts = self._parts
        for name, brought in self._brought.items():
            await _begin(name, brought, parts)
        parts.add("webhooks", self.webhooks.close)
        parts.add_timed("deliveries of webhooks", self.webhooks.drain)
        await self.webhooks.start()

    def _make_webhooks(self, host: Host) -> None:
        allow_private = self.settings.webhooks_allow_private
        self.webhooks = Webhooks(
            log=host.log,
            feed=host.feed,
            ambient=host.ambient,
            registry=self.registry,
            users=self.users,
            posting=Posting(host.ambient, allow_private=allow_private),
            allow_private=allow_private,
            wait_s=host.wait_s,
        )
        self.webhooks.show(host.metrics)

    def _accounts(self, own: Authenticator) -> Accounts:
        """Who judges tokens."""
        judges = accounts.accounts(self.settings, own, self._asked, self._awake)
        self._parts.add("accounts", judges.close)
        return judges

    def first_link(self) -> str | None:
        """Where the first administrator is made, once. None: the log is in use already."""
        code = self.login.first_code() if self.log.position == 0 else None
        return None if code is None else f"{self.url}{setting_up.PATH}#{code}"

    def _bring(self, host: Host, registry: Registry) -> None:
        try:
            self._brought = bring_all(self._plugins, host, self.settings.plugins, registry)
        except ValueError as error:
            raise ConfigError(str(error)) from error


async def _begin(name: str, brought: Brought, parts: Parts) -> None:
    parts.add(f"plug-in {name}", brought.close)
    parts.add_timed(f"work of plug-in {name}", brought.drain)
    try:
        await brought.start()
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _site(settings: Settings, log: Log, ambient: Ambient, metrics: Metrics, more: dict[str, Asset]) -> Site:
    """The files for browsers: the console, or at its place a front end that the user has."""
    shown, elsewhere = site.assets(), None
    if settings.classic_ui:
        try:
            theirs, elsewhere = classic(Path(settings.classic_ui))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        shown = theirs | site.assets(site.CONSOLE)
    per_s = settings.http_requests_per_s
    return Site(log, ambient, metrics, shown | more, requests_per_s=per_s, elsewhere=elsewhere)


def _described(registry: Registry, settings: Settings) -> dict[str, Asset]:
    """The API over HTTP as a document, for programs that make clients of it."""
    durable = settings.durable_streams != "off"
    made = openapi.document(BUILD, registry.commands, registry.routes.values(), durable=durable)
    return {"/openapi.json": Asset.of("application/json", msgspec.json.encode(made), any_origin=True)}


def _http(
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
    metrics_of.http(metrics, api)
    return api
