"""`huahuo replay check` and `bisect`: compares recorded history with the current code, or two versions.

Compared event by event:

* Decisions: the command behind each append, as the plug-in derives it, is decided again on the state before
  it, and must give the recorded events. Appends whose command cannot be derived are counted as such; of
  mail these are imports and reports of embedding applications. Refusals leave no event.
* Folds: the current code must be able to read and fold every event of every entity.
* States: the folds of two versions after each event. Without another version, the current folds are compared
  with the keyframes that the service stored.

Each returns the exit code: 0 the same, 1 different.
"""

import asyncio
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from huahuo.actors.actor.errors import where
from huahuo.actors.plugins.past import Past, together
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.plugins import loaded, standard
from huahuo.eventstore.model import LOG_STREAM
from huahuo.replay.history import exported
from huahuo.replay.history.delta import differences, written
from huahuo.replay.history.history import History, event_at, pages_of, seq_at
from huahuo.replay.history.timeline import Timeline
from huahuo.terminal import counted
from huahuo.timetravel.fixture import keep
from huahuo.timetravel.show import Out
from huahuo.timetravel.source import load_export
from huahuo.timetravel.unjudged import said as said_unjudged
from huahuo.timetravel.unjudged import unjudged
from huahuo.timetravel.versions import OURS, Code, code_of, judged

SAME, DIFFERENT = 0, 1
_TRACED_MAX = 200
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


async def examine(
    past: Past, history: History, upto: int, code: Path | None, ref: str | None, *, first_only: bool = False
) -> Report:
    """Compare the version at `code` or git `ref` with the current one, or without these, the log with it.

    Raises:
        HuahuoError: a version cannot be found or run.
    """
    report = Report()
    async with AsyncExitStack() as stack:
        today, other = Code(OURS, past.guides), None
        if code is not None or ref is not None:
            versions = code_of(code, ref, past.guides, loaded())
            today, other = await stack.enter_async_context(versions)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="huahuo-check-")))
        events = scratch / "events"
        report.events = await _write(history, upto, events)
        ours = await judged(today, events, [], scratch / "ours")
        if other is None:
            _decisions(ours, report)
            unreadable = await _folds(past, history, upto, report)
            await _keyframes(past, history, upto, report, unreadable)
        else:
            theirs = await judged(other, events, [], scratch / "theirs")
            _versions(ours, theirs, report)
        report.differences.sort(key=lambda difference: difference.position)
        if first_only:
            del report.differences[1:]
        traced = [d.position for d in report.differences if d.kind == "state"][:_TRACED_MAX]
        if traced and other is not None:
            await _name_lines(report, traced, [other, today], events, scratch)
    return report


async def check(
    history: History, upto: int, code: Path | None, ref: str | None, save: Path | None, out: Out
) -> int:
    """Compare everything, and show the differences grouped by the line of code that caused them.

    Streams that could not be compared are counted.
    """
    report = await examine(out.past, history, upto, code, ref)
    passed_over = await unjudged(out.past, history, upto)
    saved = None
    if save is not None and report.differences:
        first = report.differences[0]
        said = f"{first.kind} {first.line} at @{first.position} of its log"
        saved = await keep(out.past, history, first.entity, first.position, said, save)
    if out.as_json:
        groups = {
            name: {"count": len(held), "first": msgspec.to_builtins(held[0])}
            for name, held in report.by_line().items()
        }
        counts = {
            "events": report.events,
            "decided": report.decided,
            "underivable": report.underivable,
            "folded": report.folded,
            "unjudged": passed_over,
        }
        earliest = msgspec.to_builtins(report.differences[0]) if report.differences else None
        found = {"differences": report.count, "first": earliest, "by_line": groups}
        out.json(counts | found | {"saved": saved and str(saved)})
    else:
        out.line(_counts(report))
        if passed_over:
            out.line(said_unjudged(passed_over, application=loaded() is not None))
        if len(report.by_line()) > 1:
            first = report.differences[0]
            out.line(f"the first event that differs: @{first.position}, {first.entity}")
        for name, held in report.by_line().items():
            first = held[0]
            out.line(f"{len(held)} × {name}", "bold")
            out.line(f"    first at @{first.position}, {first.entity}", "dim")
            for text in first.what:
                out.line(f"    {text}")
        if saved is not None:
            out.line(f"kept as {saved}")
    return DIFFERENT if report.count else SAME


def _counts(report: Report) -> str:
    parts = [f"{report.events} events", f"{report.folded} of entities folded again"]
    if report.decided or report.underivable:
        derived = f"({report.underivable} could not be derived)"
        parts.append(f"{report.decided} commands decided again {derived}")
    return ", ".join([*parts, counted(report.count, "difference")])


async def bisect(history: History, upto: int, code: Path | None, ref: str | None, out: Out) -> int:
    """The first event at which two versions disagree."""
    report = await examine(out.past, history, upto, code, ref, first_only=True)
    if not report.differences:
        if not out.as_json:
            out.line(f"they agree on all {report.events} events")
        return SAME
    first = report.differences[0]
    event = await event_at(history, first.position)
    if out.as_json:
        shown = None if event is None else out.plain(event)
        out.json({"event": shown, "difference": msgspec.to_builtins(first)})
    else:
        if event is not None:
            out.event(event)
        out.line(f"{first.kind} {first.line}", "bold")
        for text in first.what:
            out.line(f"    {text}")
    return DIFFERENT


def disagreements(export: Path, plugins: Sequence[Plugin] | None = None) -> list[str]:
    """Differences of the current code from a kept history, empty if it decides and folds as recorded.

    `plugins`: whose history it is; None: that of mail.
    """
    past = together([plugin.past for plugin in (standard() if plugins is None else plugins)])
    history = load_export(export)
    report = asyncio.run(examine(past, history, history.position, None, None))
    return [f"{d.kind} at @{d.position}: {'; '.join(d.what)}" for d in report.differences]


async def _write(history: History, upto: int, target: Path) -> int:
    count = 0
    with target.open("wb") as file:
        async for page in pages_of(history, LOG_STREAM, 0, upto):
            file.writelines(exported.line(event) + b"\n" for event in page)
            count += len(page)
    return count


def _decisions(said: Iterator[dict[str, Any]], report: Report) -> None:
    """Add the differences between recorded and repeated decisions."""
    for finding in said:
        if ("decided" in finding and "position" not in finding) or not finding:
            _tally(finding, report)
        elif "error" in finding:
            report.add(_difference("error", finding, [f"raised {finding['error']}"]))
        elif "recorded" in finding:
            report.add(_difference("decision", finding, _changes(finding["recorded"], finding["decided"])))


def _versions(ours: Iterator[dict[str, Any]], theirs: Iterator[dict[str, Any]], report: Report) -> None:
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
                report.add(_difference("error", other if "error" in other else one, texts))
            continue
        key = one["entity"], one["stream"]
        changes = (
            {}
            if one["shown"] == other["shown"]
            else {
                written(
                    change.path
                ): f"{written(change.path)}: today's {_json(change.before)}, the other {_json(change.after)}"
                for change in differences(one["shown"], other["shown"])
            }
        )
        before = known.get(key, {})
        known[key] = changes
        if new := [text for path, text in changes.items() if before.get(path) != text]:
            report.add(_difference("state", other, new))
    for place in sorted(ours_decided.keys() | theirs_decided.keys()):
        mine, their = ours_decided.get(place), theirs_decided.get(place)
        if mine is None or their is None or _outcome(mine) != _outcome(their):
            finding = their or mine or {}
            today = mine.get("decided") if mine else finding.get("recorded")
            that = their.get("decided") if their else finding.get("recorded")
            report.add(_difference("decision", finding, _changes(today, that)))


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


async def _folds(past: Past, history: History, upto: int, report: Report) -> set[str]:
    """Fold every entity. Returns the streams that the current code cannot read, each reported once."""
    known = {difference.position for difference in report.differences}
    unreadable: set[str] = set()
    for stream in [name for kind in past.kinds for name in history.streams(f"{kind}/")]:
        subject = past.own_subject(stream)
        if subject is None:
            continue
        fold = subject.parts[0].fold
        state = fold.initial(stream)
        async for page in pages_of(history, stream, 0, await seq_at(history, stream, upto)):
            for event in page:
                try:
                    state = fold.evolve(state, event)
                except Exception as error:  # noqa: BLE001  an application's code
                    unreadable.add(stream)
                    if event.position not in known:
                        line = where(error).partition(" < ")[0]
                        what = f"{event.type} (version {event.version}) raised {type(error).__name__}"
                        report.add(Difference("error", event.position, stream, line, [f"{what}: {error}"]))
                    break
                report.folded += 1
            if stream in unreadable:
                break
    return unreadable


async def _keyframes(
    past: Past, history: History, upto: int, report: Report, unreadable: Collection[str]
) -> None:
    """Compare the keyframes that the service stored with the current folds of the events."""
    for stream in [name for kind in past.kinds for name in history.streams(f"{kind}/")]:
        subject = past.own_subject(stream)
        if subject is None or stream in unreadable:
            continue
        part = subject.parts[0]
        at = history.head(stream).seq
        seqs: list[int] = []
        while frame := await history.keyframe(stream, part.fold.name, part.fold.fingerprint, at=at):
            seqs.append(frame.seq)
            at = frame.seq - 1
        timeline = Timeline(history, subject)
        for seq in reversed(seqs):
            frame = await history.keyframe(stream, part.fold.name, part.fold.fingerprint, at=seq)
            position = await timeline.place_of(seq)
            if frame is None or position > upto:
                continue
            async for _ in timeline.walk(position):
                pass
            stored = subject.show([part.fold.load(stream, frame.state)])
            changes = differences(stored, timeline.show())
            if changes:
                texts = [
                    f"{written(c.path)}: kept {_json(c.before)}, folded {_json(c.after)}"
                    for c in changes[:10]
                ]
                report.add(Difference("keyframe", position, stream, "", texts))


async def _name_lines(
    report: Report, traced: list[int], versions: list[Code], events: Path, scratch: Path
) -> None:
    """For each difference of states, name the line of the other version (else of ours) that caused it."""
    lines: dict[int, str] = {}
    for code in versions:
        for finding in await judged(code, events, traced, scratch / "traced"):
            if finding.get("line"):
                lines.setdefault(finding["position"], finding["line"])
    report.differences = [
        msgspec.structs.replace(d, line=lines.get(d.position, "")) if d.kind == "state" else d
        for d in report.differences
    ]


def _difference(kind: str, finding: dict[str, Any], what: list[str]) -> Difference:
    return Difference(
        kind, finding.get("position", 0), finding.get("entity", ""), finding.get("line", ""), what
    )


def _changes(before: Any, after: Any) -> list[str]:
    """Two lists of events as lines of text."""
    if before is None or after is None:
        return [f"today's: {_json(before)}", f"the other: {_json(after)}"]
    return [
        f"{written(change.path)}: {_json(change.before)} → {_json(change.after)}"
        for change in differences(before, after)
    ]


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except TypeError:  # missing on one side
        return "nothing"
