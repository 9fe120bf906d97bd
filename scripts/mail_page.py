"""Writes the table of failures in docs/mail.md from the kinds of failures.

Run `python scripts/mail_page.py`; a test fails when the table is not what this prints.
"""

from pathlib import Path

from huahuo.mailcheck.servers.faults import KINDS

BEGIN, END = "<!-- kinds -->\n", "<!-- /kinds -->"


def table() -> str:
    """One row per kind."""
    rows = ["| class | what happened | what to do next | ends as |\n|---|---|---|---|\n"]
    for kind in KINDS.values():
        status = "need_reauth" if kind.must_sign_in else "error"
        happened = f"{kind.chinese}<br>{kind.english}"
        advice = f"{kind.advice_chinese}<br>{kind.advice_english}"
        rows.append(f"| `{kind.error_class}` | {happened} | {advice} | `{status}` |\n")
    return "".join(rows)


def with_table(page: str) -> str:
    """`page` with the table of today."""
    head, rest = page.split(BEGIN)
    _old, tail = rest.split(END)
    return head + BEGIN + table() + END + tail


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "docs" / "mail.md"
    target.write_text(with_table(target.read_text(encoding="utf-8")), encoding="utf-8")
