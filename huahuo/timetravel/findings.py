"""What the code of one version or two said of each event (`versions.judged`), as differences. Pure."""

from collections.abc import Iterator
from typing import Any

from huahuo.replay.history.delta import differences, written
from huahuo.timetravel.found import Report, as_json, changes, difference_of


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
