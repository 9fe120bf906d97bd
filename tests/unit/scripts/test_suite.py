"""`make test` runs a few lanes at a time, and says what pytest would have said in one process."""

import shutil
from pathlib import Path

import pytest

from scripts import suite
from scripts.suite import NO_TESTS, alone, compile_floors, exit_code, run

ROOT = Path(__file__).resolve().parents[3]
LANES = {"one": ("a",), "two": ("b",)}
PASSES = "def test_good(): pass\n"
FAILS = "def test_bad(): assert 'canary' == ''\n"


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lanes of these tests start faster without them."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


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


def test_lanes_that_pass_are_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skips = "import pytest\n@pytest.mark.skip\ndef test_idle(): pass\n"
    assert run(LANES, [], project(tmp_path, a=PASSES, b=PASSES + skips)) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("suite: 2 passed, 1 skipped in ")
    assert said.index("===== lane") < said.index("1 passed in")


def test_a_failure_is_named_at_once_shown_whole_and_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(LANES, [], project(tmp_path, a=PASSES, b=FAILS)) == pytest.ExitCode.TESTS_FAILED
    said = capsys.readouterr().out
    assert said.index("suite: failed: tests/b/test_b.py::test_bad") < said.index("===== lane two")
    assert "assert 'canary' == ''" in said
    assert said.splitlines()[-1].startswith("suite: 1 failed, 1 passed in ")


def test_a_lane_begins_when_one_before_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "AT_ONCE", 1)
    leaves = "import pathlib\ndef test_leaves(): pathlib.Path('left').touch()\n"
    finds = "import pathlib\ndef test_finds(): assert pathlib.Path('left').exists()\n"
    assert run(LANES, [], project(tmp_path, a=leaves, b=finds)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("suite: 2 passed in ")


def test_what_is_absent_here_is_named_once_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks = "from tests.support.absent import absent\ndef test_lacks(request): absent(request, 'docker')\n"
    assert run(LANES, [], project(tmp_path, a=lacks, b=lacks)) == 0
    assert capsys.readouterr().out.splitlines()[-2] == "suite: absent here: docker"


def test_a_file_that_cannot_be_read_fails_the_run(tmp_path: Path) -> None:
    assert run(LANES, [], project(tmp_path, a=PASSES, b="import nothing_of_that_name\n")) != 0


@pytest.mark.parametrize(("chosen", "code"), [("good", 0), ("neither", NO_TESTS)])
def test_each_lane_gets_the_options_and_may_have_no_test_for_them(
    tmp_path: Path, chosen: str, code: int
) -> None:
    assert run(LANES, ["-k", chosen], project(tmp_path, a=PASSES, b=FAILS)) == code


def test_where_pytest_would_stop_at_a_failure_all_lanes_stop_and_none_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "AT_ONCE", 2)
    waits = "import threading\ndef test_waits(): threading.Event().wait()\n"
    assert run({**LANES, "three": ("c",)}, ["-x"], project(tmp_path, a=waits, b=FAILS, c=PASSES)) != 0
    assert "lane three" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([0, 1], 1), ([5, 0], 0), ([5, 5], 5), ([5, 2], 2), ([-9, 0], -9)]
)
def test_the_exit_code_is_that_of_the_first_lane_that_ended_badly(codes: list[int], code: int) -> None:
    assert exit_code(codes) == code


def test_named_files_and_a_debugger_are_for_one_process() -> None:
    assert alone(["tests/unit/scripts"])
    assert alone(["-q", "tests/unit/scripts/test_suite.py::test_named_files"])
    assert alone(["-k", "resume", "--pdb"])
    assert not alone(["-q", "-k", "resume", "-m", "not slow", "--color=yes"])


def test_the_floors_have_bytecode_although_the_shell_forbids_to_write_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    compile_floors()
    for floor in ("huahuo/cli", "actors/actor", "transport/server"):
        assert any((ROOT / floor / "__pycache__").glob("__init__.*.pyc")), floor
