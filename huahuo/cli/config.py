"""`huahuo config`: prints every setting with its default as a file to start from, and checks such a file."""

import os
from pathlib import Path
from typing import Annotated

import typer

from huahuo.errors import ConfigError
from huahuo.options import HERE, ConfigFile, program, table

app = program("config", "The settings: print them as a commented huahuo.toml, or check a file.")
app.info.no_args_is_help = False
app.info.invoke_without_command = True


@app.callback(epilog="Example:  huahuo config > huahuo.toml; huahuo config check huahuo.toml")
def show(context: typer.Context) -> None:
    """Print every setting with its meaning and default, commented out: a huahuo.toml to start from."""
    if context.invoked_subcommand is None:
        typer.echo(table().as_toml(), nl=False)


@app.command(epilog="Example:  huahuo config check huahuo.toml")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The file to check.", show_default="huahuo.toml")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Check a file and the environment, and print the settings that differ from the defaults."""
    known = table()
    settings = known.load(environ=os.environ, file=file or config_file or HERE)
    changed = known.changed(settings)
    for name, value in changed.items():
        typer.echo(f"{name} = {value}")
    unknown = known.unknown_variables(os.environ)
    if unknown:
        raise ConfigError(f"no settings of this version: {', '.join(unknown)}")
    typer.echo(f"in order: {len(changed)} settings differ from the defaults")
