"""`huahuo replay check` and `bisect`: compares recorded history with the current code, or two versions.

Decisions: the command behind each append, as the plug-in derives it, is decided again on the state before
it, and must give the recorded events. Appends whose command cannot be derived are counted as such; of
mail these are imports and reports of embedding applications. Streams that no entity known here folds are
named.

Another version runs in a process of its own with its own path (`judge.py`), so that one interpreter never
loads two versions. That process can neither connect nor write.

A failing history is kept as a test: the events of one entity up to the difference, renumbered. They
contain data of real people, such as addresses and subjects: review them before you commit them.
"""

import asyncio
import io
import os
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

import huahuo
from huahuo.actors.domain.event_shapes import differences
from huahuo.actors.plugins.past import Past, together
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.application import Loaded, chosen, loaded, standard
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.replay.history import detached_history
from huahuo.replay.history.detached_history import renumbered
from huahuo.replay.history.history import History, event_at, merged, pages_of
from huahuo.terminal import counted
from huahuo.timetravel.app_guide import APP
from huahuo.timetravel.findings import Report, compare_decisions, compare_folds, compare_versions
from huahuo.timetravel.history_files import load_export
from huahuo.timetravel.look import Out

_TEST = '''"""Kept by `huahuo replay check`: {said}."""

from pathlib import Path

from huahuo.timetravel.check import disagreements


def test_this_history_is_what_the_code_would_write_and_fold() -> None:
    assert disagreements(Path(__file__).with_suffix(".jsonl")) == []
'''


async def keep_fixture(
    past: Past, history: History, entity: str, position: int, said: str, target: Path
) -> Path:
    """Write `target` (a `.py` name) and the entity's events up to a position. Returns the path of the events.

    `said` is the text in the test that says what was found there.

    Raises:
        ConfigError: the files cannot be written.
    """
    subject = await past.subject_of(history, entity)
    streams = [entity] if subject is None else [part.stream for part in subject.parts]
    events = [
        event
        async for piece in merged(history, streams, 0, position)
        for event in piece
        if subject is None or subject.concerns(event)
    ]
    kept = renumbered(events)
    data = target.with_suffix(".jsonl")
    lines = [
        detached_history.header("kept", len(kept)),
        *(detached_history.line(e, past.sealed_in(e)) for e in kept),
    ]
    try:
        data.write_bytes(b"\n".join(lines) + b"\n")
        target.with_suffix(".py").write_text(_TEST.format(said=said), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None
    return data


STATELESS: Final = frozenset({"user", "group", "system", "log", "auth", "audit", "ds", "projection"})
"""Kinds of the service's own streams that are no entities, so there is no state to compare."""


async def unjudged(past: Past, history: History, upto: int) -> dict[str, int]:
    """The number of these streams that began before position `upto`, by kind."""
    found = Counter[str]()
    for stream in history.streams(""):
        kind = stream.partition("/")[0]
        if kind in STATELESS or past.own_subject(stream) is not None:
            continue
        first = await history.read(stream, 0, events_max=1)
        found[kind] += bool(first and first[0].position <= upto)
    return dict(sorted((+found).items()))


def unjudged_text(kinds: Mapping[str, int], *, application: bool) -> str:
    """That for people. `application`: one was named by `--app`."""
    streams = ", ".join(f"{counted(count, 'stream')} of {kind}" for kind, count in kinds.items())
    if application:
        return f"not judged: {streams}: the application has no such entity"
    return (
        f"not judged: {streams}: no such entity is known without its application;"
        " name it with --app MODULE:NAME, as for `huahuo serve`"
    )


OURS = Path(huahuo.__file__).resolve().parents[1]
"""The directory of the running code."""
_MODEL = ("huahuo/eventstore/model.py", "eventstore/model.py")
"""A file that every version has, in rooms or flat as before."""
_NO_CODE = {".github", "bench", "docs", "examples", "scripts", "tests", "web"}
"""Folders of the repository that no version of the service needs."""
_APP_GUIDES = (Path(__file__).with_name("app_guide.py"),)
_JUDGE = Path(__file__).with_name("judge.py")


class Code(NamedTuple):
    """Code to run over a history. `guides` say how to ask it. `app`: it is a version of this application."""

    root: Path
    guides: Sequence[Path]
    app: str = ""


@asynccontextmanager
async def code_of(
    path: Path | None, ref: str | None, guides: Sequence[Path], app: Loaded | None = None
) -> AsyncIterator[tuple[Code, Code]]:
    """Today's code and the other version, which a path or a commit names.

    Without `app`, the version is one of huahuo with its plug-ins, and the commit one of this repository. With
    it, a path may hold another version of the application, and a commit is one of its repository.

    Raises:
        ConfigError: there is no such version at this path or commit.
    """
    if path is not None:
        root = path.resolve()  # noqa: ASYNC240  nothing else runs on this loop
        if any((root / model).is_file() for model in _MODEL):
            yield Code(OURS, guides), Code(root, guides)
        elif app is None:
            raise ConfigError(f"{path} holds no version of this project (there is no event store in it)")
        elif not any((root / file).is_file() for file in app.files):
            raise ConfigError(f"{path} holds no version of {app.name} (there is no {app.files[0]} in it)")
        else:
            yield Code(app.root, _APP_GUIDES, app.name), Code(root, _APP_GUIDES, app.name)
        return
    assert ref is not None, "either a path or a ref"
    home = OURS if app is None else app.root
    commit = await _git(home, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    name = commit.decode().strip()
    folders: set[str] = set()
    if app is None:
        folders = set((await _git(home, "ls-tree", "-d", "--name-only", name)).decode().split()) - _NO_CODE
    files = await _git(home, "archive", "--format=tar", name, *sorted(folders))
    with tempfile.TemporaryDirectory(prefix="huahuo-code-") as directory:
        with tarfile.open(fileobj=io.BytesIO(files)) as archive:
            archive.extractall(directory, filter="data")
        root = Path(directory).resolve()  # noqa: ASYNC240
        if app is None:
            yield Code(OURS, guides), Code(root, guides)
        else:
            yield Code(app.root, _APP_GUIDES, app.name), Code(root, _APP_GUIDES, app.name)


async def judge(code: Code, events: Path, trace: list[int], findings: Path) -> Iterator[dict[str, Any]]:
    """The findings of a version about the events in a file without a header, guide by guide.

    `findings`: a folder for them.

    Raises:
        HuahuoError: the version could not be run.
    """
    findings.mkdir(exist_ok=True)  # noqa: ASYNC240  nothing else runs on this loop
    said = [
        await _judge_with(code, guide, events, trace, findings / str(number))
        for number, guide in enumerate(code.guides)
    ]
    return chain.from_iterable(said)


async def _judge_with(
    judging: Code, guide: Path, events: Path, trace: list[int], findings: Path
) -> Iterator[dict[str, Any]]:
    root = judging.root
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(root), str(OURS)] if judging.app else [str(root)]),
        **({APP: judging.app} if judging.app else {}),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }
    with findings.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_JUDGE), str(guide), str(events)),
            cwd=root,
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        _, errors = await process.communicate(msgspec.json.encode({"trace": trace}) + b"\n")
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise HuahuoError(f"the code in {root} cannot be run over this history: {last}")
    said = _lines(findings)
    code = Path(next(said)["code"])
    if root not in code.parents:
        raise HuahuoError(f"{root} was to be run, but {code} was")
    return said


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line)


async def _git(home: Path, *arguments: str) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "-C", str(home), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError:
        raise ConfigError("git is needed to get another version; --code PATH works without it") from None
    output, said = await process.communicate()
    if b"not a git repository" in said:
        raise ConfigError(f"{home.name} is not in a clone of its repository; --code PATH works without one")
    if process.returncode:
        raise ConfigError(f"git {arguments[0]}: no such version in the repository of {home.name}")
    return output


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
        ours = await judge(today, events, [], scratch / "ours")
        if other is None:
            compare_decisions(ours, report)
            await compare_folds(past, history, upto, report)
        else:
            theirs = await judge(other, events, [], scratch / "theirs")
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
        saved = await keep_fixture(out.past, history, first.entity, first.position, said, save)
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
            out.line(unjudged_text(passed_over, application=loaded() is not None))
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
            file.writelines(detached_history.line(event) + b"\n" for event in page)
            count += len(page)
    return count


async def _name_lines(
    report: Report, traced: list[int], versions: list[Code], events: Path, scratch: Path
) -> None:
    """For each difference of states, name the line of the other version (else of ours) that caused it."""
    lines: dict[int, str] = {}
    for code in versions:
        for finding in await judge(code, events, traced, scratch / "traced"):
            if finding.get("line"):
                lines.setdefault(finding["position"], finding["line"])
    report.differences = [
        msgspec.structs.replace(d, line=lines.get(d.position, "")) if d.kind == "state" else d
        for d in report.differences
    ]
