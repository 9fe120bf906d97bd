"""What the command line says when it is used wrongly: one line, and where to read on."""

import re
import sys
from pathlib import Path

import pytest

from huahuo.cli.main import main


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines on stderr; the program ends with 2."""
    monkeypatch.setattr(sys, "argv", ["huahuo", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("words", "begins", "ends"),
    [
        ("serve --prt 80", "huahuo: no such option: --prt", "see `huahuo serve --help`"),
        ("frobnicate", "huahuo: no such command 'frobnicate'", "see `huahuo --help`"),
        ("serv", "huahuo: no such command 'serv'. Did you mean 'serve'", "'? See `huahuo --help`"),
        ("config frob", "huahuo: no such command 'frob'", "see `huahuo config --help`"),
        ("token", "huahuo: missing option '--user-id'", "see `huahuo token --help`"),
        ("serve --port many", "huahuo: invalid value for '--port'", "see `huahuo serve --help`"),
        ("serve extra", "huahuo: got unexpected extra argument", "see `huahuo serve --help`"),
    ],
)
def test_a_command_line_that_does_not_fit_is_one_line_with_the_help_to_read(
    words: str, begins: str, ends: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [line] = said(monkeypatch, capsys, *words.split())
    assert line.startswith(begins)
    assert line.endswith(ends)


@pytest.mark.parametrize("words", ["", "replay", "audit", "cluster", "projections", "user"])
def test_the_list_of_commands_cuts_no_text_off(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not [line for line in said(monkeypatch, capsys, *words.split()) if re.search(r"\w\.\.\.$", line)]


def test_h_is_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["huahuo", "token", "-h"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "--user-id" in capsys.readouterr().out


def test_an_import_of_a_file_that_is_not_there_makes_no_data_directory(
    in_an_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(monkeypatch, capsys, "import-firemail", "none.db") == ["huahuo: there is no file none.db"]
    assert not list(in_an_empty_folder.iterdir())
