"""The bodies of `huahuo cluster`: they ask the running node of a directory, or one elsewhere."""

from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from huahuo.app.config import Settings
from huahuo.audit.record import REBUILD_S, TIMEOUT_S, Elsewhere, ask_service
from huahuo.errors import HuahuoError
from huahuo.terminal import printable
from huahuo.transport.client.model import CommandError
from huahuo.transport.protocol.codes import ErrorCode

SILENT_S = 10.0
"""A node that said nothing for longer is shown as silent."""
TRIM_S = 60.0
_ALONE = "this service is alone: it was started without --log"
_ALONE_YET = f"{_ALONE}; or it has not joined the other nodes yet, and its /readyz says why"
_COLUMNS = ("node", "URL", "applied", "behind", "clients", "load", "state")


async def status(settings: Settings, elsewhere: Elsewhere, *, as_json: bool, console: Console) -> None:
    """Print the columns' names and one line per node.

    Raises:
        HuahuoError: no service runs on this directory, it refused, or it is alone.
    """
    reply: Any = await _ask(settings, "get_nodes", elsewhere)
    rows: list[dict[str, Any]] = reply["data"]
    if as_json:
        for row in rows:
            console.out(msgspec.json.encode(row).decode(), highlight=False)
        return
    if not rows:
        raise HuahuoError(_ALONE)
    lines = [_cells(row) for row in rows]
    if not console.is_terminal:
        for cells in (_COLUMNS, *lines):
            typer.echo("\t".join(cells))  # rich would print blanks in place of tabs
        return
    table = Table(*_COLUMNS, box=None)
    for cells in lines:
        table.add_row(*cells)
    console.print(table)


async def remove(settings: Settings, elsewhere: Elsewhere, node: str) -> None:
    """Forget `node`.

    Raises:
        HuahuoError: as `status`; or the node is not known, or lives.
    """
    await _ask(settings, "remove_node", elsewhere, node=node)
    print(f"{node} is forgotten; if it comes back, it is a node again")  # noqa: T201


async def drain(settings: Settings, elsewhere: Elsewhere, node: str, *, undo: bool) -> None:
    """Drain `node`, or take it back. Raises as `remove`."""
    reply: Any = await _ask(settings, "drain_node", elsewhere=elsewhere, node=node, undo=undo)
    if undo:
        print(f"{node} takes clients and work again")  # noqa: T201
        return
    sent = "1 client was" if reply["clients"] == 1 else f"{reply['clients']} clients were"
    print(f"{node} is not ready any more, and {sent} sent away: stop it now")  # noqa: T201


async def trim(settings: Settings, elsewhere: Elsewhere, *, alone: bool) -> None:
    """Trim the ordered log. Raises as `status`; or it may not be trimmed now."""
    reply: Any = await _ask(settings, "trim_log", timeout_s=TRIM_S, elsewhere=elsewhere, alone=alone)
    print(f"the ordered log begins at offset {reply['before']} now")  # noqa: T201


async def finalize(settings: Settings, elsewhere: Elsewhere) -> None:
    """Finalize the format, and who writes rows. Raises as `status`; or a node is of an older version."""
    reply: Any = await _ask(settings, "finalize_cluster", elsewhere, REBUILD_S)
    print(f"all nodes write format {reply['format']}")  # noqa: T201


async def _ask(
    settings: Settings,
    action: str,
    elsewhere: Elsewhere,
    timeout_s: float = TIMEOUT_S,
    **fields: object,
) -> dict[str, object]:
    try:
        return await ask_service(settings, action, elsewhere=elsewhere, timeout_s=timeout_s, **fields)
    except HuahuoError as error:
        refused = error.__cause__
        if isinstance(refused, CommandError) and refused.code == ErrorCode.UNKNOWN_ACTION:
            raise HuahuoError(_ALONE_YET) from error
        raise


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    silent = row["silent_s"] > SILENT_S
    works = "works" if row["works"] else "ready"
    state = f"silent for {row['silent_s']:.0f} s" if silent else works
    if row["stopped"]:
        state = "stopped"
    elif not silent and not row["answers"]:
        state = "does not answer"
    elif not silent and not row["takes_clients"]:
        state = "works, takes no clients" if row["works"] else "takes no clients"
    if row["works"] and silent:
        state += ", had the work"
    cells = (
        row["node"],
        row["url"],
        str(row["applied"]),
        str(row["behind"]),
        str(row["connections"]),
        f"{row['load']:.2f}",
        state + (" (asked)" if row["here"] else ""),
    )
    return tuple(printable(cell) for cell in cells)
