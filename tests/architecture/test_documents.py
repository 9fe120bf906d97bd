"""What the documents say is what the code does."""

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from huahuo.cli.main import app
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from scripts.pages import WRITTEN

ROOT = Path(__file__).resolve().parents[2]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WRITTEN)
def test_what_follows_from_the_code_is_that_of_today(path: str) -> None:
    assert WRITTEN[path](text(path)) == text(path), "python -m scripts.pages"


@pytest.mark.parametrize("code", list(CloseCode), ids=str)
def test_every_close_code_is_in_the_protocol_page(code: CloseCode) -> None:
    assert str(int(code)) in text("docs/protocol.md")


@pytest.mark.parametrize("code", list(ErrorCode), ids=str)
def test_every_error_code_is_in_the_protocol_page(code: ErrorCode) -> None:
    assert f"`{code}`" in text("docs/protocol.md")


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
