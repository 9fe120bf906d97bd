"""The site and the archives of a release, built by the commands that the documents name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.proofs import WHOLE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def test_the_sources_of_the_site_have_every_page_and_every_exported_name(tmp_path: Path) -> None:
    target = tmp_path / "sources"
    subprocess.run([sys.executable, "scripts/docs_site.py", str(target)], cwd=ROOT, check=True, timeout=60)
    pages = {str(file.relative_to(target)) for file in target.rglob("*.md")}
    assert pages >= {str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")}
    import huahuo

    reference = "".join(file.read_text() for file in (target / "reference").glob("*.md"))
    assert [name for name in huahuo.__all__ if f".{name}\n" not in reference] == []
    assert "](docs/" not in (target / "index.md").read_text(), (
        "a link of the README that the site does not have"
    )


if WHOLE:

    @pytest.mark.timeout(600)
    def test_the_site_is_built_and_no_link_leads_nowhere() -> None:
        subprocess.run(["scripts/docs.sh"], cwd=ROOT, check=True, timeout=600)
        assert (ROOT / "build" / "docs" / "reference" / "entities.html").is_file()

    @pytest.mark.timeout(1800)  # two environments and the demo's packages are installed
    def test_a_release_is_checked_and_has_a_bill_of_materials(tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True, timeout=60)
        subprocess.run(["scripts/release.sh"], cwd=clone, check=True, timeout=1800)
        (bill,) = (clone / "dist").glob("*.cdx.json")
        named = {part["name"] for part in json.loads(bill.read_text())["components"]}
        assert {"pykka", "websockets", "zstandard", "msgspec"} <= named
        assert "pip" not in named
