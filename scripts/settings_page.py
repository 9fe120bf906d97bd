"""Writes the settings table of docs/settings.md from `huahuo.app.config`, the owner of the settings.

Run `python scripts/settings_page.py`; a test fails when the table is not what this prints.
"""

from pathlib import Path

from huahuo.app.config import MEANING, Settings, variable

BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def table() -> str:
    """One row per setting."""
    defaults = Settings()
    rows = []
    for name in Settings.__struct_fields__:
        value = getattr(defaults, name)
        shown = "–" if value in ("", ()) else str(int(value)) if isinstance(value, bool) else str(value)
        rows.append(f"| `{variable(name)}` | {shown} | {MEANING[name]} |\n")
    return "".join(rows)


def with_table(page: str) -> str:
    """`page` with the table of today."""
    head, rest = page.split(BEGIN)
    _old, tail = rest.split(END)
    top = "| environment | default | meaning |\n|---|---|---|\n"
    return head.removesuffix(top) + BEGIN + top + table() + END + tail


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
    target.write_text(with_table(target.read_text(encoding="utf-8")), encoding="utf-8")
