"""`Huahuo`: an application's service on an asyncio loop.

app = Huahuo(entities=[order], data="shop-data")
app.run()                                       # until Ctrl-C
async with app: await app.publish(…)            # inside a program with a loop of its own
"""

import os
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command
from huahuo.actors.plugins.plugin import Plugin
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.app import config, keys, tokens
from huahuo.app.application import Application
from huahuo.app.loops import own_the_process, run
from huahuo.app.wiring import App, World
from huahuo.embedding import calls
from huahuo.embedding.calls import At
from huahuo.embedding.jobs import Job
from huahuo.errors import HuahuoError, NotRunning
from huahuo.eventstore.ambient import Ambient, SystemAmbient


class Huahuo(Application):
    """A service with these entities and plug-ins. `settings`: see docs/settings.md.

    `plugins` None: mail under `huahuo serve`, none elsewhere. A file, the environment and flags win over
    `data` and `settings` under `huahuo serve`; elsewhere `config_file` and the environment are below them.
    `world` and `ambient` replace the outside in tests.

    Raises:
        DefinitionError: an entity cannot work as it is written.
    """

    def __init__(
        self,
        *,
        entities: Sequence[Entity[Any]] = (),
        plugins: Sequence[Plugin] | None = None,
        data: str | Path = "huahuo-data",
        config_file: str | Path | None = None,
        world: World | None = None,
        ambient: Ambient | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(entities=entities, plugins=plugins, data=data, settings=settings)
        self._config_file = None if config_file is None else Path(config_file)
        self._world = world or World()
        self._ambient = ambient or SystemAmbient()
        self._app: App | None = None

    async def start(self) -> None:
        """Listen. Raises HuahuoError: it could not start, or runs already."""
        if self._app is not None:
            raise HuahuoError("the service has been started already")
        self._app = app = App(self._settings(), self._ambient, self._world, plugins=self.plugins())
        try:
            await app.start()
        except BaseException:
            self._app = None
            raise

    async def stop(self) -> None:
        """Drain and stop. Idempotent. Effects and jobs that are drained may still use the service."""
        if (app := self._app) is not None:
            try:
                await app.stop()
            finally:
                if self._app is app:
                    self._app = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM. For a program that does nothing else."""
        from huahuo.embedding.foreground import serve

        own_the_process()
        run(serve(self._settings(), self.plugins(), self.runs_as))

    def runs_as(self, running: App | None) -> None:
        """See `Application`: from now on, effects reach the service that runs them."""
        self._app = running

    @property
    def running(self) -> App:
        """The running service. Raises NotRunning."""
        if self._app is None:
            raise NotRunning("the service is not running: write `async with app:` or call start() first")
        return self._app

    @property
    def url(self) -> str:
        """The service's address. Raises NotRunning."""
        return self.running.url

    def token(
        self, user_id: int, username: str = "", *, admin: bool = False, groups: tuple[str, ...] = (),
        ttl_s: float = 3600,
    ) -> str:  # fmt: skip
        """A sign-in token for one of your users. Raises ConfigError if the service would refuse a field."""
        secret = keys.ensure(self._settings(), self._ambient).jwt_secret
        name = username or str(user_id)
        return tokens.mint(
            secret, self._ambient, user_id=user_id, username=name, admin=admin, groups=groups, ttl_s=ttl_s
        )

    def publish(
        self,
        stream: str,
        type: str,  # noqa: A002  the wire's word
        fields: Mapping[str, Any] | None = None,
    ) -> Coroutine[Any, Any, At]:
        """Append one event. Raises as `publish_many`."""
        return calls.publish(self.running, stream, type, fields)

    def publish_many(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Coroutine[Any, Any, At]:
        """See `calls.publish_many`."""
        return calls.publish_many(self.running, events)

    async def send(
        self,
        command: str | Command,
        *,
        as_user: UserId | Principal | None = None,
        command_id: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """See `calls.send`."""
        return await calls.send(self.running, command, as_user=as_user, command_id=command_id, **fields)

    def job(self, name: str, user: UserId | None = None) -> Job:
        """Work that `user` watches on `job/<id>` and may cancel: `async with app.job("import") as job`.

        Raises NotRunning.
        """
        return Job(self.running, name, user)

    async def state(self, entity: Entity[Any] | str, key: int | str) -> tuple[Any, int]:
        """See `calls.state`."""
        return await calls.state(self.running, entity, key)

    def follow(self, stream: str, after: int = 0) -> AsyncGenerator[dict[str, Any]]:
        """See `calls.follow`."""
        return calls.follow(self.running, stream, after)

    async def seen(self, stream: str, seq: int, *, client: str, timeout_s: float = 30.0) -> bool:
        """See `calls.seen`."""
        return await calls.seen(self.running, stream, seq, client=client, timeout_s=timeout_s)

    def _settings(self) -> config.Settings:
        return config.Table(self.plugins()).load(
            environ=os.environ, file=self._config_file, flags=self.settings
        )
