"""`huahuo mailbox`: commands about one mailbox of a running service."""

from pathlib import Path
from typing import Annotated, Any

import typer

from huahuo.errors import ConfigError
from huahuo.options import ConfigFile, program, settings, token_option

app = program("mailbox", "One mailbox of a running service.")


@app.command(epilog="Example:  huahuo mailbox signin alice@outlook.com --data ./data --user-id 42")
def signin(
    address: Annotated[str, typer.Argument(help="The mailbox; it is added if the user does not have it.")],
    data: Annotated[
        Path | None, typer.Option(help="Directory of the running service.", show_default="huahuo-data")
    ] = None,
    user_id: Annotated[str | None, typer.Option(help="Whose mailbox it is: a number, or a text.")] = None,
    url: Annotated[str | None, typer.Option(help="With a token: where the service listens.")] = None,
    token: Annotated[
        str | None, token_option("Sign-in token of the mailbox's user.", unless="user_id")
    ] = None,
    mail_type: Annotated[
        str, typer.Option(help="The kind of a new mailbox, a name of [providers].")
    ] = "outlook",
    client_id: Annotated[
        str, typer.Option(help="The application's id, if neither mailbox nor provider has one.")
    ] = "",
    config_file: ConfigFile = None,
) -> None:
    """Sign a mailbox in with a code that you enter in a browser, on any device."""
    from huahuo.app.loops import run
    from huahuo.app.tokens import user_id_in
    from huahuo.cli.mailbox_signin import of_directory
    from huahuo.cli.mailbox_signin import signin as body

    if token is not None and url is not None:
        where, source = url, token
    elif user_id is not None:
        where, source = of_directory(settings(data, config_file), user_id_in(user_id))
    else:
        raise ConfigError("give --user-id (with --data), or --url and --token")
    fields: dict[str, Any] = {"email": address, "mail_type": mail_type}
    if client_id:
        fields["client_id"] = client_id
    run(body(where, source, fields))
