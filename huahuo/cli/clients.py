"""`huahuo clients`: the clients of the running service, and how far behind each one is."""

from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from huahuo.app.config import Settings
from huahuo.audit.record import ask_service
from huahuo.terminal import printable


async def clients(settings: Settings, *, as_json: bool, console: Console) -> None:
    """Print the columns' names, one line per client, and how many are behind; as JSON, the clients only.

    Raises:
        HuahuoError: no service runs on this directory, or it refused.
    """
    reply: Any = await ask_service(settings, "get_clients")
    rows = reply["data"]
    if as_json:
        for row in rows:
            console.out(msgspec.json.encode(row).decode(), highlight=False)
        return
    if console.is_terminal:
        console.print(_table(rows))
    else:
        for cells in (_columns(rows), *map(_cells, rows)):
            typer.echo("\t".join(cells))  # rich would print blanks in place of tabs
    behind = sum(_lag(row) > 0 for row in rows)
    console.out(f"{len(rows)} connected (this command too), {behind} behind", highlight=False)
    if reply.get("silent"):
        console.out(f"no answer from {', '.join(map(printable, reply['silent']))}", highlight=False)


def _columns(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    where = ("node",) if any("node" in row for row in rows) else ()
    return (*where, "user", "name", "client", "connected at", "events behind", "streams")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*_columns(rows), box=None)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    streams = " ".join(f"{one['stream']}@{one['seq']}" for one in row["streams"])
    where = (row["node"],) if "node" in row else ()
    cells = (
        *where,
        row["user"],
        row["username"],
        row["client"],
        row["connected_at"],
        str(_lag(row)),
        streams,
    )
    return tuple(printable(cell) for cell in cells)


def _lag(row: dict[str, Any]) -> int:
    return sum(int(one["lag"]) for one in row["streams"])
