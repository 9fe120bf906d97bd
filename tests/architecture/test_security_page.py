"""Every item of the checklist in SECURITY.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## The checklist")[2].splitlines() if line.startswith("| ")][1:]


def test_every_item_of_the_checklist_has_tests_and_each_of_them_exists() -> None:
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= known, set(named) - known


def test_the_checklist_is_whole() -> None:
    items = [row.split("|")[1].strip() for row in ROWS]
    assert items[:25] == [f"S{number}" for number in range(1, 26)]
    doors = {"tickets", "API keys", "sign-in", "webhooks", "issuers' keys", "a node's secret", "backups"}
    assert doors | {"ASGI under a mount", "`/ds/`, also open"} == set(items[25:])
    assert len(set(items)) == len(items)
