"""The harness tells what it measured: quantiles, ratios, tables, and what is missing from them."""

from bisect import bisect_right
from pathlib import Path

import pytest

from bench.receivers import BUCKETS, FIELDS, Counts, bucket_us
from bench.sheets import Metric, Options, Sheet, interleaved

RATE = Metric("events", "1/s", compare=True)
LATENCY = Metric("p99", "ms", higher_is_better=False, compare=True)


def sheet_of(**rates: list[float]) -> Sheet:
    sheet = Sheet("a title", (RATE, LATENCY))
    for case, samples in rates.items():
        for sample in samples:
            sheet.add(case, events=sample, p99=1 / sample)
    return sheet


def test_a_quantile_is_the_upper_end_of_the_bucket_in_which_it_lies() -> None:
    bounds = [bucket_us(number) for number in range(BUCKETS)]
    buckets = [0] * BUCKETS
    for us in range(1_000, 1_001_000, 1_000):
        buckets[bisect_right(bounds, us) - 1] += 1
    counts = Counts((0,) * len(FIELDS), tuple(buckets))
    assert counts.quantile_ms(0.5) == pytest.approx(500, rel=0.05)
    assert counts.quantile_ms(0.99) == pytest.approx(990, rel=0.05)


def test_a_ratio_says_how_many_times_better_ours_is_whichever_way_is_better() -> None:
    sheet = sheet_of(huahuo=[100, 300, 200], other=[50, 40, 60])
    assert sheet.ratio("other", RATE) == pytest.approx(4)
    assert sheet.ratio("other", LATENCY) == pytest.approx(4)
    assert sheet.ratio("huahuo", RATE) is None


def test_the_table_shows_the_median_with_its_span_and_names_who_is_absent() -> None:
    sheet = sheet_of(huahuo=[100, 300, 200], other=[50, 40, 60])
    sheet.miss("third", "not installed")
    text = sheet.text()
    assert "200 (100–300)" in text
    assert "50 (40–60) ×4" in text
    assert "third: not measured, not installed" in text


def test_rounds_take_turns_and_one_that_fails_or_is_too_slow_has_fewer(tmp_path: Path) -> None:
    options = Options(folder=tmp_path, receiver=tmp_path, rounds=3)
    sheet = Sheet("a title", (RATE,))
    measured: list[str] = []

    def measure(case: str, folder: Path) -> None:
        assert not list(folder.iterdir())
        measured.append(case)
        if case == "broken":
            raise TimeoutError("no answer")
        sheet.add(case, events=1.0)

    interleaved(("huahuo", "slow", "broken"), options, measure, [sheet], once=("slow",))
    assert measured == ["huahuo", "slow", "broken", "huahuo", "huahuo"]
    assert sheet.absent == {"broken": "TimeoutError: no answer"}
    assert sheet.notes == ["slow: one round only, for it takes minutes"]
