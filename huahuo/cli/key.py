"""`huahuo key`: API keys for programs. With or without a running service."""

from typing import Annotated

import typer

from huahuo.options import ConfigFile, Data, Json, program, settings

app = program("key", "API keys: tokens for programs, with rights and an expiry.")


@app.command(epilog="Example:  huahuo key add ci --user alice --right codes --days 90 --data ./data")
def add(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    user: Annotated[str, typer.Option(help="The name of the user it acts for.")],
    right: Annotated[
        list[str] | None,
        typer.Option(
            help="read, write, codes, admin, or the name of an action. May be repeated.", show_default="read"
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires.")] = 365,
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Make a key and print it. It is not stored, so nothing can print it again."""
    from huahuo.app.loops import run
    from huahuo.cli.api_keys import add as body

    run(body(settings(data, config_file), name, user, right or ["read"], days))


@app.command("list", epilog="Example:  huahuo key list --data ./data")
def show(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every key: number, user, name, rights, expiry."""
    from huahuo.app.loops import run
    from huahuo.cli.api_keys import show as body

    run(body(settings(data, config_file), as_json=as_json))


@app.command(epilog="Example:  huahuo key revoke 3 --data ./data")
def revoke(
    key_id: Annotated[int, typer.Argument(help="The number that `huahuo key list` shows.")],
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """End a key, and the connections that use it."""
    from huahuo.app.loops import run
    from huahuo.cli.api_keys import revoke as body

    run(body(settings(data, config_file), key_id))
    typer.echo(f"revoked {key_id}")
