"""The way to the log that several nodes share: its address, and whether it keeps what it acknowledges."""

import asyncio
from collections.abc import Callable

import structlog

from huahuo.app.config import Settings
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.sequencer.address import BadAddress, LogAddress
from huahuo.eventstore.sequencer.credentials import FileUnusable, SignInRefused
from huahuo.eventstore.sequencer.opening import ClientMissing, RemoteSequencer, sequencer_at
from huahuo.eventstore.sequencer.port import Misconfigured, Unreachable
from huahuo.eventstore.sqlite.replica import is_replica

_log = structlog.get_logger(__name__)


def address_of(settings: Settings) -> LogAddress | None:
    """The ordered log of the settings; None for a single service.

    Raises:
        ConfigError: the address can't be read.
    """
    if not settings.log:
        return None
    try:
        return LogAddress(settings.log)
    except BadAddress as error:
        raise ConfigError(f"log: {error}") from None


async def sequencer_of(
    settings: Settings, address: LogAddress, ambient: Ambient, tell: Callable[[str], None] = lambda _: None
) -> RemoteSequencer:
    """The way to the ordered log, once it said that it keeps what it acknowledges. Raises ConfigError.

    `tell` hears why it waits.
    """
    try:
        sequencer = sequencer_at(address, ambient)
    except ClientMissing as error:
        raise ConfigError(str(error)) from None
    try:
        await _look(sequencer, address, tell, empty=not is_replica(settings.data))
    except BaseException:
        await sequencer.close()
        raise
    return sequencer


async def _look(
    sequencer: RemoteSequencer, address: LogAddress, tell: Callable[[str], None], *, empty: bool
) -> None:
    """Ask the ordered log whether it keeps what it acknowledges; show its warnings.

    An `empty` directory waits for its answer; one with a replica goes on without it.

    Raises:
        ConfigError: it may lose commits; a file can't be used; an empty directory is not let in.
    """
    told = ""
    while True:
        try:
            for warning in await sequencer.check():
                _log.warning("ordered_log", log=str(address), warning=warning)
        except (Misconfigured, FileUnusable) as error:
            raise ConfigError(f"{address}: {error}") from None
        except SignInRefused as error:
            if empty:
                raise ConfigError(f"{address}: {error}") from None
            told = _tell(error, told)
        except Unreachable as error:
            told = _tell(error, told)
        else:
            return
        if not empty:
            return
        tell(f"this node waits for the ordered log: {told}")
        await asyncio.sleep(1.0)


def _tell(error: Exception, told: str) -> str:
    """Log why it waits, once for each reason."""
    if str(error) != told:
        _log.warning("waiting_for_the_ordered_log", reason=str(error))
    return str(error)
