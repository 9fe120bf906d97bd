"""Writes the table of public event types in docs/protocol.md from `huahuo.mailcheck.events`, their owner.

Run `python scripts/events_page.py`; a test fails when the table is not what this prints.
"""

from pathlib import Path

import msgspec

from huahuo.mailcheck.events import PUBLIC, Body, type_name

BEGIN, END = "<!-- events -->\n", "<!-- /events -->"
HEAD = "| type | fields besides `type` and `timestamp` | what it says |\n|---|---|---|\n"
NOTIFICATION = (
    "| `system_notification` | `message`, `level` (`info`, `warning`, `error`) | A notice to every user. |\n"
)


def row(body: type[Body]) -> str:
    """One type: its fields (`?` where it may be absent), and the docstring of its struct."""
    own = [field for field in msgspec.structs.fields(body) if field.name != "timestamp"]
    names = ", ".join(f"`{field.name}`" + ("" if field.required else "?") for field in own)
    meaning = " ".join((body.__doc__ or "").split())
    return f"| `{type_name(body)}` | {names} | {meaning} |\n"


def with_table(page: str) -> str:
    """`page` with the table of today."""
    head, rest = page.split(BEGIN)
    _old, tail = rest.split(END)
    return head + BEGIN + HEAD + "".join(map(row, PUBLIC)) + NOTIFICATION + END + tail


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"
    target.write_text(with_table(target.read_text(encoding="utf-8")), encoding="utf-8")
