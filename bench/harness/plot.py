"""Draws the sheets of a question: a panel for each metric that is compared, a bar for each case."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.harness.harness import OURS, Sheet

_LOG_FROM = 20
"""The axis is logarithmic if the largest value is at least this many times the smallest."""


def draw(question: str, sheets: Sequence[Sheet], path: Path) -> bool:
    """Write a PNG; False if matplotlib is not installed."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return False
    panels = [(sheet, metric) for sheet in sheets for metric in sheet.metrics if metric.compare]
    panels = [(s, m) for s, m in panels if any(m.name in found for found in s.samples.values())]
    if not panels:
        return False
    figure, axes = plt.subplots(len(panels), 1, figsize=(9, 2.6 * len(panels)), squeeze=False)
    for axis, (sheet, metric) in zip(axes[:, 0], panels, strict=True):
        cases = [case for case, found in sheet.samples.items() if metric.name in found]
        values = [sheet.samples[case][metric.name] for case in cases]
        middles = [statistics.median(v) for v in values]
        spread = [
            [m - min(v) for m, v in zip(middles, values, strict=True)],
            [max(v) - m for m, v in zip(middles, values, strict=True)],
        ]
        colors = ["tab:red" if case == OURS else "tab:gray" for case in cases]
        axis.barh(cases, middles, xerr=spread, color=colors, capsize=3)
        axis.invert_yaxis()
        positive = [m for m in middles if m > 0]
        if positive and max(positive) > _LOG_FROM * min(positive):
            axis.set_xscale("log")
        better = "more is better" if metric.higher_is_better else "less is better"
        axis.set_xlabel(f"{metric.name.replace('_', ' ')} [{metric.unit}], {better}", fontsize=8)
        axis.set_title(sheet.title, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
    figure.suptitle(question, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
