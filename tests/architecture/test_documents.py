"""What the documents say is what the code does."""

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from huahuo.cli.main import app
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from scripts import events_page, failure_words, mail_page, said_words
from scripts.settings_page import with_table

ROOT = Path(__file__).resolve().parents[2]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_settings_page_shows_the_settings_of_today() -> None:
    assert with_table(text("docs/settings.md")) == text("docs/settings.md"), "run scripts/settings_page.py"


@pytest.mark.parametrize("code", list(CloseCode), ids=str)
def test_every_close_code_is_in_the_protocol_page(code: CloseCode) -> None:
    assert str(int(code)) in text("docs/protocol.md")


@pytest.mark.parametrize("code", list(ErrorCode), ids=str)
def test_every_error_code_is_in_the_protocol_page(code: ErrorCode) -> None:
    assert f"`{code}`" in text("docs/protocol.md")


def test_the_mail_page_shows_the_failures_of_today() -> None:
    assert mail_page.with_table(text("docs/mail.md")) == text("docs/mail.md"), "run scripts/mail_page.py"


def test_the_console_knows_the_failures_of_today() -> None:
    assert failure_words.PAGE.read_text(encoding="utf-8") == failure_words.written(), "run the script"


def test_the_console_knows_the_texts_of_today() -> None:
    assert said_words.PAGE.read_text(encoding="utf-8") == said_words.written(), "run the script"


def test_the_protocol_page_shows_the_event_types_of_today() -> None:
    assert events_page.with_table(text("docs/protocol.md")) == text("docs/protocol.md"), "run the script"


@pytest.mark.parametrize(
    "command", [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert "Example:" in CliRunner().invoke(app, [command, "--help"]).stdout


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).exists()]


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def headings(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.strip()).replace(" ", "-") for title in plain}


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in documents():
        for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", prose(page)):
            if target.startswith(("http:", "https:")):
                continue
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name} -> {target}"
            assert not heading or heading in headings(file), f"{page.name} -> {target}#{heading}"


@pytest.mark.parametrize("page", ["docs/changing.md", "docs/architecture.md"])
def test_every_file_that_the_page_names_exists(page: str) -> None:
    named = set(re.findall(r"`([a-z]+/[\w/]+\.(?:py|ts|sh|md))`", text(page)))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_project_speaks_of_itself_alone() -> None:
    foreign = re.compile(r"/(?:root|home|tmp|work)/[a-z]|--(?:extra-)?index-url|\"resolved\": \"https?:")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".toml", ".txt", ".sh", ".json", ".js", ".ts", ".vue"}
            and path.exists()
        ):
            found = foreign.search(path.read_text(encoding="utf-8"))
            assert found is None or path == Path(__file__), f"{name}: {found}"
