"""The embedding API: the whole service in a thread of its own, callable from any other thread.

Every call blocks its thread until the event is durable, and returns the event's position in the log.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app import credentials, logs
from huahuo.app.application import Application
from huahuo.app.config import Table
from huahuo.app.credentials import Asked
from huahuo.app.wiring import App
from huahuo.embedding import calls
from huahuo.embedding.jobs import BlockingJob
from huahuo.embedding.service_thread import ServiceThread
from huahuo.errors import NotRunning
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.accounts.accounts import Authenticate, Authorize

_LOOK_S = 5.0
"""One step of `follow` asks the loop again after this long: shorter than a call may take."""


type ReportedStatus = Literal["processing", "ok", "error", "need_reauth", "cancelled"]


class Service:
    """huahuo inside your own program, in the same process.

    `settings` are those of docs/settings.md. They override the environment (`HUAHUO_*`) and a config file.
    `plugins`: exactly these, None: none. `entities`: the application's own. `authenticate` and `authorize`:
    docs/accounts.md; they run on the service's thread.

    Raises:
        ConfigError: a setting is unknown or invalid.
    """

    def __init__(
        self,
        data: str | Path = "huahuo-data",
        *,
        config_file: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
        plugins: Sequence[Plugin] | None = None,
        entities: Sequence[Entity[Any]] = (),
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        **settings: Any,
    ) -> None:
        asked = Asked(authenticate, authorize)
        self._given = given = Application(entities=entities, plugins=plugins, asked=asked)
        self._plugins = given.plugins()
        self._settings = Table(self._plugins).load(
            environ=os.environ if environ is None else environ,
            file=Path(config_file) if config_file is not None else None,
            flags={"data": Path(data), **settings},
        )
        self._ambient = SystemAmbient()
        self._thread = ServiceThread(self._make, self._ambient)
        self._call, self._position = self._thread.call, self._thread.position

    @classmethod
    def from_environment(cls, *, plugins: Sequence[Plugin] | None = None) -> Self:
        """A service whose settings come from the environment only."""
        return cls(os.environ.get("HUAHUO_DATA", "huahuo-data"), plugins=plugins)

    def query[F: Callable[..., Any]](self, action: str, /) -> Callable[[F], F]:
        """See `Huahuo.query`."""
        return self._given.query(action)

    def follower[F: Callable[..., Awaitable[None]]](self, name: str, /, **rules: Any) -> Callable[[F], F]:
        """See `Huahuo.follower`. The function runs on the service's loop."""
        return self._given.follower(name, **rules)

    def start(self) -> None:
        """Start the service in a thread of its own, and return when it listens.

        Raises:
            HuahuoError: it could not start. The text has the reason. No thread is left running.
            NotRunning: this process was forked from one that has started it.
        """
        logs.configure_unless_done(self._settings.log_level, as_json=self._settings.log_json)
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> None:
        """Drain and stop. Idempotent. Running checks continue after the next start.

        What does not stop in time is cancelled, and left behind if it ignores that.

        Raises:
            HuahuoError: the service's thread is blocked, so that it cannot end. Call `stop` again later.
        """
        self._thread.stop(timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The service's address, e.g. `http://127.0.0.1:8765`. Raises NotRunning."""
        return self._thread.running().url

    @property
    def port(self) -> int:
        """The service's TCP port. Raises NotRunning."""
        return self._thread.running().port

    def token(
        self,
        user_id: UserId,
        username: str,
        *,
        admin: bool = False,
        groups: tuple[str, ...] = (),
        ttl_s: float = 3600,
    ) -> str:
        """A sign-in token for one of your users. Raises ConfigError if the service would refuse a field."""
        app = self._thread.app
        return credentials.mint(
            credentials.ensure_keys(self._settings, self._ambient).jwt_secret,
            self._ambient,
            user_id=user_id,
            username=username,
            admin=admin,
            groups=groups,
            ttl_s=ttl_s,
            by=None if app is None else app.login.authenticator,
        )

    def update_email_status(self, email_id: int, status: ReportedStatus, message: str = "") -> int:
        """Report a mailbox's status (`processing`, `ok`, `error`, `need_reauth`, `cancelled`).

        The first report opens a check of your own, and a terminal status ends it.

        Raises:
            HuahuoError: there is no such mailbox, or no such status. NotRunning.
            OutcomeUnknown: it is unknown whether the event was written.
        """
        position: int = self._call(lambda app: app.api("mail").report_status(email_id, status, message))
        return position

    def progress(self, email_id: int, percent: int, message: str = "") -> int:
        """Report how far your check of a mailbox is, 0 to 100. Raises as `update_email_status`."""
        position: int = self._call(lambda app: app.api("mail").report_progress(email_id, percent, message))
        return position

    def publish(self, stream: str, type: str, fields: Mapping[str, Any] | None = None) -> int:  # noqa: A002
        """Append an event to `user/<id>`, `group/<name>`, `system`, or a stream of a kind without entity.

        Values that JSON or a browser cannot hold are refused: NaN, infinities, integers from 2^53 on.

        Raises:
            Refused: it is not allowed; also a HuahuoError. NotRunning.
            OutcomeUnknown: it is unknown whether the event was written.
        """
        return self.publish_many(((stream, type, fields or {}),))

    def publish_many(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> int:
        """Append (stream, type, fields) of each event in one commit. Raises as `publish`."""
        return self._position(lambda app, trace: app.publisher.append_of_many(events, trace=trace))

    def send(
        self,
        command: str | Command,
        *,
        as_user: UserId | Principal | None = None,
        command_id: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Send a command and return its reply. Raises Refused: it was refused. Else as `publish`."""
        return self._call(
            lambda app: calls.send(app, command, as_user=as_user, command_id=command_id, **fields)
        )

    def job(self, name: str, user: UserId | None = None) -> BlockingJob:
        """Work that `user` watches on `job/<id>` and may cancel: `with service.job("import") as job`."""
        return BlockingJob(self._call, name, user)

    def state(self, entity: Entity[Any] | str, key: int | str) -> tuple[Any, int]:
        """The state of an entity, and the seq of the last event in it. Raises as `send`."""
        return self._call(lambda app: calls.state(app, entity, key))

    def follow(self, stream: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Every event of `stream` after `after`, until the service stops. A step blocks until there is one.

        Raises NotRunning: it does not run at the first step.
        """
        self._thread.running()
        while True:
            try:
                event = self._call(partial(calls.next_event, stream=stream, after=after, timeout_s=_LOOK_S))
            except NotRunning:
                return
            if event is not None:
                after = event["seq"]
                yield event

    def seen(self, stream: str, seq: int, *, client: str, timeout_s: float = 30.0) -> bool:
        """Whether the client installation has processed `stream` up to `seq`, within `timeout_s`."""
        return self._call(
            lambda app: calls.seen(app, stream, seq, client=client, timeout_s=timeout_s),
            waits_s=timeout_s,
        )

    def notify(self, message: str, level: str = "info") -> int:
        """Send a notice (`info`, `warning` or `error`) to every user. Raises as `update_email_status`."""

        async def notify(app: App) -> int:
            _stream, _seq, position = await app.publisher.notify(message, level)
            return position

        return self._call(notify)

    def revoke(self, *, user_id: UserId | None = None, jti: str | None = None) -> int:
        """End a user's or a token's sessions within a second. Raises as `update_email_status`."""

        async def revoke(app: App) -> int:
            _stream, _seq, position = await app.publisher.revoke(user_id=user_id, jti=jti)
            return position

        return self._call(revoke)

    def rights_changed(self, stream: str | None = None, *, user: UserId | None = None) -> None:
        """See `Huahuo.rights_changed`."""

        async def changed(app: App) -> None:
            calls.rights_changed(app, stream, user)

        self._call(changed)

    def _make(self) -> App:
        return App(self._settings, self._ambient, plugins=self._plugins, asked=self._given.asked)
