"""`huahuo replay check` and `bisect`: compares recorded history with the current code, or two versions.

Compared event by event:

* Decisions: the command behind each append, as the plug-in derives it, is decided again on the state before
  it, and must give the recorded events. Appends whose command cannot be derived are counted as such; of
  mail these are imports and reports of embedding applications. Refusals leave no event.
* Folds: the current code must be able to read and fold every event of every entity.
* States: the folds of two versions after each event. Without another version, the current folds are compared
  with the keyframes that the service stored.

Each returns the exit code: 0 the same, 1 different, or a start would refuse the log.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from huahuo.actors.domain.event_shapes import differences
from huahuo.actors.plugins.past import Past, together
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.plugins import chosen, loaded, standard
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.replay.history import exported
from huahuo.replay.history.history import History, event_at, pages_of
from huahuo.terminal import counted
from huahuo.timetravel.findings import compare_decisions, compare_versions
from huahuo.timetravel.fixture import keep
from huahuo.timetravel.found import Report
from huahuo.timetravel.refolded import compare_folds, compare_keyframes
from huahuo.timetravel.show import Out
from huahuo.timetravel.source import load_export
from huahuo.timetravel.unjudged import said as said_unjudged
from huahuo.timetravel.unjudged import unjudged
from huahuo.timetravel.versions import OURS, Code, code_of, judged

SAME, DIFFERENT = 0, 1
_TRACED_MAX = 200


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
            compare_decisions(ours, report)
            unreadable = await compare_folds(past, history, upto, report)
            await compare_keyframes(past, history, upto, report, unreadable)
        else:
            theirs = await judged(other, events, [], scratch / "theirs")
            compare_versions(ours, theirs, report)
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
    kinds = chosen().entities.catalog.by_kind.values()
    refused = await differences(history, kinds) if isinstance(history, SqliteView) else []
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
            "unknown": report.unknown,
            "refused": refused,
        }
        earliest = msgspec.to_builtins(report.differences[0]) if report.differences else None
        found = {"differences": report.count, "first": earliest, "by_line": groups}
        out.json(counts | found | {"saved": saved and str(saved)})
    else:
        out.line(said_counts(report))
        if passed_over:
            out.line(said_unjudged(passed_over, application=loaded() is not None))
        if report.unknown:
            out.line(said_unknown(report.unknown))
        for line in refused:
            out.line(f"the service would not start: {line}")
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
    return DIFFERENT if report.count or report.unknown or refused else SAME


def said_counts(report: Report) -> str:
    """What was compared, in one line. Only what was done is spoken of."""
    parts = [f"{report.events} events"]
    if report.folded:
        parts.append(f"{report.folded} of entities folded again")
    if report.decided or report.underivable:
        derived = f"({report.underivable} could not be derived)"
        parts.append(f"{report.decided} commands decided again {derived}")
    return ", ".join([*parts, counted(report.count, "difference")])


def said_unknown(types: Mapping[str, int]) -> str:
    """That for people."""
    events = ", ".join(f"{counted(count, 'event')} of {name}" for name, count in sorted(types.items()))
    return (
        f"carried, and without effect: {events}: no evolve handles such a type: keep a class with the old"
        " type= and its evolve, or name the type in retired=[…] of its Entity"
    )


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
