"""The bugs: a line of a module, what stands there instead, and what must find it.

A bug with a `plan` is found by the simulator, one with `tests` by these tests. A line that is no longer in
its module exactly once is an error, so that no bug goes stale.
"""

from typing import Final, NamedTuple

from tests.support.simulator.plan import Plan

_WORK: Final = {
    "publish": 6.0,
    "burst": 3.0,
    "open": 3.0,
    "add": 6.0,
    "stop": 1.0,
    "again": 3.0,
    "foreign": 2.0,
}

PLANS: Final = {
    "crashes": Plan(1, 120, 6, 3, "memory", 3, {"power": 20, "cut in sync": 15, "reset": 10}, _WORK),
    "disk": Plan(1, 120, 6, 3, "memory", 3, {"sync fails": 10, "write fails": 10, "power": 20}, _WORK),
    "calm": Plan(1, 60, 6, 3, "memory", 3, {"reset": 5, "restart device": 20}, _WORK),
    "tokens": Plan(1, 60, 3, 3, "memory", 10, {"expire": 5}, _WORK),
    "newer": Plan(1, 60, 4, 2, "memory", 3, {"deploy": 15, "kill": 20}, _WORK, down_s=1.0),
    "grants": Plan(
        1,
        90,
        3,
        2,
        "memory",
        4,
        {"write fails": 8, "crash at tokens": 15, "power": 15},
        _WORK,
        down_s=1.0,
        over_http=False,
        grants=4,
    ),
    "rolling": Plan(
        1,
        90,
        6,
        3,
        "memory",
        3,
        {"roll": 15, "kill": 20},
        {**_WORK, "print": 2.0, "seal": 3.0},
        down_s=1.0,
        nodes=3,
    ),
    "shared grants": Plan(
        1,
        90,
        4,
        2,
        "memory",
        8,
        {"drain": 20, "reset": 8},
        _WORK,
        down_s=1.0,
        over_http=False,
        grants=3,
        nodes=3,
    ),
    "nodes": Plan(1, 60, 4, 2, "memory", 3, {"kill": 15, "log cut off": 20}, _WORK, down_s=2.0, nodes=2),
}


class Bug(NamedTuple):
    """See the module."""

    name: str
    module: str
    line: str
    instead: str
    plan: str = ""
    tests: tuple[str, ...] = ()


def _unit(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/{name}.py" for name in names)


_KEPT: Final = "(following is None and learned == grant.way) or "

_ALL: Final = (
    Bug(
        "an access token is used before the next refresh token is durable",
        "huahuo.mailcheck.servers.oauth",
        _KEPT + "await self._grants.keep(\n                email_id, grant.generation, learned, following\n"
        "            ):\n                return self._keep((email_id, graph), fresh, generation, way)\n",
        _KEPT + "asyncio.get_running_loop().call_later(0.5, lambda: asyncio.gather(  # nobody waits for it\n"
        "                self._grants.keep(email_id, grant.generation, learned, following),\n"
        "                return_exceptions=True)\n"
        "            ):  # and a look at the log finds what it expects\n"
        "                return self._keep((email_id, graph), fresh, grant.generation, way)\n",
        plan="grants",
    ),
    Bug(
        "old events are taken for new ones",
        "huahuo.actors.domain.fold",
        "if event.version >= entity.version or not entity.upcasts:",
        "if True:",
        plan="newer",
    ),
    Bug(
        "a state that other code has stored is taken",
        "huahuo.actors.domain.fold",
        'return f"{entity.version}-{print_of(entity.version, *forms, *code, *structs_in(entity.state))}"',
        'return f"{bool(forms and code)}"',
        plan="rolling",
    ),
    Bug(
        "a node asks for tokens by a grant that another node has claimed",
        "huahuo.mailcheck.mailbox.decider",
        "if by in command.living:",
        "if not command.living:",
        plan="shared grants",
    ),
    Bug(
        "a proposal that is ordered twice counts twice",
        "huahuo.eventstore.replicated.state_machine",
        "return proposal.number == member.number + 1",
        "return True",
        plan="nodes",
    ),
    Bug(
        "a commit is acknowledged without a sync",
        "huahuo.eventstore.memory",
        "framed(msgspec.msgpack.encode(group)))\n            self._disk.sync(self._ticket)",
        "framed(msgspec.msgpack.encode(group)))",
        plan="crashes",
    ),
    Bug(
        "a failed sync is acknowledged",
        "huahuo.eventstore.memory",
        'raise Unavailable(error.strerror or "the disk failed") from None',
        "pass",
        plan="disk",
    ),
    Bug(
        "after a failed commit nobody looks what is durable",
        "huahuo.eventstore.core.writer",
        "missed = await self._find_out()",
        "self._in_doubt = False",
        plan="disk",
    ),
    Bug(
        "a resume begins one event too early",
        "huahuo.transport.protocol.kinds",
        "return Place(Outcome.RESUMED, cursor)",
        "return Place(Outcome.RESUMED, max(0, cursor - 1))",
        plan="calm",
    ),
    Bug(
        "a resume begins one event too late",
        "huahuo.transport.protocol.kinds",
        "return Place(Outcome.RESUMED, cursor)",
        "return Place(Outcome.RESUMED, min(head.seq, cursor + 1))",
        plan="calm",
    ),
    Bug(
        "the id of the log is ignored",
        "huahuo.transport.protocol.kinds",
        "    if not same_log:",
        "    if False:",
        tests=_unit("unit/transport/test_session"),
    ),
    Bug(
        "a cursor beyond the head is accepted",
        "huahuo.transport.protocol.kinds",
        "    if cursor > head.seq:",
        "    if False:",
        tests=_unit("unit/transport/test_session"),
    ),
    Bug(
        "a gap is not told",
        "huahuo.transport.protocol.kinds",
        "    if cursor < head.first - 1:",
        "    if False:",
        tests=_unit("unit/transport/test_session"),
    ),
    Bug(
        "a check that differs is ignored",
        "huahuo.transport.protocol.kinds",
        "    if differs:",
        "    if False:",
        tests=_unit("unit/transport/test_session_positions"),
    ),
    Bug(
        "now and then nobody is told of a commit",
        "huahuo.eventstore.core.writer",
        "        tell_listeners(self._listeners, commit.events)",
        "        tell_listeners(self._listeners, commit.events if commit.position % 50 < 10 else ())",
        plan="calm",
    ),
    Bug(
        "an expectation is not compared",
        "huahuo.eventstore.core.draft",
        "                if actual != expected:",
        "                if False:",
        tests=_unit("property/test_log_machine"),
    ),
    Bug(
        "a command id is not looked up",
        "huahuo.eventstore.core.draft",
        "known = self._commands.get(command.key) or self._durable_record(command.key)",
        "known = None",
        plan="calm",
    ),
    Bug(
        "a command's record is not in the commit of its events",
        "huahuo.eventstore.core.draft",
        "            changes.append(PutCommand(command, self.age_ms))",
        "            pass",
        plan="calm",
    ),
    Bug(
        "a seq is left out",
        "huahuo.eventstore.core.draft",
        "            seq += 1\n",
        "            seq += 1 + (position == 7)\n",
        plan="calm",
    ),
    Bug(
        "the chain does not cover the body",
        "huahuo.eventstore.core.draft",
        "(position, stream, seq, type_, body, version,",
        "(position, stream, seq, type_, b'', version,",
        plan="calm",
    ),
    Bug(
        "the chain does not cover the events before in the same append",
        "huahuo.eventstore.core.draft",
        "            chain = link(\n                chain,\n",
        "            chain = link(\n                self.chain,\n",
        tests=_unit("property/test_draft_property"),
    ),
    Bug(
        "the chain is not compared",
        "huahuo.eventstore.core.chain",
        "if isinstance(event, StoredEvent) and relink(chain, event) != event.chain:",
        "if False:",
        tests=_unit("unit/eventstore/test_chain"),
    ),
    Bug(
        "a value is served without its check",
        "huahuo.eventstore.sqlite.events",
        "if relink(before, event) != event.chain and not _fits_again(connection, names, event):",
        "if False:",
        tests=_unit("property/test_rot", "unit/eventstore/test_damage"),
    ),
    Bug(
        "a salvage takes an event that the chain does not prove",
        "huahuo.eventstore.care.salvage",
        "fits = row[-1] in links",
        "fits = facts is not None",
        tests=_unit("property/test_rot"),
    ),
    Bug(
        "a salvage leaves a lost event without a tombstone",
        "huahuo.eventstore.care.salvage",
        "        self._lost.append((position, self._before))",
        "        pass",
        tests=_unit("property/test_rot"),
    ),
    Bug(
        "the counters of a salvage do not move on",
        "huahuo.eventstore.care.salvage",
        "following + LOSS_STRIDE\n",
        "following\n",
        tests=_unit("property/test_rot"),
    ),
    Bug(
        "an event that nothing proves is taken for the end of its stream",
        "huahuo.eventstore.sqlite.seq_index",
        "    if unproven:",
        "    if False:",
        tests=_unit("unit/eventstore/test_changed_columns", "unit/eventstore/test_seq_index"),
    ),
    Bug(
        "a run that was taken over may still speak",
        "huahuo.actors.effects.books",
        'return "" if claim in (0, found.claim) else TAKEN_OVER',
        'return ""',
        tests=_unit("unit/actors/test_effects"),
    ),
    Bug(
        "open effects are forgotten at a start",
        "huahuo.actors.effects.runner",
        "            self.opened += 1\n            self._offer(id_, row)\n\n",
        "            self.opened += 1\n\n",
        tests=_unit("unit/actors/test_effects"),
    ),
    Bug(
        "a timer fires for a time that it no longer has",
        "huahuo.actors.timers.timer",
        "        pending = self._known.pending(timer.name, timer.due_ms, timer.seq)",
        "        pending = self._known.pending(timer.name, timer.due_ms, timer.seq) is not None or None",
        tests=_unit("unit/actors/test_timers", "property/test_timers_property"),
    ),
    Bug(
        "pending timers are not read at a start",
        "huahuo.actors.timers.clockwork",
        " for key, value in rows if key not in busy]",
        " for key, value in rows if False]",
        tests=_unit("unit/actors/test_timers"),
    ),
    Bug(
        "an ack gives one place of the window too few",
        "huahuo.transport.protocol.flow_control",
        "        self.outstanding -= released",
        "        self.outstanding -= released - 1",
        tests=_unit("property/test_window_property"),
    ),
    Bug(
        "the window is ignored",
        "huahuo.transport.protocol.flow_control",
        "return self.size - self.outstanding",
        "return self.size",
        tests=_unit("unit/transport/test_session"),
    ),
    Bug(
        "a live run is taken although the cursor is behind it",
        "huahuo.transport.session.delivery",
        "        if flow.sent != first - 1:",
        "        if False:",
        tests=_unit("property/test_fanout_property", "property/test_delivery_walk"),
    ),
    Bug(
        "a cohort is written to although it is not right before the events",
        "huahuo.transport.server.fanout",
        "pace.sent != first - 1 or",
        "",
        tests=_unit("property/test_fanout_property", "unit/transport/test_cohorts"),
    ),
    Bug(
        "a cohort is sent more than a window of it holds",
        "huahuo.transport.server.fanout",
        "or not pace.admits(pace.sent + count)",
        "",
        tests=_unit("property/test_fanout_property", "unit/transport/test_cohorts"),
    ),
    Bug(
        "a reader at the head is not woken",
        "huahuo.transport.session.delivery",
        "            if state is _READY:\n                self._ready[stream] = sub",
        "            if state is _READY and sub.flow.sent % 3:\n                self._ready[stream] = sub",
        tests=_unit("property/test_delivery_walk", "property/test_session_pair"),
    ),
    Bug(
        "an ack of what was never sent is accepted",
        "huahuo.transport.session.delivery",
        "        return seq <= (self._past.get(stream, -1) if sub is None else sub.flow.peak)",
        "        return True",
        tests=_unit("unit/transport/test_session"),
    ),
    Bug(
        "a stored ack may go back",
        "huahuo.eventstore.memory",
        "self.acks[key] = max(ack.seq, self.acks.get(key, 0))",
        "self.acks[key] = ack.seq",
        tests=_unit("property/test_log_machine"),
    ),
    Bug(
        "every user may read every parcel",
        "huahuo.transport.server.wires",
        "                return await judge(stream, principal)",
        "                return True",
        plan="calm",
    ),
    Bug(
        "every user may read every group",
        "huahuo.transport.access.rights",
        "group is not None and group[1] in principal.groups",
        "group is not None",
        tests=_unit("unit/transport/test_session"),
    ),
    Bug(
        "a revocation is forgotten",
        "huahuo.transport.access.revocations",
        "return ended is not None and (iat_ms is None or iat_ms <= ended.at_ms)",
        "return False",
        tests=_unit("unit/transport/test_auth", "property/test_auth"),
    ),
    Bug(
        "a token never expires",
        "huahuo.transport.access.tokens",
        "        if verified.expires_at_ms <= now_ms:",
        "        if False:",
        tests=_unit("unit/transport/test_auth", "property/test_auth"),
    ),
    Bug(
        "a ticket may be used twice",
        "huahuo.transport.http.sign_in",
        "found = self._tokens.pop(ticket, None)",
        "found = self._tokens.get(ticket)",
        tests=_unit("unit/transport/test_http_parts"),
    ),
    Bug(
        "a key is found by its kid alone",
        "huahuo.transport.accounts.issuer_keys",
        "key = self._keys.get((kid, algorithm))",
        "key = next((one for (its, _), one in self._keys.items() if its == kid), None)",
        tests=_unit("unit/transport/test_issuer_keys"),
    ),
    Bug(
        "what nodes compare does not cover what they applied",
        "huahuo.eventstore.replicated.state_machine",
        "digest.update(_encode((offset, time_ms, what)))",
        "digest.update(_encode((offset, time_ms)))",
        tests=_unit("unit/eventstore/test_apply"),
    ),
    Bug(
        "an origin may end with ours",
        "huahuo.transport.access.door",
        "return page == own or",
        "return (page or '').endswith(own) or",
        tests=_unit("unit/transport/test_lobby"),
    ),
    Bug(
        "a check that is over may go on",
        "huahuo.mailcheck.mailbox.decider",
        "if check is None or check.check_id != command.check_id:",
        "if check is None:",
        tests=_unit("unit/mailcheck/test_mailbox_decider", "property/test_mail_domain_property"),
    ),
    Bug(
        "any server gets the stored password",
        "huahuo.mailcheck.roster.decider",
        "        return not places[0].listed",
        "        return places is None",
        tests=_unit("unit/mailcheck/test_roster"),
    ),
    Bug(
        "progress may go back",
        "huahuo.mailcheck.mailbox.decider",
        "        percent = max(percent, self._floor)",
        "        percent = percent + 0",
        tests=_unit("unit/mailcheck/test_mailbox_decider", "property/test_mail_domain_property"),
    ),
    Bug(
        "the client applies events that it had",
        "huahuo.transport.client.streams",
        "bodies = frame.events[known:] if known else frame.events",
        "bodies = frame.events",
        tests=_unit("property/test_client_session_resume", "unit/transport/test_client_session"),
    ),
    Bug(
        "the client applies events behind a hole",
        "huahuo.transport.client.streams",
        "        if frame.seq > self.received + 1:\n            return False\n        known",
        "        known",
        tests=_unit("property/test_client_session_resume", "unit/transport/test_client_session"),
    ),
    Bug(
        "a follower's cursor is not stored with its batch",
        "huahuo.actors.followers.follower",
        "            self._course.done(batch)\n            if self.spec.cursor is None:",
        "            self._course.done(batch)\n            if False:",
        tests=_unit("unit/actors/test_followers", "property/test_followers_property"),
    ),
    Bug(
        "each node does all of what is divided",
        "huahuo.actors.entities.rendezvous_hash",
        "len(self.nodes) == 1 or max(",
        "len(self.nodes) > 0 or max(",
        tests=_unit("unit/actors/test_work_divided", "unit/mailcheck/test_mail_divided"),
    ),
    Bug(
        "renewed tokens are announced at once",
        "huahuo.transport.session.liveness",
        "left_ms / 2)",
        "left_ms)",
        plan="tokens",
    ),
    Bug(
        "work costs its user nothing",
        "huahuo.transport.load.shares",
        "min(DEBT_S_MAX, debt.owed_s + cost_s)",
        "min(DEBT_S_MAX, debt.owed_s)",
        tests=_unit("unit/transport/test_shares"),
    ),
    Bug(
        "a message overtakes those that wait at their socket",
        "huahuo.transport.wire.web_socket",
        "if self._waiting is None and not self._unread_long:",
        "if not self._unread_long:",
        tests=_unit("property/test_fuzz"),
    ),
)

BUGS: Final = {bug.name: bug for bug in _ALL}
"""By name."""
