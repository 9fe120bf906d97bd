"""The short benchmark prints ratios to the last published sheet of the same title."""

import json
from pathlib import Path

from bench.sheets import Metric, Sheet
from bench.short import compared, published

METRICS = (Metric("cpu", "µs"), Metric("events", "1/s", compare=True), Metric("p50", "ms"))


def sheet(**cases: dict[str, float]) -> Sheet:
    made = Sheet("500 connections", METRICS)
    for case, figures in cases.items():
        made.add(case, **figures)
    return made


def test_each_compared_figure_is_shown_with_its_ratio_and_against_the_floor() -> None:
    now = sheet(huahuo={"cpu": 12, "events": 50, "p50": 3}, floor={"cpu": 6})
    then = {"sheets": [sheet(huahuo={"cpu": 10, "events": 100}, floor={"cpu": 8}).to_json()]}
    title, cpu, events, floor = (" ".join(line.split()) for line in compared([now], then))
    assert title == "500 connections"
    assert cpu == "huahuo cpu 12, was 10: ×1.20; 2.00 of the floor, was 1.25"
    assert events == "huahuo events 50, was 100: ×0.50"
    assert floor == "floor cpu 6, was 8: ×0.75"


def test_what_was_never_published_is_shown_alone() -> None:
    _, line = compared([sheet(huahuo={"events": 5})], {})
    assert line.split() == ["huahuo", "events", "5"]


def test_the_newest_sheets_of_the_question_itself_are_taken(tmp_path: Path) -> None:
    for name in ("same_rate-2026-01-01", "same_rate-2026-02-01", "same_rate_feeds-2026-03-01"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"date": name}), encoding="utf-8")
    assert published(tmp_path, "same_rate") == {"date": "same_rate-2026-02-01"}
    assert published(tmp_path, "fan_out") == {}
