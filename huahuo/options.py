"""Shared by the commands: common options, exit codes, and the style of help and errors."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from huahuo.actors.plugins.past import Past, together
from huahuo.app import config
from huahuo.app.plugins import standard

EXIT_OK = 0
"""Found, intact or the same."""
EXIT_NOTHING = 1
"""Nothing found, damaged or different. Of a command that answers no question: it failed."""
EXIT_UNUSABLE = 2
"""The command cannot be executed as given: no such directory, key, place or setting."""

Data = Annotated[
    Path | None, typer.Option(help="Directory of the log and its keys.", show_default="huahuo-data")
]
Look = Annotated[
    Path | None, typer.Option("--data", help="Data directory, live or a copy.", show_default="huahuo-data")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; see `huahuo config`.")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def program(name: str, text: str) -> typer.Typer:
    """A group of commands. Boxes and colours are for terminals, and pipes get plain lines."""
    plain = not (sys.stdout.isatty() and sys.stderr.isatty())
    return typer.Typer(
        name=name,
        no_args_is_help=True,
        rich_markup_mode=None if plain else "rich",
        pretty_exceptions_enable=False,
        help=text,
    )


def settings(data: Path | None, config_file: Path | None, **flags: Any) -> config.Settings:
    """The effective settings of a command. Raises ConfigError."""
    return table().load(environ=os.environ, file=config_file, flags={"data": data, **flags})


def known() -> Past:
    """What commands know of the kinds of entities in a log."""
    return together([plugin.past for plugin in standard()])


def table() -> config.Table:
    """The settings that commands know."""
    return config.Table(standard())
