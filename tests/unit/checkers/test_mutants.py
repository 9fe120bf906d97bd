"""The deliberate bugs stand where they stood, and a sample of them is found. All of them: `check-all`."""

import importlib.util
import os
from pathlib import Path

import pytest

from tests.support.mutants.__main__ import tried
from tests.support.mutants.bugs import BUGS, PLANS, Bug
from tests.support.mutants.hook import bugged
from tests.support.proofs import WHOLE

SAMPLE = ["a ticket may be used twice", "a seq is left out"]


@pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.name)
def test_a_bug_still_has_its_line_and_what_finds_it(bug: Bug) -> None:
    spec = importlib.util.find_spec(bug.module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    compile(bugged(source, bug), bug.module, "exec")
    assert bool(bug.plan) != bool(bug.tests)
    assert not bug.plan or bug.plan in PLANS
    assert all(Path(each).is_file() for each in bug.tests)


def test_there_are_at_least_thirty_bugs() -> None:
    assert len(BUGS) >= 30


def test_the_table_of_what_found_them_has_each_of_them() -> None:
    page = Path("docs/testing.md").read_text(encoding="utf-8")
    table = page.partition("<!-- mutants -->")[2].partition("<!-- /mutants -->")[0]
    named = [row.split("|")[1].strip() for row in table.strip().splitlines()[2:]]
    assert sorted(named) == sorted(BUGS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(BUGS) if WHOLE else SAMPLE)
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [each for each in os.environ if each.startswith("PYTEST_")]:
        monkeypatch.delenv(variable)
    found = tried(name)
    assert found.by, found
