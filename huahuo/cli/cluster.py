"""`huahuo cluster`: several nodes over one log."""

from typing import Annotated

import typer

from huahuo.options import ConfigFile, Data, Json, program, settings, token_option

Log = Annotated[str, typer.Option(help="Address of the ordered log; else the setting `log`.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take the node back.")]
Alone = Annotated[
    bool, typer.Option("--alone", help="Also if no other living node and no backup holds what is trimmed.")
]
Node = Annotated[
    str, typer.Argument(help="Its name, as `huahuo cluster status` prints it.", show_default=False)
]
Url = Annotated[str | None, typer.Option(help="A node to ask, also of another machine; else that of --data.")]
Token = Annotated[str | None, token_option("An administrator's token; else made of --data's key.")]

app = program("cluster", "Several nodes over one log (`huahuo serve --log …`).")


@app.command(epilog="Example:  huahuo cluster keys --data ./node-1")
def keys(data: Data = None, config_file: ConfigFile = None) -> None:
    """Make the two keys that all nodes share, in the directory of the first one. Those that exist stay."""
    import msgspec

    from huahuo.app import keys as body
    from huahuo.eventstore.ambient import SystemAmbient

    given = settings(data, config_file)
    body.ensure(msgspec.structs.replace(given, log=""), SystemAmbient())
    typer.echo(f"copy {body.JWT_FILE} and {body.MASTER_FILE} of {given.data} to the directory of each node")


@app.command(epilog="Example:  huahuo cluster status --data ./node-1, or --url http://web-1:8765 --token …")
def status(
    data: Data = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
    config_file: ConfigFile = None,
) -> None:
    """Print every node: where it is, how far it is, its clients, and which one does the work."""
    from rich.console import Console

    from huahuo.app.loops import run
    from huahuo.audit.record import Elsewhere
    from huahuo.cli.nodes import status as body

    console = Console(highlight=False, emoji=False)
    run(body(settings(data, config_file), Elsewhere(url, token), as_json=as_json, console=console))


@app.command(epilog="Example:  huahuo cluster remove web-3 --data ./node-1")
def remove(
    node: Node, data: Data = None, url: Url = None, token: Token = None, config_file: ConfigFile = None
) -> None:
    """Forget a node that will not come back. It is a member again if it does."""
    from huahuo.app.loops import run
    from huahuo.audit.record import Elsewhere
    from huahuo.cli.nodes import remove as body

    run(body(settings(data, config_file), Elsewhere(url, token), node))


@app.command(epilog="Example:  huahuo cluster adopt --data ./data --log nats://a,b,c")
def adopt(data: Data = None, log: Log = "", config_file: ConfigFile = None) -> None:
    """Make the stopped directory of a single service the first node of an empty ordered log."""
    import msgspec

    from huahuo.app.adopting import adopt as body
    from huahuo.app.hiding import hide_password
    from huahuo.app.loops import run
    from huahuo.eventstore.ambient import SystemAmbient

    hide_password(log)
    given = settings(data, config_file)
    given = msgspec.structs.replace(given, log=log) if log else given
    run(body(given, SystemAmbient(), typer.echo))


@app.command(epilog="Example:  huahuo cluster drain web-3 --data ./node-1")
def drain(
    node: Node,
    undo: Undo = False,
    data: Data = None,
    url: Url = None,
    token: Token = None,
    config_file: ConfigFile = None,
) -> None:
    """Send a node's clients elsewhere and let it rest, so that it can be stopped. A restart undoes it too."""
    from huahuo.app.loops import run
    from huahuo.audit.record import Elsewhere
    from huahuo.cli.nodes import drain as body

    run(body(settings(data, config_file), Elsewhere(url, token), node, undo=undo))


@app.command(epilog="Example:  huahuo cluster trim --data ./node-1")
def trim(
    alone: Alone = False,
    data: Data = None,
    url: Url = None,
    token: Token = None,
    config_file: ConfigFile = None,
) -> None:
    """Let the ordered log forget now what all living nodes have applied. By itself it does so after hours."""
    from huahuo.app.loops import run
    from huahuo.audit.record import Elsewhere
    from huahuo.cli.nodes import trim as body

    run(body(settings(data, config_file), Elsewhere(url, token), alone=alone))


@app.command(epilog="Example:  huahuo cluster finalize --data ./node-1")
def finalize(data: Data = None, url: Url = None, token: Token = None, config_file: ConfigFile = None) -> None:
    """After an update of all nodes: write the newest format that they know, and the rows of the new version.

    Nodes of an older format can't join then.
    """
    from huahuo.app.loops import run
    from huahuo.audit.record import Elsewhere
    from huahuo.cli.nodes import finalize as body

    run(body(settings(data, config_file), Elsewhere(url, token)))
