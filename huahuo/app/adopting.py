"""Taking the directory of a single service into a cluster: it becomes the first node of an ordered log.

The ordered log must be empty: its birth then names this directory's log. What the directory holds is in no
proposal, so every further node begins with a copy of one that has it.
"""

from collections.abc import Callable
from contextlib import aclosing, suppress

from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.app.nodes import node_name
from huahuo.app.ordered_log import address_of, sequencer_of
from huahuo.build import BUILD
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.limits import EVENT_BYTES_MAX
from huahuo.eventstore.replicated import birth
from huahuo.eventstore.replicated.birth import Birth
from huahuo.eventstore.sequencer.port import InDoubt, Sequencer, SequencerError, Trimmed
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.replica import become_replica, is_replica, larger_event
from huahuo.eventstore.sqlite.schema import DATABASE


async def adopt(settings: Settings, ambient: Ambient, tell: Callable[[str], object]) -> None:
    """Make `settings.data` the first node of the ordered log `settings.log`; `tell` what to do next.

    Run again, it goes on where it was stopped.

    Raises:
        ConfigError: there is no log, or no address; or the directory is a node's already.
        HuahuoError: an event is too large for a cluster; the ordered log is in use.
    """
    address = address_of(settings)
    if address is None:
        raise ConfigError("name the ordered log: --log postgres://… or nats://…")
    if not (settings.data / DATABASE).is_file():
        raise ConfigError(f"there is no log in {settings.data}: an empty directory needs no adoption")
    secrets = keys.read(settings)
    if is_replica(settings.data):
        raise ConfigError(f"{settings.data} is a node's already: start it by `huahuo serve --log …`")
    sequencer = await sequencer_of(settings, address, ambient)
    try:
        log = await SqliteLog.open(settings.data, ambient=ambient, master_key=secrets.master_key, build=BUILD)
        try:
            if (found := larger_event(settings.data, EVENT_BYTES_MAX)) is not None:
                position, stream, kind, size = found
                raise HuahuoError(
                    f"the event {position} ({kind} of {stream}) has {size} bytes, and a cluster takes"
                    f" {EVENT_BYTES_MAX}: it can't be adopted while the log has that event"
                )
            mark = Vault(secrets.master_key, ambient).mark()
            made = Birth(birth.ADOPTED_FORMAT, log.log_id, mark, max(1, log.position))
            await _bear(sequencer, made)
            chain = log.writer.place.chain
        finally:
            await log.close()
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    except SequencerError as error:
        raise HuahuoError(f"{address}: {error}") from error
    finally:
        await sequencer.close()
    become_replica(settings.data, chain)
    node = node_name(settings, ambient)
    tell(f"{settings.data} is the node {node} now: start it by `huahuo serve --log …`; others begin empty")


async def _bear(sequencer: Sequencer, made: Birth) -> None:
    """Make it the first proposal. One of an earlier run counts too, and so does one that is there twice.

    An ordered log on a slow disk is asked again before it answers, and keeps both.
    """
    if await sequencer.last() == 0:
        try:
            await sequencer.propose(birth.dump(made), f"birth.{made.log_id}")
        except InDoubt as error:
            raise HuahuoError(f"{error}: run `huahuo cluster adopt` again") from None
    if not await _holds_only(sequencer, made.log_id):
        raise HuahuoError("the ordered log is in use already: use an empty one, for example ?name=shop")


async def _holds_only(sequencer: Sequencer, log_id: str) -> bool:
    """Whether the ordered log has nothing but births of this log."""
    last = await sequencer.last()
    with suppress(Trimmed):
        async with aclosing(sequencer.follow(0)) as following:
            async for ordered in following:
                born = birth.load(ordered.proposal)
                if born is None or born.log_id != log_id:
                    break
                if ordered.offset >= last:
                    return True
    return False
