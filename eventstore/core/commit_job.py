"""The job of one commit: decide a group, and write it."""

from collections.abc import Callable, Sequence

from huahuo.eventstore.core.ages import AgeClock
from huahuo.eventstore.core.changes import PutAge, PutCounter
from huahuo.eventstore.core.draft import Draft
from huahuo.eventstore.core.pending import Commit, Pending, decided
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Store


def commit_job(
    store: Store,
    draft: Draft,
    items: Sequence[Pending],
    counters: list[PutCounter],
    ages: AgeClock,
    vault: Vault,
    thread_s: Callable[[], float] | None,
) -> Commit:
    """Decide `items` and write what was accepted. Runs on the executor's thread. Raises as `Store.commit`."""
    began_s = thread_s() if thread_s else 0.0
    keys = [one.append.command.key for one in items if one.append and one.append.command]
    if len(keys) > 1:
        draft.look_up(keys)
    outcomes = [decided(draft, pending, vault) for pending in items]
    wrote = bool(draft.events or draft.changes)
    if wrote:
        draft.changes[:0] = counters
        note = ages.note_due()
        if note is not None:
            draft.changes.append(PutAge(note))
        store.commit(draft.group())
        if note is not None:
            ages.noted(note)
    newest = {event.stream: event for event in draft.events}
    spent_s = thread_s() - began_s if thread_s else 0.0
    return Commit(
        outcomes, draft.events, newest, draft.firsts, draft.ended,
        draft.position, draft.chain, wrote, spent_s,
    )  # fmt: skip
