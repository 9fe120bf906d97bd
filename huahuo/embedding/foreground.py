"""`huahuo serve`: the service in the foreground, until a signal drains it (`huahuo.app.signals`)."""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

import structlog

from huahuo.actors.domain.errors import DefinitionError
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app import logs
from huahuo.app.accounts import NOBODY, Asked
from huahuo.app.caches import letting_go
from huahuo.app.config import Settings
from huahuo.app.memory import Tidier
from huahuo.app.signals import stop_on_signals
from huahuo.app.table import Table
from huahuo.app.wiring import App
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient

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
        if not await _started(app, stopping):
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


async def _started(app: App, stopping: asyncio.Event) -> bool:
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
