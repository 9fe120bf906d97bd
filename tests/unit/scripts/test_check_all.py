"""`make check-all` runs each test, in full on one interpreter, and goes on where it was."""

import subprocess
from pathlib import Path

import pytest

from scripts import check_all, suite
from scripts.check_all import Asked, Kept, works
from scripts.lanes import Work
from tests.support.mutants.bugs import BUGS

FULL = "3.13"
BOTH = Asked(FULL, {"3.12": "python3.12", FULL: "python3.13"}, again=False, options=[])


@pytest.fixture
def work() -> Work:
    return Work("one", ["/usr/bin/env"], {"HUAHUO_WHOLE": "1", "HOME": "/"})


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the interpreter of a part says of itself."""
    said = {"version": "3.13.0"}
    monkeypatch.setattr(check_all, "version", lambda _: said["version"])
    return said


def test_a_file_with_a_lane_of_its_own_is_in_no_other_lane_of_that_interpreter(tmp_path: Path) -> None:
    parts = [work for work in works(BOTH, tmp_path) if work.environment.get("HUAHUO_WHOLE")]
    for path in check_all.BY_THEMSELVES:
        assert (suite.ROOT / path).is_file()
        assert [work.name for work in parts if path in work.command] == [
            f"{FULL} {path[6:-3].replace('test_', '').replace('/', ' ')}"
        ]
        folders = [work for work in parts if Path(path).parent.as_posix() in work.command]
        assert all(f"--ignore={path}" in work.command for work in folders)


def test_the_lanes_of_the_suite_run_in_full_on_one_interpreter_and_short_on_the_others(
    tmp_path: Path,
) -> None:
    parts = {work.name: work for work in works(BOTH, tmp_path)}
    for lane in suite.LANES:
        assert parts[f"{FULL} {lane}"].environment["HUAHUO_WHOLE"]
        assert not parts[f"3.12 {lane}"].environment["HUAHUO_WHOLE"]


def test_each_deliberate_bug_is_tried_once(tmp_path: Path) -> None:
    words = [word for work in works(BOTH, tmp_path) for word in work.command]
    for name in BUGS:
        assert words.count(f"{check_all.MUTANTS}[{name}]") == 1


def test_what_passed_on_another_tree_is_not_known(tmp_path: Path, work: Work) -> None:
    Kept(tmp_path, "tree").passed(work)
    assert not Kept(tmp_path, "other").has(work)
    assert not Kept(tmp_path, "tree").has(work)


def test_a_file_that_is_new_or_changed_makes_another_tree(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    trees = {check_all.tree(tmp_path)}
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text, encoding="utf-8")
        assert check_all.tree(tmp_path) == check_all.tree(tmp_path)
        trees.add(check_all.tree(tmp_path))
    assert len(trees) == 3
