"""`make quick` looks at one room: what of the tests imports it, and nothing of others."""

from pathlib import Path

import pytest

from scripts.quick import commands, importers, main


def test_the_tests_of_a_room_are_those_that_import_it(tmp_path: Path) -> None:
    for name, line in {
        "unit/test_of_it": "from huahuo.transport.session.session import Session",
        "property/test_too": "import huahuo.transport.session",
        "unit/test_of_a_neighbour": "from huahuo.transport.sessions import x",
        "e2e/test_of_a_program": "from huahuo.transport.session import x",
    }.items():
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import os\n{line}\n")
    found = importers("transport/session", tmp_path)
    assert found == ["tests/property/test_too.py", "tests/unit/test_of_it.py"]
    works = commands("transport/session", found, "files")
    assert list(works) == ["form", "lint", "types", "tests-1", "tests-2"]
    assert works["types"][2:] == ["mypy", "huahuo/transport/session", *found]


@pytest.mark.parametrize("words", [[], ["transport/nowhere"], ["docs"]])
def test_what_is_no_room_is_refused_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "ROOM=transport/session" in capsys.readouterr().err
