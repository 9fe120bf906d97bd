"""The embedding API: the whole service in a thread of its own, callable from any other thread.

Every call blocks its thread until the event is durable, and returns the event's position in the log.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command
from huahuo.actors.plugins.plugin import ApiRefused, Plugin
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.app import config, keys, logs, tokens
from huahuo.app.accounts import Asked
from huahuo.app.application import Application
from huahuo.app.loops import run
from huahuo.app.memory import Tidier
from huahuo.app.plugins import with_mail
from huahuo.app.wiring import App
from huahuo.embedding import calls
from huahuo.embedding.bridge import Bridge
from huahuo.embedding.jobs import BlockingJob
from huahuo.errors import HuahuoError, NotRunning, OutcomeUnknown
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import Closed, EventStoreError, Unavailable
from huahuo.eventstore.model import Append, Appended
from huahuo.transport.accounts.application import Authenticate, Authorize
from huahuo.transport.commands.published_events import PublishRefused

_CALL_TIMEOUT_S = 30.0
_LOOK_S = 5.0
"""One step of `follow` asks the loop again after this long: shorter than a call may take."""
_DRAIN_SHARE = 0.9
"""The share of a stop's time for the drain; the rest is for the end of the loop and of the thread."""


type ReportedStatus = Literal["processing", "ok", "error", "need_reauth", "cancelled"]


class MailApi(Protocol):
    """What the plug-in `mail` offers."""

    async def report_status(self, email_id: int, status: ReportedStatus, message: str) -> int:
        """See `Service.update_email_status`."""
        ...

    async def report_progress(self, email_id: int, percent: int, message: str) -> int:
        """See `Service.progress`."""
        ...


def _mail(app: App) -> MailApi:
    api: MailApi = app.api("mail")
    return api


class PublicationRefused(Refused, HuahuoError):  # noqa: N818  a refusal
    """What `Huahuo.publish` raises as `Refused`. Programs of earlier versions catch it as `HuahuoError`."""


type _Work[T] = Callable[[App], Coroutine[Any, Any, T]]


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate exceptions of the floors below into the errors of this API."""
    try:
        yield
    except (HuahuoError, Refused):
        raise
    except PublishRefused as error:
        raise PublicationRefused(*calls.refused(error).args) from error
    except (ApiRefused, ValueError) as error:
        raise HuahuoError(str(error)) from error
    except (Unavailable, TimeoutError) as error:
        raise OutcomeUnknown("whether the event was written is not known") from error
    except (Closed, RuntimeError) as error:
        raise NotRunning(str(error)) from error
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error


class Service:
    """huahuo inside your own program, in the same process.

    `settings` are those of docs/settings.md. They override the environment (`HUAHUO_*`) and a config file.
    `plugins`: exactly these; None: mail. `entities`: the application's own. `authenticate` and `authorize`:
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
        self._plugins = given.plugins(with_mail())
        self._settings = config.Table(self._plugins).load(
            environ=os.environ if environ is None else environ,
            file=Path(config_file) if config_file is not None else None,
            flags={"data": Path(data), **settings},
        )
        self._ambient = SystemAmbient()
        self._app: App | None = None
        self._draining: App | None = None
        self._bridge: Bridge | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        """Id of the process that called `start`, 0 before."""
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Self:
        """A service whose settings come from the environment only."""
        return cls(os.environ.get("HUAHUO_DATA", "huahuo-data"))

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
        self._must_not_be_a_fork()
        with self._lock:
            if self._thread is not None:
                raise HuahuoError("the service has been started already")
            logs.configure_unless_done(self._settings.log_level, as_json=self._settings.log_json)
            starting = _Starting()
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, args=(starting,), name="huahuo", daemon=True)
            self._thread.start()
            starting.done.wait()
            if starting.error is not None:
                self._thread.join()
                self._thread = None
                raise starting.error

    def stop(self, timeout_s: float = 15.0) -> None:
        """Drain and stop. Idempotent. Running checks continue after the next start.

        What does not stop in time is cancelled, and left behind if it ignores that.

        Raises:
            HuahuoError: the service's thread is blocked, so that it cannot end. Call `stop` again later.
        """
        stop_by_s = self._ambient.monotonic_s() + timeout_s
        self._must_not_be_a_fork()
        with self._lock:
            if self._thread is None or self._bridge is None:
                return
            bridge, thread = self._bridge, self._thread
            self._draining, self._app = self._app or self._draining, None  # new calls raise NotRunning
            app = self._draining
            try:
                if app is not None and thread.is_alive():
                    with translated(), contextlib.suppress(TimeoutError):
                        bridge.call(lambda: self._drain(app, timeout_s * _DRAIN_SHARE), timeout_s)
            finally:
                thread.join(max(0.0, stop_by_s - self._ambient.monotonic_s()))
                if not thread.is_alive():
                    self._bridge = self._thread = self._draining = None
            if thread.is_alive():
                raise HuahuoError(
                    f"the service did not stop within {timeout_s:g} s: something blocks its thread"
                )

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
        return self._running().url

    @property
    def port(self) -> int:
        """The service's TCP port. Raises NotRunning."""
        return self._running().port

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
        return tokens.mint(
            keys.ensure(self._settings, self._ambient).jwt_secret,
            self._ambient,
            user_id=user_id,
            username=username,
            admin=admin,
            groups=groups,
            ttl_s=ttl_s,
        )

    def update_email_status(self, email_id: int, status: ReportedStatus, message: str = "") -> int:
        """Report a mailbox's status (`processing`, `ok`, `error`, `need_reauth`, `cancelled`).

        The first report opens a check of your own, and a terminal status ends it.

        Raises:
            HuahuoError: there is no such mailbox, or no such status. NotRunning.
            OutcomeUnknown: it is unknown whether the event was written.
        """
        return self._call(lambda app: _mail(app).report_status(email_id, status, message))

    def progress(self, email_id: int, percent: int, message: str = "") -> int:
        """Report how far your check of a mailbox is, 0 to 100. Raises as `update_email_status`."""
        return self._call(lambda app: _mail(app).report_progress(email_id, percent, message))

    def publish(self, stream: str, type: str, fields: Mapping[str, Any] | None = None) -> int:  # noqa: A002
        """Append an event to `user/<id>`, `group/<name>`, `system`, or a stream of a kind without entity.

        Values that JSON or a browser cannot hold are refused: NaN, infinities, integers from 2^53 on.

        Raises:
            Refused: it is not allowed; also a HuahuoError. NotRunning.
            OutcomeUnknown: it is unknown whether the event was written.
        """
        return self._position(
            lambda app, trace: app.publisher.append_of_one(stream, type, fields or {}, trace)
        )

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
        self._running()
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
            lambda app: calls.seen(app, stream, seq, client=client, timeout_s=timeout_s), waits_s=timeout_s
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

    def _must_not_be_a_fork(self) -> None:
        """Refuse a forked process: it has this object but not its thread, so a call would block.

        Raises:
            NotRunning: this process was forked after `start`.
        """
        if self._pid not in (0, os.getpid()):
            raise NotRunning(
                f"process {self._pid} started the service, and this process was forked from it: start the"
                " service after the fork and in one process only, and let the others publish as clients"
                " (docs/embedding.md)"
            )

    def _running(self) -> App:
        self._must_not_be_a_fork()
        app = self._app
        if app is None:
            raise NotRunning("the service is not running: call start() first")
        return app

    def _call[T](self, work: _Work[T], waits_s: float = 0) -> T:
        """Do `work` on the loop. `waits_s`: how long it may wait, besides the time of a call."""
        app, bridge = self._running(), self._bridge
        if bridge is None:
            raise NotRunning("the service is stopping")
        with translated():
            return bridge.call(lambda: work(app), waits_s + _CALL_TIMEOUT_S)

    def _position(self, make: Callable[[App, str], tuple[Append, int]]) -> int:
        """Write the append, and return where the log then ends. `make` also says how large its events are.

        It gets the place in a trace of the thread that publishes.
        """
        app, bridge = self._running(), self._bridge
        if bridge is None:
            raise NotRunning("the service is stopping")
        here = app.publisher.here
        trace = "" if here is None else here()

        def begin(post: object) -> None:
            append, size = make(app, trace)
            app.log.submit_for(bridge, post, append, events_bytes=size)

        with translated():
            return cast("Appended", bridge.post(begin, _CALL_TIMEOUT_S)).position

    def _run(self, starting: "_Starting") -> None:
        """The body of the thread: one loop from start to stop."""
        try:
            run(self._main(starting))
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits in start()
            starting.error = error
        finally:
            if self._bridge is not None:
                self._bridge.stop()
            starting.done.set()

    async def _main(self, starting: "_Starting") -> None:
        self._stopping = asyncio.Event()
        app = App(self._settings, self._ambient, plugins=self._plugins, asked=self._given.asked)
        await app.start()
        self._app = app
        self._bridge = Bridge(asyncio.get_running_loop())
        starting.done.set()
        # Return freed memory to the system, but leave the garbage collector to the application.
        with Tidier(asyncio.get_running_loop(), collects=False, let_go=app.server.frames.clear):
            await self._stopping.wait()

    async def _drain(self, app: App, timeout_s: float) -> None:
        try:
            await app.stop(timeout_s)
        finally:
            self._stopping.set()


class _Starting:
    """The result of starting, for the thread that waits for it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
