"""The page of limits names what is there: settings, metrics, tests."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.options import table
from tests.support.servers.serving import serving

ROOT = Path(__file__).resolve().parents[2]
HEAD = ["queue or cache", "grows by", "bound per user", "bound for the process", "setting", "metric", "test"]
NONE = "–"
FIXED = "fixed"


def rows() -> list[dict[str, str]]:
    """Every row of every table of the page."""
    found = []
    for line in (ROOT / "docs/limits.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and cells != HEAD:
            assert len(cells) == len(HEAD), line
            found.append(dict(zip(HEAD, cells, strict=True)))
    return found


def names(column: str) -> Iterator[str]:
    """What a column names between backticks."""
    for row in rows():
        yield from re.findall(r"`([^`]+)`", row[column])


def test_every_row_says_how_each_bound_is_set_and_tested() -> None:
    assert len(rows()) > 20
    for row in rows():
        assert row["setting"] in (NONE, FIXED) or "`" in row["setting"], row
        assert "`" in row["test"] or row["test"].startswith(("reason: ", "see below")), row


def test_every_setting_that_the_page_names_exists() -> None:
    assert set(names("setting")) <= set(table().names)


def test_every_test_that_the_page_names_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in set(names("test")) if f"def {name}(" not in text]
    assert not missing


@pytest.mark.e2e
def test_every_metric_that_the_page_names_is_told_by_a_service(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, urllib.request.urlopen(f"{server.url}/metrics") as answer:
        told = answer.read().decode()
    missing = [name for name in set(names("metric")) if f"\nhuahuo_{name}" not in told]
    assert not missing
