"""What `huahuo doctor` finds in the directory of a node of several, whose log only that node writes."""

from typing import Final

from huahuo.app.config import Settings
from huahuo.app.nodes import DIFFERED_FILE, NODE_FILE
from huahuo.cli.finding import Finding
from huahuo.errors import copied_again
from huahuo.eventstore.errors import Corrupt, Damaged, EventStoreError
from huahuo.eventstore.sqlite.directory_lock import lock_to_change
from huahuo.eventstore.sqlite.loss import check_loss
from huahuo.eventstore.sqlite.mark import read_marks
from huahuo.eventstore.sqlite.replica import held_in
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.small_tables import check_small

NONE_YET: Final = Finding("ok", "log", "none yet; the node gets a copy at its start, or follows the others")
"""Also where a first start was cut off: what it left in the log's file has no content to look at."""


def is_one(settings: Settings) -> bool:
    """Whether the directory is that of a node, as far as what is in it can be read."""
    try:
        return bool(settings.log) or held_in(settings.data) is not None
    except Corrupt:
        return (settings.data / NODE_FILE).exists()
    except EventStoreError:
        return False


def examined(settings: Settings) -> list[Finding]:
    """Whether all is there that the node acknowledged, and where it stands. Only the lock is written.

    Raises:
        InUse: the node runs.
    """
    lock = lock_to_change(settings.data)
    try:
        check_loss(settings.data, lock.left, whole=not lock.lost_power)
        held = held_in(settings.data)
        if held is not None:
            check_small(settings.data / DATABASE, read_marks(settings.data) or [], lock.left)
    except Damaged as error:
        return [Finding("error", "log", f"{error}; {copied_again(settings.data)}")]
    except EventStoreError as error:
        return [Finding("error", "log", str(error))]
    finally:
        lock.leave(None)
    if held is None:
        return [NONE_YET]
    if lock.written_before:
        return [Finding("error", "log", f"{lock.written_before}; {copied_again(settings.data)}")]
    text = f"the replica of a node, id {held.log_id}, which has applied proposal {held.offset}"
    return [Finding("ok", "log", text), *_differs(settings)]


def _differs(settings: Settings) -> list[Finding]:
    """Why the node refuses to start on this directory."""
    noted = settings.data / DIFFERED_FILE
    if not noted.exists():
        return []
    reason = noted.read_text(encoding="utf-8", errors="replace").strip()
    return [Finding("error", "log", f"{reason}; {copied_again(settings.data)}")]
