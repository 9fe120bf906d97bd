"""Every reference from the code to a section of the protocol or to an invariant leads somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".ts", ".vue", ".js", ".c"}
SECTION = re.compile(r"PROTOCOL (\d+(?:\.\d+)?)((?:(?:,| and) \d+(?:\.\d+)?)*)")
INVARIANT = re.compile(r"\bI([1-9]\d?)\b")


def sources() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.splitlines()]
    return [path for path in paths if path.suffix in SUFFIXES and path.exists() and path != Path(__file__)]


SOURCES = sources()


def cited(pattern: re.Pattern[str]) -> dict[str, str]:
    """What is cited, with one file that cites it."""
    return {
        number: str(path.relative_to(ROOT))
        for path in SOURCES
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
        for number in re.findall(r"\d+(?:\.\d+)?", match[0].removeprefix("I"))
    }


@pytest.mark.parametrize(("section", "by"), sorted(cited(SECTION).items()))
def test_a_cited_section_of_the_protocol_exists(section: str, by: str) -> None:
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    assert re.search(rf"^##+ {re.escape(section)}\.? ", page, re.MULTILINE), f"{by} cites section {section}"


@pytest.mark.parametrize(("number", "by"), sorted(cited(INVARIANT).items()))
def test_a_cited_invariant_exists(number: str, by: str) -> None:
    page = (ROOT / "docs/invariants.md").read_text(encoding="utf-8")
    assert f"| I{number} |" in page, f"{by} cites I{number}"


def test_the_invariants_are_numbered_without_a_gap() -> None:
    page = (ROOT / "docs/invariants.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^\| I(\d+) \|", page, re.MULTILINE)]
    assert numbers == list(range(1, 29))
