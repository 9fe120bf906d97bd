"""What FireMail's page and the browser's client say of an import is one decision."""

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_PAGE = _ROOT / "huahuo" / "pages" / "classic_page.js"
_CLIENT = _ROOT / "web" / "client" / "src" / "client" / "importing.ts"


def test_the_page_and_the_client_take_the_same_first_lines_for_names_of_columns() -> None:
    page, client = (
        re.findall(r"const COLUMNS = (.+);", file.read_text("utf-8")) for file in (_PAGE, _CLIENT)
    )
    assert len(page) == 1
    assert page == client
