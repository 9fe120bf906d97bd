"""What a simulated run proved: its failures, the sum of many runs, and the smallest plan that still fails."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from huahuo.eventstore.verdict import Verdict
from tests.support.checkers.all import failures, verdicts
from tests.support.checkers.work_side import proved_something
from tests.support.simulator.marks import SOMETIMES
from tests.support.simulator.plan import Plan, smaller
from tests.support.simulator.world import Told, play

MAY_BE_UNKNOWN = {
    "I9",
    "I10",
    "I11",
    "I12",
    "I13",
    "I17",
    "I20",
    "I21",
    "I22",
    "I23",
    "I24",
    "I25",
    "I26",
    "I27",
    "run",
}
"""One run need not show these. All runs together must (`Sum.missing`)."""
WANTED = ("ack", "crash", "delivery", "effect", "reconnect", "timer")
GOALS = {"client-hours": 1_000, "crash": 5_000, "reconnect": 100_000}
"""What the runs of a gate must come to together."""
TRIES_MAX = 60
RENEWALS_MAX = 1000
"""Of tokens, an hour of a client: more is a loop without a pause."""


class Result(msgspec.Struct, frozen=True):
    """One run, small enough to be handed from one process to another."""

    seed: int
    plan: str
    kind: str
    client_hours: float
    trace: str
    steps: int
    failed: tuple[str, ...]
    shown: tuple[str, ...]
    """The invariants of which something was judged."""
    counts: dict[str, int]
    struck: dict[str, int]
    marks: dict[str, int]
    events: int


def result(plan: Plan, told: Told) -> Result:
    """Judge what a run left."""
    said = [*verdicts(told.history), *told.log_verdicts] if not told.fault else []
    bad = [f"{one.invariant}: {one.text}" for one in failures(said, MAY_BE_UNKNOWN)]
    if told.fault:
        bad.insert(0, told.fault)
    if told.history.counts["renewal"] > RENEWALS_MAX * plan.client_hours:
        bad.append(f"I25: tokens were renewed {told.history.counts['renewal']} times")
    shown = tuple(sorted({one.invariant for one in said if one.holds}))
    history = told.history
    return Result(
        plan.seed, msgspec.json.encode(plan).decode(), plan.kind, plan.client_hours, told.trace, told.steps,
        tuple(bad), shown, dict(history.counts), dict(told.struck), dict(told.marks.hit), len(history.log),
    )  # fmt: skip


def run(plan: Plan, until_s: float = math.inf) -> Result:
    """Play and judge. Raises as `play`."""
    return result(plan, play(plan, until_s))


@dataclass
class Sum:
    """Many runs together."""

    runs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    cut_short: int = 0
    """Seeds that were not over, or had not begun, when the time was up: nothing of them is counted."""
    client_hours: float = 0.0
    events: int = 0
    steps: int = 0
    failed: list[Result] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)

    def add(self, one: Result) -> None:
        """One run more."""
        self.runs += 1
        self.kinds[one.kind] += 1
        self.client_hours += one.client_hours
        self.events += one.events
        self.steps += one.steps
        self.counts.update(one.counts)
        self.struck.update(one.struck)
        self.marks.update(one.marks)
        self.shown.update(one.shown)
        if one.failed:
            self.failed.append(one)

    def missing(self, *, marks: bool = True) -> list[str]:
        """What these runs did not show: then they proved too little. `marks`: also the rare places."""
        found = [f"never hit: {mark}" for mark in SOMETIMES if marks and not self.marks[mark]]
        found += [
            f"never judged: {name}"
            for name in sorted(MAY_BE_UNKNOWN - {"run", "I25"} - set(self.shown))
            if marks
        ]
        found += [f"none of: {name}" for name in WANTED if not self.counts[name]]
        return found

    def sums(self) -> str:
        """How far it is, in a line."""
        return (
            f"{self.runs} runs, {self.client_hours:,.0f} client-hours, {self.counts['crash']:,} crashes, "
            f"{self.counts['reconnect']:,} reconnects, {len(self.failed)} failed"
        )

    def goals(self) -> list[str]:
        """Each goal, and whether these runs reach it."""
        return [
            f"{'reached' if reached >= least else 'MISSED'}: {name} {reached:,.0f} of {least:,}"
            for name, reached, least in self._goals()
        ]

    def short_of_goals(self) -> list[str]:
        """Of which goals these runs fall short."""
        return [
            f"{name}: {reached:,.0f} of {least:,}"
            for name, reached, least in self._goals()
            if reached < least
        ]

    def _goals(self) -> list[tuple[str, float, int]]:
        sums: dict[str, float] = {**self.counts, "client-hours": self.client_hours}
        return [(name, sums.get(name, 0), least) for name, least in GOALS.items()]

    def table(self, seeds: str, seconds: float) -> str:
        """As `make proof` prints it."""
        counts = self.counts
        lines = [
            ("seeds", f"{seeds} ({self.runs} runs; {self.cut_short} cut short, not counted)"),
            ("kinds of runs", ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))),
            ("client-hours", f"{self.client_hours:,.0f} in {seconds:.0f} s"),
            ("steps of the loop", f"{self.steps:,}"),
            ("events in the logs", f"{self.events:,}"),
            ("deliveries", f"{counts['delivery']:,}"),
            ("acknowledged commands", f"{counts['ack']:,}"),
            ("crashes", f"{counts['crash']:,}"),
            ("reconnects", f"{counts['reconnect']:,}"),
            ("effects, timers", f"{counts['effect']:,}, {counts['timer']:,}"),
            ("faults", ", ".join(f"{name} {count:,}" for name, count in sorted(self.struck.items()))),
            ("predicates", ", ".join(f"{name} {count}" for name, count in sorted(self.shown.items()))),
            ("marks", f"{len(self.marks)} of {len(SOMETIMES)}"),
            *(("goal", text) for text in self.goals()),
            ("not reached", "; ".join([*self.missing(), *self.short_of_goals()]) or "nothing"),
            ("violations", f"{len(self.failed)}"),
        ]
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def shrunk(plan: Plan, kinds: Sequence[str], again: Callable[[Plan], Result] = run) -> Plan:
    """The smallest plan found that still breaks one of `kinds` (the invariants before the colon)."""
    wanted, tries = set(kinds), 0
    best, moved = plan, True
    while moved and tries < TRIES_MAX:
        moved = False
        for candidate in smaller(best):
            tries += 1
            if wanted & set(_kinds(again(candidate).failed)):
                best, moved = candidate, True
                break
            if tries >= TRIES_MAX:
                break
    return best


def _kinds(failed: Iterable[str]) -> list[str]:
    return [text.partition(":")[0] for text in failed]


def kinds_of(one: Result) -> list[str]:
    """Which invariants a run broke."""
    return _kinds(one.failed)


def proved(told: Told) -> Verdict:
    """Whether enough happened in one run to prove anything."""
    return proved_something(told.history, {"ack": 1, "crash": 1, "reconnect": 1})
