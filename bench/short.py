"""`python -m bench short`: within three minutes, the ratios of today to the last published sheets.

It never fails because of a figure, since machines and minutes differ: look for a ratio that moved.
`same_rate` is also shown against the floor of the same minute, because then a busy machine says less.
"""

import importlib
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import receivers
from bench.processes import raise_files_max
from bench.sheets import OURS, Options, Sheet, number

FLOOR = "floor"


class Asked(NamedTuple):
    """A question, and how little of it is asked."""

    name: str
    peers: frozenset[str]


CONNECTIONS = (500,)
SHORT = (
    Asked("same_rate", frozenset({OURS, "ws", FLOOR})),
    Asked("private_feeds", frozenset({OURS})),
    Asked("fan_out", frozenset({OURS})),
)
_WAITED = 1.1
"""More events a frame than this: events waited for the machine, and a delivery seems cheaper than it is."""


def run(results: Path, asked: tuple[Asked, ...] = SHORT, *, quick: bool = False) -> int:
    """Measure and print. Always 0."""
    raise_files_max()
    for one in asked:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            options = Options(
                quick=quick,
                folder=Path(folder),
                receiver=receivers.build(),
                peers=one.peers,
                connections=CONNECTIONS,
                capacity=False,
            )
            sheets = importlib.import_module(f"bench.questions.{one.name}").run(options)
        then = published(results, one.name)
        print(f"== {one.name}, against {then.get('date', 'nothing published')}", flush=True)
        for line in compared(sheets, then):
            print(line, flush=True)
    return 0


def published(results: Path, name: str) -> dict[str, Any]:
    """The newest sheets of a question; empty if there are none."""
    found = sorted(results.glob(f"{name}-[0-9]*.json"))
    return json.loads(found[-1].read_text(encoding="utf-8")) if found else {}


def compared(sheets: list[Sheet], then: dict[str, Any]) -> Iterator[str]:
    """A line for each case and figure: now, then, and how many times as much it is now."""
    before = {sheet["title"]: sheet["samples"] for sheet in then.get("sheets", ())}
    for sheet in sheets:
        yield sheet.title
        old = before.get(sheet.title, {})
        for case, figures in sheet.samples.items():
            for metric in sheet.metrics:
                if metric.name not in figures or not (metric.compare or metric.name == "cpu"):
                    continue
                now = statistics.median(figures[metric.name])
                line = f"  {case:18} {metric.name:12} {number(now):>10}"
                if samples := old.get(case, {}).get(metric.name):
                    was = statistics.median(samples)
                    line += f", was {number(was)}" + (f": ×{now / was:.2f}" if was else "")
                if metric.name == "cpu" and (floor := _floor(sheet.samples)) and case != FLOOR:
                    line += f"; {now / floor:.2f} of the floor"
                    if was_floor := _floor(old):
                        line += f", was {was / was_floor:.2f}" if samples else ""
                yield line
            together = statistics.median(figures.get("events_a_frame", [0]))
            if together > _WAITED and FLOOR in sheet.samples:
                yield f"  {case:18} was behind: {together:.1f} events a frame, so its cpu says little"
        for case, why in sheet.absent.items():
            yield f"  {case}: not measured, {why}"


def _floor(samples: dict[str, dict[str, list[float]]]) -> float:
    figures = samples.get(FLOOR, {}).get("cpu")
    return statistics.median(figures) if figures else 0.0
