"""What nodes charge each other for, revocations that were missed, keys' rights, and claims by a path."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.model import Head, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.transport.access.claims import ClaimNames, own_claims
from huahuo.transport.access.door import RequestLimit
from huahuo.transport.access.revocations import AUTH_STREAM, REVOKED, Revocations, RevocationWatch, Revoked
from huahuo.transport.access.rights import READ, WRITE, Verified, may_call
from huahuo.transport.access.tokens import Authenticator
from tests.support.models.forged import GOOD, NOW_MS, SECRET
from tests.support.worlds.people import ALICE


def test_what_is_told_to_the_other_nodes_is_bounded() -> None:
    limit = RequestLimit(1, keys_max=2)
    limit.spent = Counter()
    for key in ("a", "b", "c", "a"):
        limit.take(key, 0)
    assert limit.spent == {"a": 2, "b": 1}


def test_where_there_is_no_limit_nothing_is_owed() -> None:
    limit = RequestLimit(0)
    limit.charge("a", 1000, 0)
    assert (limit.take("a", 0), len(limit)) == (0.0, 0)


class Auth:
    """A log with a stream of revocations. `gap`: reads find nothing, as behind a hole."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.gap = False
        self.listener: Any = None

    def revoke(self, user_id: int) -> list[StoredEvent]:
        seq = len(self.events) + 1
        body = json.dumps({"user_id": user_id}).encode()
        self.events.append(
            StoredEvent(seq, AUTH_STREAM, seq, "revoked", body, 1, NOW_MS, "", "", "", 0, "", b"")
        )
        return self.events[-1:]

    def head(self, _stream: str) -> Head:
        return Head(1, len(self.events), b"")

    def listen(self, listener: Any) -> Any:
        self.listener = listener
        return lambda: setattr(self, "listener", None)

    async def read(self, _stream: str, after: int, *, events_max: int) -> Sequence[StoredEvent]:
        return [] if self.gap else self.events[after : after + events_max]


def watched(log: Auth) -> tuple[RevocationWatch, list[Revoked]]:
    told: list[Revoked] = []
    return RevocationWatch(cast("Log", log), Revocations(), told.append), told


async def test_a_revocation_that_is_told_twice_ends_sockets_once() -> None:
    log = Auth()
    watch, told = watched(log)
    await watch.start()
    events = log.revoke(42)
    log.listener(events)
    log.listener(events)
    assert [one.user_id for one in told] == [42]
    assert not watch.behind


async def test_after_a_missed_signal_all_is_read_in_its_order() -> None:
    log = Auth()
    watch, told = watched(log)
    await watch.start()
    log.revoke(1)
    log.listener(log.revoke(2))
    assert (told, watch.behind) == ([], True)
    await watch.catch_up()
    assert [one.user_id for one in told] == [1, 2]


async def test_what_cannot_be_read_yet_ends_the_catching_up_without_a_loop() -> None:
    log = Auth()
    watch, told = watched(log)
    log.revoke(1)
    log.gap = True
    await watch.start()
    assert (told, watch.behind) == ([], True)


def key(*rights: str, admin: bool = False) -> Principal:
    return msgspec.structs.replace(ALICE, rights=rights, is_admin=admin)


async def _nothing(_call: Any) -> Any: ...


def action(name: str, **more: Any) -> Action:
    return Action(name, dict, _nothing, **more)


@pytest.mark.parametrize(
    ("who", "asked", "may"),
    [
        (key(READ), action("get_orders", query=True), True),
        (key(READ), action("open_order"), False),
        (key(WRITE), action("open_order"), True),
        (key("open_order"), action("open_order"), True),
        (key(WRITE, "add_webhook"), action("add_webhook", signed_in=True), False),
        (key(WRITE), action("compact", admin=True), False),
        (key(WRITE, admin=True), action("compact", admin=True), True),
        (ALICE, action("compact", admin=True), False),
        (ALICE, action("open_order", signed_in=True), True),
    ],
)
def test_a_key_may_do_what_its_rights_say_and_no_more(who: Principal, asked: Action, *, may: bool) -> None:
    assert may_call(who, asked) is may


def test_a_token_says_when_its_user_signed_in() -> None:
    auth = Authenticator(SECRET)
    who = msgspec.structs.replace(ALICE, signed_in_ms=NOW_MS - 60_000)
    verified = auth.verify(auth.mint(who, now_ms=NOW_MS, ttl_s=60, jti="j"), NOW_MS)
    assert isinstance(verified, Verified)
    assert verified.principal.signed_in_ms == NOW_MS - 60_000


def test_a_claim_whose_path_goes_through_a_text_is_not_there() -> None:
    names = ClaimNames(groups="realm.roles")
    claims = own_claims(json.dumps({**GOOD, "realm": "a text", "groups": ["ops"]}).encode(), names)
    assert claims.groups == ("ops",)


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"jti": "j"}, 1),
        ({"jti": "j", "is_gone": True}, 0),
        ({"user_id": 42}, 1),
        ({"user_id": 42, "is_gone": True}, 1),
    ],
)
def test_a_revocation_is_remembered_unless_nobody_knows_its_token_any_more(
    fields: dict[str, Any], known: int
) -> None:
    revocations, body = Revocations(), msgspec.json.encode(fields)
    told = revocations.apply(StoredEvent(1, AUTH_STREAM, 1, REVOKED, body, 1, 7, "", "", "", 0, "", b""))
    assert told is not None
    assert told.jti == fields.get("jti", "")
    assert (len(revocations), revocations.count) == (known, 1)
    assert revocations.covers(7, "j", 100) == (fields == {"jti": "j"})
