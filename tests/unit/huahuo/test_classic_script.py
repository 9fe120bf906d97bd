"""What FireMail's page and the browser's client say of an import is one decision."""

import re
from pathlib import Path

from huahuo.pages.classic_script import SCRIPT

_CLIENT = Path(__file__).resolve().parents[3] / "web" / "client" / "src" / "client" / "importing.ts"


def test_the_page_and_the_client_take_the_same_first_lines_for_names_of_columns() -> None:
    found = [re.findall(r"const COLUMNS = (.+);", text) for text in (SCRIPT, _CLIENT.read_text("utf-8"))]
    assert len(found[0]) == 1
    assert found[0] == found[1]
