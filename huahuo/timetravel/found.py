"""What a check found: differences, and counts of what was compared."""

from typing import Any

import msgspec

from huahuo.replay.history.delta import differences, written

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
