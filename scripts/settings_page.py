"""Writes the table of docs/settings.md from the settings of the service and of its plug-ins.

Run `python scripts/settings_page.py`; a test fails when the table is not what this prints.
"""

from pathlib import Path

from huahuo.options import table as settings

BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def table() -> str:
    """One row per setting."""
    known = settings()
    rows = []
    for name in known.names:
        value = known.default(name)
        shown = ", ".join(value) if isinstance(value, tuple) else value
        shown = "–" if shown in ("", {}) else str(int(shown)) if isinstance(shown, bool) else str(shown)
        rows.append(f"| `{known.variable(name)}` | {shown} | {known.meaning(name)} |\n")
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
