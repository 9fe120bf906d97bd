"""Whatever column of an event is changed: no false answer and no false head, or the log stays closed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proofs import WHOLE
from tests.support.worlds.changed_columns import Case, cases, exchanges, judge, make, pairs

pytestmark = pytest.mark.slow


def one_column() -> Iterator[Case]:
    yield from list(cases(few=2)) if WHOLE else list(cases(few=1))[::2]


def two_columns() -> Iterator[Case]:
    yield from list(pairs())[:: 3 if WHOLE else 15]


@pytest.mark.parametrize("chosen", [one_column, two_columns, exchanges])
async def test_what_is_answered_is_what_was_written_and_what_is_refused_is_told(
    tmp_path: Path, chosen: "type[Iterator[Case]]"
) -> None:
    truth = await make(tmp_path)
    wrong, outcomes = [], set()
    for n, case in enumerate(chosen()):
        verdict = await judge(tmp_path, tmp_path / str(n), truth, case)
        wrong += [(case, verdict)] if verdict.wrong else []
        outcomes.add(verdict.outcome.split(":")[0])
    assert wrong == []
    assert {"refused", "refused alone"} & outcomes
