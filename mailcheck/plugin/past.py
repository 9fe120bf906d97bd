"""The past of mail, for time travel, audits and exports. See `huahuo.actors.plugins.past`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply
from huahuo.actors.plugins.past import Past
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.belongings import belongings
from huahuo.mailcheck.listing.cut import RowsCut, list_of, snapshot_of
from huahuo.mailcheck.plugin.saying import say
from huahuo.mailcheck.replay_subjects import own_subject, sealed_in, shown, subject_of
from huahuo.mailcheck.roster.state import RosterFold
from huahuo.mailcheck.streams import user_stream
from huahuo.replay.history.keyframes import state_at


async def _snapshot(log: Log, stream: str) -> tuple[int, RowsCut]:
    seq, roster = await state_at(log, stream, RosterFold())
    return seq, snapshot_of(roster)


def _actions(log: Log) -> Sequence[Action]:
    async def emails(call: Call[dict[str, Any]]) -> Reply:
        stream = user_stream(call.principal.user_id)
        seq, roster = await state_at(log, stream, RosterFold())
        return Reply(body=b'{"type":"emails_list"}', parted=list_of(roster, stream, seq))

    return (Action("get_all_emails", dict, emails, query=True),)


PAST: Final = Past(
    subject_of=subject_of,
    own_subject=own_subject,
    kinds=("user", "mailbox"),
    sealed_in=sealed_in,
    shown=shown,
    snapshots={"user": _snapshot},
    actions=_actions,
    guides=(Path(__file__).parents[1] / "guide" / "guide.py",),
    entity_fields={"email_id": "mailbox"},
    belongings=belongings,
    prunable=frozenset({"check_progress"}),
    worded={
        "check_progress": frozenset({"message"}),
        "email_status_update": frozenset({"message", "advice"}),
    },
    say=say,
    last=frozenset({"mailbox_deleted"}),
)
