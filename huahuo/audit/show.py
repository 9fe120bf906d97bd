"""Output of the audit commands: JSON, a table on a terminal, or lines in a pipe."""

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.reading import Reader
from huahuo.admin.rows import data_of, plain_row
from huahuo.eventstore.audit.query import Counted
from huahuo.eventstore.audit.questions import Page
from huahuo.eventstore.audit.tables import Row
from huahuo.terminal import printable

_DATA_CHARS_MAX = 400


def show_json(value: Any) -> None:
    """One JSON object."""
    sys.stdout.write(printable(msgspec.json.encode(value).decode()) + "\n")


def show_page(
    page: Page, counted: Counted, past: Past, reader: Reader, *, as_json: bool, recorded: bool
) -> None:
    """Show a page of rows, the total, the facets, and how to get the next page."""
    if as_json:
        show_json(
            {
                "rows": [plain_row(row, past) for row in page.rows],
                "next": page.next,
                "count": counted.count,
                "exact": counted.exact,
                "facets": counted.facets,
                "recorded": recorded,
            }
        )
        return
    console = Console(highlight=False, emoji=False)
    if console.is_terminal:
        console.print(_table(page.rows, past, reader))
    else:
        for row in page.rows:
            sys.stdout.write("\t".join(_cells(row, past, reader)) + "\n")
    about = Console(stderr=True, highlight=False, emoji=False)
    about.print(f"{len(page.rows)} of {'' if counted.exact else 'more than '}{counted.count} events")
    for name, values in counted.facets.items():
        if values:
            listed = ", ".join(f"{value} {count}" for value, count in values.items())
            about.print(f"  {name}: {printable(listed)}", markup=False, soft_wrap=True)
    if page.next is not None:
        about.print(f"more: --after {page.next}")


def _table(rows: list[Row], past: Past, reader: Reader) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("position", "time", "event", "type", "principal", "entity", "data"):
        table.add_column(name, justify="right" if name == "position" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in _cells(row, past, reader)))
    return table


def _cells(row: Row, past: Past, reader: Reader) -> list[str]:
    fields = reader.fields(row.type, data_of(row, past))
    data = {name: value for name, value in fields.items() if name not in ("type", "timestamp")}
    text = msgspec.json.encode(data).decode()
    if len(text) > _DATA_CHARS_MAX:
        text = text[: _DATA_CHARS_MAX - 1] + "…"
    cells = [str(row.position), row.timestamp, f"{row.stream}#{row.seq}", row.type, row.principal, row.entity]
    return [printable(cell) for cell in (*cells, text)]
