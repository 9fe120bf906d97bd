"""What a check found: differences between history and code, or between two versions. Pure.

Decisions are compared event by event; the current folds are compared with what the log and the service's
keyframes hold.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from huahuo.actors.actor.messages import where
from huahuo.actors.plugins.past import Past
from huahuo.eventstore.model import Keyframe
from huahuo.replay.history.conditions import differences, written
from huahuo.replay.history.history import History, events_of, seq_at
from huahuo.replay.history.subject import Fold, Subject

_KEPT_MAX = 10_000
"""Differences kept in detail. Further ones are only counted."""


class Difference(msgspec.Struct, frozen=True):
    """One place where history and code, or two versions, disagree.

    `kind`: `decision`, `state`, `keyframe` or `error`. `line`: the line of code that caused it.
    """

    kind: str
    position: int
    entity: str
    line: str
    what: list[str]


class Report(msgspec.Struct):
    """The result of a check: differences in the order of the log, and counts of what was compared."""

    events: int = 0
    decided: int = 0
    underivable: int = 0
    folded: int = 0
    count: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)
    unknown: dict[str, int] = msgspec.field(default_factory=dict)
    """Events of entities that change nothing, as no handler knows their types: how many of each type."""

    def add(self, difference: Difference) -> None:
        """Count a difference, and keep it if there is room."""
        self.count += 1
        if len(self.differences) < _KEPT_MAX:
            self.differences.append(difference)

    def by_line(self) -> dict[str, list[Difference]]:
        """The differences by kind and line of code, most frequent first."""
        groups: dict[str, list[Difference]] = {}
        for difference in self.differences:
            groups.setdefault(f"{difference.kind} {difference.line}".strip(), []).append(difference)
        return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def difference_of(kind: str, finding: dict[str, Any], what: list[str]) -> Difference:
    """A finding of `versions.judged` as a difference."""
    return Difference(
        kind, finding.get("position", 0), finding.get("entity", ""), finding.get("line", ""), what
    )


def changes(before: Any, after: Any) -> list[str]:
    """Two lists of events as lines of text."""
    if before is None or after is None:
        return [f"today's: {as_json(before)}", f"the other: {as_json(after)}"]
    return [
        f"{written(change.path)}: {as_json(change.before)} → {as_json(change.after)}"
        for change in differences(before, after)
    ]


def as_json(value: Any) -> str:
    """For a line of text."""
    try:
        return msgspec.json.encode(value).decode()
    except TypeError:  # missing on one side
        return "nothing"


def compare_decisions(said: Iterator[dict[str, Any]], report: Report) -> None:
    """Add the differences between recorded and repeated decisions."""
    for finding in said:
        if ("decided" in finding and "position" not in finding) or not finding:
            _tally(finding, report)
        elif "error" in finding:
            report.add(difference_of("error", finding, [f"raised {finding['error']}"]))
        elif "recorded" in finding:
            report.add(difference_of("decision", finding, changes(finding["recorded"], finding["decided"])))


def compare_versions(
    ours: Iterator[dict[str, Any]], theirs: Iterator[dict[str, Any]], report: Report
) -> None:
    """Compare the findings of two versions. Except for decisions, both have the same positions in order.

    Once two states differ they stay different. So only an event counts after which a field begins to
    differ, or differs in another way.
    """
    known: dict[tuple[str, str], dict[str, str]] = {}
    ours_decided: dict[tuple[int, str], Any] = {}
    theirs_decided: dict[tuple[int, str], dict[str, Any]] = {}
    for one, other in zip(
        _states(ours, ours_decided, None), _states(theirs, theirs_decided, report), strict=True
    ):
        if "error" in one or "error" in other:
            texts = [
                f"{name} raised {side['error']}"
                for name, side in (("today's", one), ("the other", other))
                if "error" in side
            ]
            if ("error" in one) != ("error" in other):
                report.add(difference_of("error", other if "error" in other else one, texts))
            continue
        key = one["entity"], one["stream"]
        texts_by_path: dict[str, str] = {}
        if one["shown"] != other["shown"]:
            for change in differences(one["shown"], other["shown"]):
                path = written(change.path)
                texts_by_path[path] = (
                    f"{path}: today's {as_json(change.before)}, the other {as_json(change.after)}"
                )
        before = known.get(key, {})
        known[key] = texts_by_path
        if new := [text for path, text in texts_by_path.items() if before.get(path) != text]:
            report.add(difference_of("state", other, new))
    for place in sorted(ours_decided.keys() | theirs_decided.keys()):
        mine, their = ours_decided.get(place), theirs_decided.get(place)
        if mine is None or their is None or _outcome(mine) != _outcome(their):
            finding = their or mine or {}
            today = mine.get("decided") if mine else finding.get("recorded")
            that = their.get("decided") if their else finding.get("recorded")
            report.add(difference_of("decision", finding, changes(today, that)))


def _states(
    said: Iterator[dict[str, Any]], decided: dict[tuple[int, str], Any], report: Report | None
) -> Iterator[dict[str, Any]]:
    for finding in said:
        if "first" in finding:
            decided[finding["first"], finding["entity"]] = finding
        elif "position" in finding:
            yield finding
        elif report is not None:
            _tally(finding, report)


def _outcome(finding: dict[str, Any]) -> Any:
    return finding.get("decided"), finding.get("error")


def _tally(finding: dict[str, Any], report: Report) -> None:
    report.decided += finding.get("decided", 0)
    report.underivable += finding.get("underivable", 0)


def _all_types(_event_type: str) -> bool:
    return True


async def compare_folds(past: Past, history: History, upto: int, report: Report) -> None:
    """Fold every entity, and compare the keyframes that the service stored with that.

    Of an entity that the current code cannot read, the first such event is reported, once.
    """
    known = {difference.position for difference in report.differences}
    for stream in [name for kind in past.kinds for name in history.streams(f"{kind}/")]:
        subject = past.own_subject(stream)
        if subject is None:
            continue
        fold = subject.parts[0].fold
        state, position, knows = fold.initial(stream), 0, getattr(fold, "knows", _all_types)
        last = await seq_at(history, stream, upto)
        frames = await _frames_up_to(history, stream, fold, last)

        async for event in events_of(history, stream, 0, last):
            while frames and frames[-1].seq < event.seq:
                _compare(subject, frames.pop(), position, state, report)
            try:
                state = fold.evolve(state, event)
            except Exception as error:  # noqa: BLE001  an application's code
                if event.position not in known:
                    line = where(error).partition(" < ")[0]
                    what = f"{event.type} (version {event.version}) raised {type(error).__name__}"
                    report.add(Difference("error", event.position, stream, line, [f"{what}: {error}"]))
                break
            position = event.position
            if not knows(event.type):
                report.unknown[event.type] = report.unknown.get(event.type, 0) + 1
            report.folded += 1
        else:
            while frames:
                _compare(subject, frames.pop(), position, state, report)


def _compare(subject: Subject, frame: Keyframe, position: int, state: Any, report: Report) -> None:
    stored = subject.show([subject.parts[0].fold.load(frame.stream, frame.state)])
    if found := differences(stored, subject.show([state])):
        texts = [
            f"{written(c.path)}: kept {as_json(c.before)}, folded {as_json(c.after)}" for c in found[:10]
        ]
        report.add(Difference("keyframe", position, frame.stream, "", texts))


async def _frames_up_to(history: History, stream: str, fold: Fold[Any], seq: int) -> list[Keyframe]:
    """The newest first."""
    frames: list[Keyframe] = []
    while frame := await history.keyframe(stream, fold.name, fold.fingerprint, at=seq):
        frames.append(frame)
        seq = frame.seq - 1
    return frames
