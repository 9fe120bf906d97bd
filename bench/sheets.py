"""What the questions share: rounds that take turns, tables with ratios, results as JSON.

A question is a module with `run(options) -> list[Sheet]`; its docstring opens with the question and the
guess made before the first run. Everything that is compared is measured in the same run, in turns,
because these numbers drift with the machine: ratios are worth more than figures.
"""

import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

OURS = "huahuo"
ROUNDS = 5
CLIENT_LIMIT = 0.9
"""A receiver that used this share of a core may have been the limit of the measurement."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says. Empty, 0 or None: what the question takes by itself."""

    folder: Path
    """An empty directory for everything that is written."""
    receiver: Path
    """The program that holds the connections (`receivers.build`)."""
    quick: bool = False
    rounds: int = 1
    peers: frozenset[str] | None = None
    """None: all that are installed."""
    large: bool = False
    """Also the sizes that take minutes and gigabytes."""
    connections: Sequence[int] = ()
    """How many there are in each sheet; in `storms`: of each user."""
    rates: Sequence[float] = ()
    """Events a second in each sheet."""
    capacity: bool = True
    """Also find the highest rate that is borne."""
    mailboxes: int = 0
    """Of all users together."""
    requests: Sequence[str] = ()
    variants: Sequence[str] = ()
    users: Sequence[int] = ()
    seconds: float = 0
    """How long a storm goes on."""
    after_s: float = 60
    """How long after a storm memory is looked at."""
    workers: int = 1
    memory_mib: int = 512
    """What the service has; 0: all that there is."""

    def wants(self, peer: str) -> bool:
        """Whether a peer was asked for."""
        return self.peers is None or peer in self.peers


@dataclass(frozen=True)
class Metric:
    """A column. `unit` is shown; a ratio is shown for those where `compare` holds."""

    name: str
    unit: str = ""
    higher_is_better: bool = True
    compare: bool = False


@dataclass
class Sheet:
    """One table: systems (or cases) by metrics, with a sample for each round."""

    title: str
    metrics: Sequence[Metric]
    baseline: str = OURS
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, case: str, **values: float) -> None:
        """One round of one case."""
        known = {metric.name for metric in self.metrics}
        for name, value in values.items():
            assert name in known, name
            self.samples.setdefault(case, {}).setdefault(name, []).append(value)

    def miss(self, case: str, why: str) -> None:
        """This case could not be measured; the table says so."""
        self.absent[case] = why

    def note(self, text: str) -> None:
        """A line under the table, once."""
        if text not in self.notes:
            self.notes.append(text)

    def median(self, case: str, metric: str) -> float:
        """The middle sample."""
        return statistics.median(self.samples[case][metric])

    def ratio(self, case: str, metric: Metric) -> float | None:
        """How many times better the baseline is than `case`; None where it cannot be said."""
        samples = self.samples
        if case == self.baseline or metric.name not in samples.get(self.baseline, {}):
            return None
        if metric.name not in samples[case]:
            return None
        ours, theirs = self.median(self.baseline, metric.name), self.median(case, metric.name)
        if not ours or not theirs:
            return None
        return ours / theirs if metric.higher_is_better else theirs / ours

    def text(self) -> str:
        """The table: median (min–max), and `×` = how many times better the baseline is."""
        heads = ["", *(f"{m.name.replace('_', ' ')}{f' [{m.unit}]' if m.unit else ''}" for m in self.metrics)]
        rows = [heads, *([case, *(self._cell(case, m) for m in self.metrics)] for case in self.samples)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
        lines = [self.title, ""]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip())
        lines += [f"{case}: not measured, {why}" for case, why in self.absent.items()]
        return "\n".join([*lines, *(f"* {note}" for note in self.notes)])

    def _cell(self, case: str, metric: Metric) -> str:
        found = self.samples[case].get(metric.name)
        if not found:
            return "–"
        cell = number(statistics.median(found))
        if len(found) > 1 and min(found) != max(found):
            cell += f" ({number(min(found))}–{number(max(found))})"
        ratio = self.ratio(case, metric) if metric.compare else None
        return cell if ratio is None else f"{cell} ×{ratio:.3g}"

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "title": self.title,
            "metrics": {m.name: m.unit for m in self.metrics},
            "samples": self.samples,
            "absent": self.absent,
            "notes": self.notes,
        }


def number(value: float) -> str:
    """Three digits, thousands apart; NaN is a dash."""
    if value != value:  # noqa: PLR0124  NaN
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """Of values in any order; NaN if there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def interleaved(
    cases: Iterable[str],
    options: Options,
    one: Callable[[str, Path], None],
    sheets: Sequence[Sheet],
    *,
    once: Collection[str] = (),
) -> None:
    """Every case once a round, so that all meet the same minutes; one that fails is out, and said so.

    `one` measures a case in an empty folder. `once` names cases that take minutes and are far from the
    others: the first round is all they get.
    """
    rounds, failed = options.rounds, dict[str, str]()
    for turn in range(rounds):
        for case in cases:
            if case in failed or (turn and case in once):
                continue
            print(f"   round {turn + 1} of {rounds}: {case}{' ' * 20}", end="\r", file=sys.stderr, flush=True)
            try:
                with TemporaryDirectory(dir=options.folder) as folder:
                    one(case, Path(folder))
            except (TimeoutError, OSError, AssertionError) as error:
                if case == OURS:
                    raise
                failed[case] = f"{type(error).__name__}: {error}"
    for sheet in sheets:
        for case, why in failed.items():
            sheet.miss(case, why)
        for case in set(once) & sheet.samples.keys() if rounds > 1 else ():
            sheet.note(f"{case}: one round only, for it takes minutes")


def client_note(sheet: Sheet, case: str, cpu_s: float, wall_s: float) -> None:
    """Say it where the receivers, not the server, may have been the limit."""
    share = cpu_s / wall_s
    if share >= CLIENT_LIMIT:
        sheet.note(f"{case}: the receivers used {share:.0%} of a core, so they may have been the limit")


def facts() -> dict[str, Any]:
    """The machine and the versions; no names of hosts or directories."""
    import importlib.metadata

    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [
            line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        model = lines[0].partition(":")[2].strip() if lines else model
    names = ("websockets", "uvloop", "msgspec", "pykka", "zstandard")
    return {
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "cores": os.cpu_count(),
        "cpu": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def save(
    name: str, stamp: str, question: str, sheets: Sequence[Sheet], machine: dict[str, Any], results: Path
) -> Path:
    """Write `results/NAME-STAMP.json`."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}-{stamp}.json"
    content = {
        "bench": name,
        "question": question,
        "date": stamp,
        "machine": machine,
        "sheets": [sheet.to_json() for sheet in sheets],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
