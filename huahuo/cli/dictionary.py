"""`huahuo dictionary`: names, flags and help."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import ConfigFile, Data, program, settings

app = program("dictionary", "The dictionary of the compressed protocol (huahuo.v1.zstd).")


@app.callback()
def dictionary() -> None:
    """The dictionary of the compressed protocol (huahuo.v1.zstd)."""


@app.command(epilog="Example:  huahuo dictionary train --data ./data --size 8192")
def train(
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="DATA/dictionaries/ID.zdict")
    ] = None,
    size: Annotated[int, typer.Option(min=256, max=1 << 20, help="Its size in bytes.")] = 4096,
    tries: Annotated[
        int | None,
        typer.Option(min=1, help="How many changes are tried.", show_default="8000, some ten seconds"),
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Train a dictionary for the events that this log holds. That takes some ten seconds.

    It will be public, so everything that fewer than five streams have in common is masked first.
    """
    from huahuo.app.plugins import standard
    from huahuo.dictionaries.found import FOLDER, SUFFIX
    from huahuo.dictionaries.training import from_log
    from huahuo.eventstore.zstd.training import TRIES

    given = settings(data, config_file)
    seed = int.from_bytes(SystemAmbient().token_bytes(8), "big")
    made = asyncio.run(from_log(standard(), given.data, seed, size, tries or TRIES))
    path = out or given.data / FOLDER / f"{made.id}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.data)
    except OSError as error:
        raise HuahuoError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"dictionary {made.id}: {len(made.data)} bytes in {path}")
    typer.echo(f"use it:  HUAHUO_DICTIONARY={path} huahuo serve")
