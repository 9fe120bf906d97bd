"""The queue of effects that wait to run: bounded, fair between users and what they work on. Pure.

`Spec` is one class of effects as the runner knows it. Effects of one group (those of one class, with the
same `per`) share `at_once` places. A user's effects in a group whose places are taken stand aside until one
is free, so looking for the next one is quick. `Part` says which effects this node runs, where nodes divide
them. A run that began here stays here until it ends, even when its effect is another node's by now. A run
that was cut short may have claimed its effect without hearing of it: other nodes leave such an effect to
this node while this node does a part. Where runs claim nothing, no other node would know that, so only a run
that goes on here counts.
"""

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from huahuo.actors.effects.facts import OpenEffect
from huahuo.actors.entities.rendezvous_hash import WHOLE, Share
from huahuo.actors.plugins.calls import UserId


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What may run and wait in memory at a time."""

    at_once: int = 512
    at_once_per_user: int | None = None
    waiting_max: int = 20_000
    waiting_per_user_max: int = 10_000
    sweep_s: float = 30.0
    """How often the table is searched for effects that no process works on."""


BACKOFF_S_MAX = 3600.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A class of effects. `read` makes a job of its stored arguments; `key` the entity's id of its text."""

    kind: str
    name: str
    handler: Callable[[Any, Any], Awaitable[None]]
    read: Callable[[bytes], Any]
    key: Callable[[str], Any]
    retries: int = 5
    backoff_s: float = 1.0
    at_once: int | None = None
    per: Callable[[Any], object] | None = None
    spread: bool = False
    """Whether nodes divide it by entity in spite of `at_once`: each node then counts its own runs."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The final failure of an effect. `job` is None if its arguments cannot be read any more."""

    error_type: str
    attempts: int
    job: Any


def backoff_s(spec: Spec, failures: int, chance: float) -> float:
    """How long to wait after this many failures. `chance` in [0, 1) spreads it by half in both directions."""
    grown = spec.backoff_s * 2.0 ** min(failures - 1, 30)
    return float(min(grown, BACKOFF_S_MAX) * (0.5 + chance))


type Group = tuple[str, str, object]


class Entry:
    """An open effect in memory. `job` is kept if it is small."""

    __slots__ = (
        "before", "cancelled", "group", "id", "job", "key", "run", "settling", "since_ms", "spec", "trace",
        "user",
    )  # fmt: skip

    def __init__(self, id_: int, spec: Spec, row: OpenEffect, group: Group, job: bytes | None) -> None:
        self.id = id_
        self.spec = spec
        self.key = row.key
        self.user = row.user
        self.since_ms = row.since_ms
        self.trace = row.trace
        self.run = ""
        """The place in the trace of its present run, and the id of what that says."""
        self.before = ""
        """The place of the run before that one, maybe in an earlier process."""
        self.group = group
        self.job = job
        self.cancelled = False
        self.settling = False
        """Its run has come to an end, which is being recorded."""

    @property
    def entity(self) -> str:
        """The entity's own stream."""
        return f"{self.spec.kind}/{self.key}"


def group_of(spec: Spec, job: bytes) -> Group:
    """The group of an effect with these stored arguments."""
    if spec.per is None:
        return spec.kind, spec.name, None
    try:
        group = spec.kind, spec.name, spec.per(spec.read(job))
        hash(group)
    except Exception:  # noqa: BLE001  user code; the run itself says what is wrong with the job
        return spec.kind, spec.name, None
    return group


type _Queue = OrderedDict[int, Entry]
type _Users[G: Any] = OrderedDict[UserId | None, G]


class Line:
    """Whose turn it is: effects that wait to run, bounded, fair between users and what they work on."""

    def __init__(self, waiting_max: int, waiting_per_user_max: int) -> None:
        self.waiting_max = waiting_max
        self.per_user_max = waiting_per_user_max
        self.waiting: dict[int, Entry] = {}
        self.by_user: Counter[UserId | None] = Counter()
        """How many wait, of each user that has any."""
        self._ready: _Users[OrderedDict[Group, _Queue]] = OrderedDict()
        self._aside: dict[Group, _Users[_Queue]] = {}
        self._taken: Counter[Group] = Counter()

    def room(self, user: UserId | None) -> bool:
        """Whether one more of this user may wait."""
        return len(self.waiting) < self.waiting_max and self.by_user[user] < self.per_user_max

    def add(self, entry: Entry) -> bool:
        """Put it at the end of its user's effects in its group. False: there is no room."""
        if not self.room(entry.user):
            return False
        self.waiting[entry.id] = entry
        self.by_user[entry.user] += 1
        groups = self._ready.get(entry.user, OrderedDict())
        if entry.group in self._aside and entry.group not in groups:
            self._aside[entry.group].setdefault(entry.user, OrderedDict())[entry.id] = entry
        else:
            groups = self._ready.setdefault(entry.user, groups)
            groups.setdefault(entry.group, OrderedDict())[entry.id] = entry
        return True

    def remove(self, id_: int) -> Entry | None:
        """Take one out that will not run, None if it does not wait."""
        entry = self.waiting.get(id_)
        if entry is None:
            return None
        self._leave(entry)
        groups = self._ready.get(entry.user)
        if groups is not None and id_ in (queue := groups.get(entry.group, OrderedDict())):
            del queue[id_]
            if not queue:
                del groups[entry.group]
            if not groups:
                del self._ready[entry.user]
            if not queue:
                self._let_one_in(entry.group)  # it may have been let in for a place that it leaves free
            return entry
        users = self._aside[entry.group]
        del users[entry.user][id_]
        if not users[entry.user]:
            del users[entry.user]
        if not users:
            del self._aside[entry.group]
        return entry

    def next(self, wait_s: Callable[[UserId | None], float]) -> Entry | float | None:
        """The next one to run, its place taken. Else the seconds until a user may go on, or None.

        `wait_s`: how long this user's next effect has to wait because others have to be served, too.
        """
        soonest_s: float | None = None
        found: Entry | None = None
        without: list[UserId | None] = []
        for user, groups in self._ready.items():
            if (owed_s := wait_s(user)) > 0:
                soonest_s = owed_s if soonest_s is None else min(soonest_s, owed_s)
                continue
            found = self._first(user, groups)
            if not groups:
                without.append(user)
            if found is not None:
                break
        for user in without:
            del self._ready[user]
        if found is None:
            return soonest_s
        if found.user in self._ready:
            self._ready.move_to_end(found.user)
        return found

    def ended(self, entry: Entry) -> None:
        """Its place is free."""
        self._taken[entry.group] -= 1
        if not self._taken[entry.group]:
            del self._taken[entry.group]
        self._let_one_in(entry.group)

    def _let_one_in(self, group: Group) -> None:
        """A place is free: the user that waits longest in this group gets it."""
        users = self._aside.get(group)
        if users is None:
            return
        user, queue = users.popitem(last=False)
        if not users:
            del self._aside[group]
        groups = self._ready.setdefault(user, OrderedDict())
        queue.update(groups.get(group, {}))
        groups[group] = queue

    def _first(self, user: UserId | None, groups: "OrderedDict[Group, _Queue]") -> Entry | None:
        while groups:
            group, queue = next(iter(groups.items()))
            entry = next(iter(queue.values()))
            at_once = entry.spec.at_once
            if at_once is not None and self._taken[group] >= at_once:
                del groups[group]
                self._aside.setdefault(group, OrderedDict()).setdefault(user, OrderedDict()).update(queue)
                continue
            del queue[entry.id]
            if queue:
                groups.move_to_end(group)
            else:
                del groups[group]
            self._leave(entry)
            self._taken[group] += 1
            return entry
        return None

    def _leave(self, entry: Entry) -> None:
        del self.waiting[entry.id]
        self.by_user[entry.user] -= 1
        if not self.by_user[entry.user]:
            del self.by_user[entry.user]


class Known(dict[int, Entry]):
    """Entries by the numbers of their effects. Changed by `keep` and `drop` only."""

    def __init__(self) -> None:
        super().__init__()
        self._of_entity: dict[str, int | set[int]] = {}
        """The effects of an entity. Most have one, for which a set would take more than the rest of it."""

    def keep(self, entry: Entry) -> None:
        """Add an entry."""
        self[entry.id] = entry
        others = self._of_entity.setdefault(entry.entity, entry.id)
        if isinstance(others, set):
            others.add(entry.id)
        elif others != entry.id:
            self._of_entity[entry.entity] = {others, entry.id}

    def drop(self, entry: Entry) -> None:
        """Remove an entry. One that is not there changes nothing."""
        if self.pop(entry.id, None) is None:
            return
        others = self._of_entity[entry.entity]
        if isinstance(others, set):
            others.discard(entry.id)
            if others:
                return
        del self._of_entity[entry.entity]

    def of(self, entity: str, name: str | None) -> Iterable[int]:
        """The numbers of an entity's effects: those of this name, or all."""
        found = self._of_entity.get(entity, set())
        ids = (found,) if isinstance(found, int) else tuple(found)
        return [id_ for id_ in ids if name in (None, self[id_].spec.name)]


class Part:
    """Which effects this node runs, where nodes divide them."""

    def __init__(self, *, claims: bool = True) -> None:
        """`claims`: whether runs claim their effects."""
        self._claims = claims
        self.share: Share = WHOLE
        self.begun: set[int] = set()
        """Effects that were claimed here and have not ended, where nodes divide them."""
        self._cut: set[int] = set()
        """Those of them whose last run was cut short by the service."""

    @property
    def is_whole(self) -> bool:
        """Whether no other process runs any."""
        return self.share is WHOLE

    def has(self, id_: int, spec: Spec, group: Group, entity: str) -> bool:
        """Whether this node runs the effect.

        A class with a bound of runs at a time, or what has one value of its `per`, is one part, unless it is
        `spread`.
        """
        if self.share is WHOLE or id_ in self.begun:
            return True
        if spec.at_once is None or spec.spread:
            return self.share.has(entity)
        per = f" {group[2]!r}" if isinstance(group[2], str | int) else ""
        return self.share.has(f"{spec.kind} {spec.name}{per}")

    def keeps(self, entry: Entry) -> bool:
        """As `has`, of an effect in memory."""
        return self.has(entry.id, entry.spec, entry.group, entry.entity)

    def begins(self, id_: int) -> None:
        """A run of it begins here."""
        if self._claims and self.share is not WHOLE:
            self.begun.add(id_)
            self._cut.discard(id_)

    def cuts(self, id_: int) -> None:
        """A run of it was cut short by the service."""
        if id_ in self.begun:
            self._cut.add(id_)

    def leaves(self, ids: Iterable[int]) -> None:
        """These have ended, or another node runs them."""
        self.begun.difference_update(ids)
        self._cut.difference_update(ids)

    def rests(self) -> None:
        """The node does no part for now. What waits for its next attempt is nobody's."""
        self.begun &= self._cut
