"""`huahuo doctor --accept-loss`: a log that lost its end goes on with the rest."""

from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.audit.record import principal
from huahuo.build import BUILD
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.core.receipts import AUDIT_STREAM
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.remaking import LOSS_STRIDE

LOSS_ACCEPTED = "loss_accepted"


async def accept_loss(settings: Settings, ambient: Ambient) -> str:
    """Continue with the rest of a log that lost its end, under a new id. Returns a sentence for the user.

    Raises:
        ConfigError: there is no key for it. EventStoreError: no event is lost, or no event is usable.
    """
    log = await SqliteLog.open(
        settings.data,
        ambient=ambient,
        master_key=keys.read_master_key(settings),
        build=BUILD,
        accept_loss=True,
    )
    try:
        position, now_ms = log.position, ambient.now_ms()
        body = {"type": LOSS_ACCEPTED, "timestamp": rfc3339(now_ms), "position": position}
        event = NewEvent(AUDIT_STREAM, LOSS_ACCEPTED, json_bytes(body))
        await log.append(Append(ts_ms=now_ms, events=(event,), principal=principal()))
    finally:
        await log.close()
    return (
        f"the log goes on behind position {position} with the new id {log.log_id}; clients are reset,"
        f" and new numbers begin {LOSS_STRIDE} higher"
    )
