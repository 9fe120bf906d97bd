"""The benchmark of the log runs and says what it must; its numbers are for reading, not for asserting."""

import asyncio
from pathlib import Path
from typing import Any

from bench.append import measure


def test_the_benchmark_answers_all_its_questions(tmp_path: Path) -> None:
    answers: dict[str, Any] = asyncio.run(measure(tmp_path, effort=1))
    assert answers["settings"]["synchronous"] == 2
    assert answers["settings"]["body_bytes"] > 200
    assert {"bare_commit", "append", "ratio_p50"} == answers["single"].keys()
    for question in ("batch_100", "batch_1000", "in_flight_256"):
        answer = answers[question]
        assert answer["log_events_s"] > 0
        assert answer["raw_events_s"] > 0
        assert 0 < answer["p50_ms"] <= answer["p99_ms"]
