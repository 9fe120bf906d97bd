"""`Huahuo`: an application's service on an asyncio loop.

app = Huahuo(entities=[order], data="shop-data")
app.run()                                       # until Ctrl-C
async with app: await app.publish(…)            # inside a program with a loop of its own

`huahuo serve`: the service in the foreground, until a signal drains it (`huahuo.app.process`).
"""

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command, DefinitionError
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app import config, credentials, logs
from huahuo.app.application import Application
from huahuo.app.config import Settings, Table
from huahuo.app.credentials import NOBODY, Asked
from huahuo.app.foundation import World
from huahuo.app.process import Tidier, own_the_process, run, stop_on_signals
from huahuo.app.wiring import App, letting_go
from huahuo.at import At
from huahuo.embedding import calls
from huahuo.embedding.asgi import Asgi
from huahuo.embedding.jobs import Job
from huahuo.errors import ConfigError, HuahuoError, NotRunning
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.transport.accounts.accounts import Authenticate, Authorize

_RUNS_ALREADY: Final = (
    "the service runs already: write one `async with app:` around all that uses it; several ASGI applications"
    " share it, each by lifespan=app.lifespan"
)
_here: Final[list["Huahuo"]] = []
"""The applications that run in this process."""


def running_here() -> "Huahuo":
    """The application that runs in this process. Raises HuahuoError: none does, or several do."""
    if len(_here) != 1:
        raise HuahuoError(f"{len(_here) or 'no'} applications run in this process: say which by app=")
    return _here[0]


class Huahuo(Application):
    """A service with these entities and plug-ins. `settings`: see docs/settings.md.

    `plugins`: exactly these, None: none. A file, the environment and flags win over `data` and `settings`
    under `huahuo serve`; elsewhere `config_file` and the environment are below them.
    `world` and `ambient` replace the outside in tests. `authenticate` and `authorize`: docs/accounts.md.

    Raises:
        DefinitionError: an entity cannot work as it is written.
    """

    def __init__(
        self,
        *,
        entities: Sequence[Entity[Any]] = (),
        plugins: Iterable[Plugin] | None = None,
        data: str | Path = "huahuo-data",
        config_file: str | Path | None = None,
        world: World | None = None,
        ambient: Ambient | None = None,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        **settings: Any,
    ) -> None:
        asked = Asked(authenticate, authorize)
        super().__init__(entities=entities, plugins=plugins, data=data, settings=settings, asked=asked)
        self._config_file = None if config_file is None else Path(config_file)
        self._world = world or World()
        self._ambient = ambient or SystemAmbient()
        self._app: App | None = None
        self._begun = False
        self._asgi: Asgi | None = None
        self._tidies = world is None and ambient is None
        """Whether memory is tidied up: what the machine spent is no part of a world of its own."""
        self._tidying = contextlib.ExitStack()

    async def start(self) -> None:
        """Listen. Raises HuahuoError: it could not start, or runs already."""
        await self._start(listen=True)

    async def start_inside(self) -> App:
        """Run without a port of its own: an ASGI server has it. Raises as `start`."""
        return await self._start(listen=False)

    async def _start(self, *, listen: bool) -> App:
        if self._begun:
            raise HuahuoError(_RUNS_ALREADY)
        self._begun = True
        try:
            settings = self._settings()
            logs.configure_unless_done(settings.log_level, as_json=settings.log_json)
            app = App(
                settings, self._ambient, self._world, plugins=self.plugins(), listen=listen, asked=self.asked
            )
            await app.start()
        except BaseException:
            self._begun = False
            raise
        self.runs_as(app)
        if self._tidies:  # the garbage collector is left to the program
            tidier = Tidier(asyncio.get_running_loop(), collects=False, let_go=letting_go(app))
            self._tidying.enter_context(tidier)
        return app

    async def stop(self) -> None:
        """Drain and stop. Idempotent. Effects and jobs that are drained may still use the service."""
        if (app := self._app) is not None:
            self._tidying.close()
            try:
                await app.stop()
            finally:
                if self._app is app:
                    self.runs_as(None)
                    self._begun = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def run(self) -> None:
        """Serve until Ctrl-C, SIGTERM or SIGHUP. For a program that does nothing else."""
        self.may_run()
        own_the_process()
        run(serve(self._settings(), self.plugins(), self.runs_as, self.asked))

    def runs_as(self, running: App | None) -> None:
        """See `Application`: from now on, effects reach the service that runs them."""
        self._app = running
        if self in _here:
            _here.remove(self)
        if running is not None:
            _here.append(self)

    @property
    def asgi(self) -> Asgi:
        """The service as an ASGI application, on the port of another server: see docs/fastapi.md."""
        if self._asgi is None:
            self._asgi = Asgi(self)
        return self._asgi

    def lifespan(self, host: object = None) -> AbstractAsyncContextManager[None]:
        """Start and stop with a host application: `FastAPI(lifespan=app.lifespan)`."""
        return self.asgi.lifespan(host)

    @property
    def app(self) -> App | None:
        """The running service, None if it is not running."""
        return self._app

    async def _ready(self) -> App:
        """The running service. Inside an ASGI server, the first call starts it. Raises NotRunning."""
        if self._app is None and self._asgi is not None:
            return await self._asgi.running()
        return self.running

    async def _once_ready(self, work: Callable[[App], Coroutine[Any, Any, At]]) -> At:
        return await work(await self._ready())

    @property
    def running(self) -> App:
        """The running service. Raises NotRunning."""
        if self._app is None:
            raise NotRunning(
                "the service is not running: write `async with app:` or call start() first; inside an ASGI"
                " application, pass lifespan=app.lifespan to it"
            )
        return self._app

    @property
    def url(self) -> str:
        """The service's address. Raises NotRunning."""
        return self.running.url

    def token(
        self, user_id: UserId, username: str = "", *, admin: bool = False, groups: tuple[str, ...] = (),
        ttl_s: float = 3600,
    ) -> str:  # fmt: skip
        """A sign-in token for one of your users. Raises ConfigError if the service would refuse a field."""
        secret = credentials.ensure_keys(self._settings(), self._ambient).jwt_secret
        name = username or str(user_id)
        return credentials.mint(
            secret,
            self._ambient,
            user_id=user_id,
            username=name,
            admin=admin,
            groups=groups,
            ttl_s=ttl_s,
            by=None if self._app is None else self._app.login.authenticator,
        )

    def publish(
        self,
        stream: str,
        type: str,  # noqa: A002  the wire's word
        fields: Mapping[str, Any] | None = None,
    ) -> Coroutine[Any, Any, At]:
        """Append one event. Raises as `publish_many`."""
        if self._app is None:
            return self._once_ready(lambda app: calls.publish(app, stream, type, fields or {}))
        return calls.publish(self._app, stream, type, fields)

    def publish_many(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Coroutine[Any, Any, At]:
        """See `calls.publish_many`."""
        if self._app is None:
            return self._once_ready(lambda app: calls.publish_many(app, events))
        return calls.publish_many(self._app, events)

    async def send(
        self,
        command: str | Command,
        *,
        as_user: UserId | Principal | None = None,
        command_id: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """See `sending.send`."""
        return await calls.send(
            await self._ready(), command, as_user=as_user, command_id=command_id, **fields
        )

    def job(self, name: str, user: UserId | None = None) -> Job:
        """Work that `user` watches on `job/<id>` and may cancel: `async with app.job("import") as job`.

        Raises NotRunning.
        """
        return Job(self.running, name, user)

    async def state(self, entity: Entity[Any] | str, key: int | str) -> tuple[Any, int]:
        """See `calls.state`."""
        return await calls.state(await self._ready(), entity, key)

    def follow(self, stream: str, after: int = 0) -> AsyncGenerator[dict[str, Any]]:
        """See `following.follow`."""
        return calls.follow(self.running, stream, after)

    async def seen(self, stream: str, seq: int, *, client: str, timeout_s: float = 30.0) -> bool:
        """See `following.seen`."""
        return await calls.seen(await self._ready(), stream, seq, client=client, timeout_s=timeout_s)

    async def rights_changed(self, stream: str | None = None, *, user: UserId | None = None) -> None:
        """Ask again who may read `stream` (None: any), of this user (None: all).

        Nobody gets an event of such a stream before the answer. Those who lost the right get `unsubscribed`.
        Raises Refused: nobody can have this id.
        """
        calls.rights_changed(await self._ready(), stream, user)

    async def revoke(self, *, user_id: UserId | None = None, jti: str | None = None) -> None:
        """Close the connections of a user, or of one token, and refuse the tokens that were issued before.

        `authenticate` is asked again when the user comes back, and then its answer holds.
        """
        await (await self._ready()).publisher.revoke(user_id=user_id, jti=jti)

    def _settings(self) -> config.Settings:
        return Table(self.plugins()).load(environ=os.environ, file=self._config_file, flags=self.settings)


_log = structlog.get_logger(__name__)


async def serve(
    settings: Settings,
    plugins: Sequence[Plugin],
    runs_as: Callable[[App | None], None],
    asked: Asked = NOBODY,
) -> None:
    """Run with these plug-ins until a stop signal. Prints `listening on http://HOST:PORT` when it is ready.

    `runs_as` and `asked`: see `Application`. Effects of the last life may ask for the service before the
    start is over.

    Raises:
        HuahuoError: the directory is in use or damaged, a setting is invalid, or the port is taken.
    """
    logs.configure(settings.log_level, as_json=settings.log_json)
    logs.quiet_libraries()
    # On SIGUSR1, print the stacks of all threads, to see what a stuck service is doing.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    stop_on_signals(stopping.set)
    for name in Table(plugins).unknown_variables(os.environ):
        _log.warning("an environment variable is no setting of this version", variable=name)
    app = App(settings, SystemAmbient(), plugins=plugins, asked=asked)
    runs_as(app)
    try:
        if not await _started_in_front(app, stopping):
            return
        print(f"listening on {app.url}", flush=True)  # noqa: T201  the promised line
        link = app.first_link()
        if link is not None:
            print(f"make the first administrator (works once): {link}", flush=True)  # noqa: T201  for a person
        with Tidier(loop, collects=True, let_go=letting_go(app)):
            await stopping.wait()
        _log.info("draining", seconds_max=settings.drain_timeout_s)
        await app.stop()
    finally:
        runs_as(None)


async def _started_in_front(app: App, stopping: asyncio.Event) -> bool:
    """Start, unless a stop comes before: a node may wait for its ordered log, or for a copy, for hours."""
    starting = asyncio.create_task(app.start(), name="start")
    told = asyncio.create_task(stopping.wait(), name="stop during the start")
    try:
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            _log.info("stopped_before_it_served")
            starting.cancel()
            await asyncio.wait((starting,))
            if starting.cancelled():
                return False
        await starting
    except DefinitionError as error:
        raise ConfigError(str(error)) from error
    finally:
        told.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
    return True


def leave() -> None:
    """End the process if a thread would keep it: the lookup of a name may take longer than a stop may."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if any(not thread.daemon for thread in others):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
