"""`make test` runs a few lanes at a time, and says what pytest would have said in one process."""

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts import suite
from scripts.suite import alone, exit_code, run

ROOT = Path(__file__).resolve().parents[3]
LANES = {"one": ("a",), "two": ("b",)}
PASSES = "def test_good(): pass\n"
FAILS = "def test_bad(): assert 'canary' == ''\n"


class Ran(NamedTuple):
    """A run of the two lanes."""

    code: int
    said: str


@pytest.fixture(scope="module", autouse=True)
def no_plugins() -> Iterator[None]:
    """The lanes of these tests start faster without them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        yield


def project(root: Path, **files: str) -> Path:
    """A project with tests in the folders `a` and `b`."""
    support = root / "tests" / "support"
    support.mkdir(parents=True)
    for name in ("progress.py", "absent.py"):
        shutil.copy(ROOT / "tests" / "support" / name, support)
    for name, text in files.items():
        (root / "tests" / name).mkdir()
        (root / "tests" / name / f"test_{name}.py").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run for all who ask what it said: a lane that passes, and one in which a test fails.

    Each start of pytest takes half a second of processor time.
    """
    skips = "import pytest\n@pytest.mark.skip\ndef test_idle(): pass\n"
    lacks = "from tests.support.absent import absent\ndef test_lacks(request): absent(request, 'docker')\n"
    root = project(tmp_path_factory.mktemp("project"), a=PASSES + skips + lacks, b=FAILS + lacks)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = run(LANES, [], root)
    return Ran(code, said.getvalue())


def test_the_outcomes_of_all_lanes_are_summed_up(ran: Ran) -> None:
    assert ran.said.splitlines()[-1].startswith("suite: 1 failed, 3 passed, 1 skipped in ")


def test_a_failure_in_one_lane_fails_the_run(ran: Ran) -> None:
    assert ran.code == pytest.ExitCode.TESTS_FAILED


def test_what_is_absent_here_is_named_once_at_the_end(ran: Ran) -> None:
    assert ran.said.splitlines()[-2] == "suite: absent here: docker"
    assert ran.said.count("absent here") == 1


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([0, 1], 1), ([5, 0], 0), ([5, 5], 5), ([5, 2], 2), ([-9, 0], -9)]
)
def test_the_exit_code_is_that_of_the_first_lane_that_ended_badly(codes: list[int], code: int) -> None:
    assert exit_code(codes, chosen=True) == code


def test_a_file_that_is_skipped_as_a_whole_fails_a_run_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(suite.ENVIRONMENT, "CI", "true")
    lacks = "import pytest\npytest.importorskip('nothing_of_that_name')\n"
    root = project(tmp_path, a=PASSES, b=PASSES)
    (root / "tests" / "b" / "test_lacks.py").write_text(lacks, encoding="utf-8")
    shutil.copy(ROOT / "tests" / "conftest.py", root / "tests")
    assert run(LANES, [], root) != 0
    assert "NOT TESTED: 1 of the tests, which fails a run in CI" in capsys.readouterr().out


def test_a_lane_without_tests_fails_a_run_that_chose_none(tmp_path: Path) -> None:
    assert run(LANES, [], project(tmp_path, a=PASSES, b="")) == suite.NO_TESTS


def test_a_lane_whose_process_ends_in_the_midst_of_its_tests_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaves = "import os\ndef test_leaves(): os._exit(0)\ndef test_next(): assert False\n"
    assert run(LANES, [], project(tmp_path, a=PASSES, b=leaves)) != 0
    assert "the process of two ended in the midst of its tests" in capsys.readouterr().out


def test_named_files_and_a_debugger_are_for_one_process() -> None:
    assert alone(["tests/unit/scripts"])
    assert alone(["-q", "tests/unit/scripts/test_suite.py::test_named_files"])
    assert alone(["-k", "resume", "--pdb"])
    assert not alone(["-q", "-k", "resume", "-m", "not slow", "--color=yes"])
