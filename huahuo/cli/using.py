"""`huahuo tail`, `publish`, `types`, `clients`, `revoke`: flags and help. Bodies are elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from huahuo.cli.consoles import console
from huahuo.errors import ConfigError
from huahuo.options import ConfigFile, Data, reader, settings, token_option

Token = Annotated[str | None, token_option("Sign-in token; else made of --data's key.")]


def tail(
    url: Annotated[str, typer.Argument(help="Where the service listens, e.g. http://127.0.0.1:8765.")],
    stream: Annotated[str, typer.Argument(help="user/ID, group/NAME, system or (admins) log.")],
    after: Annotated[str, typer.Option(help="Start after this seq, or at: head, start, snapshot.")] = "head",
    token: Token = None,
    data: Annotated[
        Path | None, typer.Option(help="Sign in as an admin by this directory's key; --token goes first.")
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    codes: Annotated[
        bool, typer.Option("--codes", help="Only verification codes: time, address and code.")
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Follow a stream in the terminal; reconnects and resumes by itself."""
    from functools import partial

    from huahuo.app.loops import run
    from huahuo.app.own_token import way_on
    from huahuo.app.plugins import settings as application_settings
    from huahuo.app.tokens import token_source
    from huahuo.cli.tail import tail as body
    from huahuo.eventstore.ambient import SystemAmbient

    own = settings(data, config_file) if data or "data" in application_settings() else None
    source = token_source(token, own, SystemAmbient())
    hint = None if token or own is None else partial(way_on, url, data=own.data, ambient=SystemAmbient())
    run(
        body(
            url,
            stream,
            source,
            after,
            as_json=json_lines,
            codes=codes,
            console=console(),
            reader=reader(),
            way_on=hint,
        )
    )


def publish(
    stream: Annotated[str, typer.Argument(help="user/ID, group/NAME, system or an application's own.")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=VALUE]…",
            help="7, true and [1] are JSON, anything else is text, also 1.10. FIELD:=1.5 is JSON always.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the service listens; else that of --data.")] = None,
    token: Token = None,
    data: Data = None,
    key: Annotated[str | None, typer.Option(help="Command id: a second try with it has no effect.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to try for.")] = 30.0,
    config_file: ConfigFile = None,
) -> None:
    """Publish one event; tries again while the service restarts, and prints STREAM SEQ."""
    from huahuo.cli.publish import publish as body

    own = settings(data, config_file) if not (url and token) else None
    at = body(stream, type_, fields or (), url=url, token=token, own=own, command_id=key, timeout_s=timeout)
    typer.echo(f"{at.stream} {at.seq}")


def types() -> None:
    """Print an application's events, commands and states as TypeScript, for the browser client."""
    from huahuo.cli.types import types as body

    typer.echo(body())


def clients(
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a client.")] = False,
    config_file: ConfigFile = None,
) -> None:
    """List the clients of the running service, how far each has read, and how many are behind."""
    from huahuo.app.loops import run
    from huahuo.cli.clients import clients as body

    run(body(settings(data, config_file), as_json=as_json, console=console()))


def revoke(
    data: Data = None,
    user_id: Annotated[str | None, typer.Option(help="End all sessions of this user.")] = None,
    jti: Annotated[str | None, typer.Option(help="End the sessions of this one token.")] = None,
    config_file: ConfigFile = None,
) -> None:
    """End a user's or a token's sessions, on the running service or in the log where none runs."""
    from huahuo.app.loops import run
    from huahuo.app.tokens import user_id_in
    from huahuo.cli.revoke import revoke as body

    if (user_id is None) == (jti is None):
        raise ConfigError("give either --user-id or --jti")
    run(body(settings(data, config_file), user_id=None if user_id is None else user_id_in(user_id), jti=jti))
    typer.echo("revoked")


def add_to(program: typer.Typer) -> None:
    """Register the commands."""
    program.command(epilog="Example:  huahuo tail http://127.0.0.1:8765 user/42 --after 0 --data ./data")(
        tail
    )
    program.command(epilog="Example:  huahuo publish user/42 parcel_seen order_id=7 --data ./data")(publish)
    program.command(epilog="Example:  huahuo types --app shop:app > src/huahuo-types.ts")(types)
    program.command(epilog="Example:  huahuo clients --data ./data")(clients)
    program.command(epilog="Example:  huahuo revoke --data ./data --user-id 42")(revoke)
