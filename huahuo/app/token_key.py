"""Whether the token key is still the one of the last start: under another one every older token is refused.

The log keeps a mark of the key, made with the master key, so that the mark alone tells nothing about it.
"""

from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.app.keys import JWT_FILE, Keys
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.view import read_single

KEY: Final = "token_key"
"""In the log's table of single values."""
_TOLD_MS: Final = 30 * 86_400_000
"""A change is told for as long, or until the former key is back or among the previous ones."""
_MARK_BYTES: Final = 8
_WAY: Final = (
    f"put the former key back into {JWT_FILE} or HUAHUO_JWT_SECRET; or, if you changed it on purpose, name"
    " the former one in HUAHUO_JWT_SECRETS_PREVIOUS until its tokens have expired"
)

_log = structlog.get_logger(__name__)


class Noted(msgspec.Struct, frozen=True):
    """The mark of the key at the last start, and of the one before it with the time of the change."""

    mark: str
    former: str = ""
    since_ms: int = 0


def following(noted: Noted | None, secrets: Keys, now_ms: int) -> Noted:
    """What to note at a start. Pure."""
    mark, previous = _mark(secrets, secrets.jwt_secret), _previous(secrets)
    if noted is None or noted.former == mark or noted.mark in previous:
        return Noted(mark)
    if noted.mark == mark:
        return Noted(mark) if noted.former in previous else noted
    return Noted(mark, noted.mark, now_ms)


def sentence(noted: Noted | None, secrets: Keys, now_ms: int) -> str:
    """What is to be told of a changed key, "" if nothing is. Pure."""
    told = following(noted, secrets, now_ms)
    if not told.former or told.former in _previous(secrets) or now_ms - told.since_ms > _TOLD_MS:
        return ""
    when = "since the last start" if noted != told else f"on {rfc3339(told.since_ms)}"
    return f"the token key was changed {when}: every token that was signed before is refused; {_WAY}"


async def note(log: SqliteLog, secrets: Keys, ambient: Ambient) -> None:
    """Compare the key with that of the last start, tell it if it is another one, and note it."""
    now_ms = ambient.now_ms()
    try:
        noted = _decoded(await log.single(KEY))
        if told := sentence(noted, secrets, now_ms):
            _log.error("token_key_changed", told=told)
        new = following(noted, secrets, now_ms)
        if new != noted:
            await log.put_single(KEY, msgspec.json.encode(new))
    except EventStoreError as error:
        _log.warning("token_key_not_noted", error=str(error))


def of_file(path: Path, secrets: Keys, now_ms: int) -> str:
    """As `sentence`, of a log whose database is `path`, also while a service runs on it."""
    return sentence(_decoded(read_single(path, KEY)), secrets, now_ms)


def _decoded(value: bytes | None) -> Noted | None:
    return None if value is None else msgspec.json.decode(value, type=Noted)


def _previous(secrets: Keys) -> set[str]:
    return {_mark(secrets, secret) for secret in secrets.previous}


def _mark(secrets: Keys, secret: bytes) -> str:
    return blake2b(secret, key=derive(secrets.master_key, "token key"), digest_size=_MARK_BYTES).hexdigest()
