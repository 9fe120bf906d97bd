"""`huahuo dictionary`: names, flags and help."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from eventstore.ambient import SystemAmbient
from huahuo import config
from huahuo.errors import HuahuoError

app = typer.Typer(
    name="dictionary",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The dictionary of the compressed protocol (huahuo.v1.zstd).",
)


@app.callback()
def dictionary() -> None:
    """The dictionary of the compressed protocol (huahuo.v1.zstd)."""


@app.command(epilog="Example:  huahuo dictionary train --data ./data --size 8192")
def train(
    data: Annotated[
        Path | None,
        typer.Option(help="Directory of the log, in use or not.", show_default="huahuo-data"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="DATA/dictionaries/ID.zdict")
    ] = None,
    size: Annotated[int, typer.Option(min=256, max=1 << 20, help="Its size in bytes.")] = 4096,
) -> None:
    """Train a dictionary for the events that this log holds. That takes some ten seconds.

    It will be public, so everything that fewer than five streams have in common is masked first.
    """
    from huahuo.dictionaries.found import FOLDER, SUFFIX
    from huahuo.dictionaries.training import from_log

    settings = config.load(environ=os.environ, flags={"data": data})
    seed = int.from_bytes(SystemAmbient().token_bytes(8), "big")
    made = asyncio.run(from_log(settings.data, seed, size))
    path = out or settings.data / FOLDER / f"{made.id}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.data)
    except OSError as error:
        raise HuahuoError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"dictionary {made.id}: {len(made.data)} bytes in {path}")
    typer.echo(f"use it:  HUAHUO_DICTIONARY={path} huahuo serve")
