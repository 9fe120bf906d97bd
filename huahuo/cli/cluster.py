"""`huahuo cluster`: several nodes over one log."""

import typer

from huahuo.options import ConfigFile, Data, Json, program, settings

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


@app.command(epilog="Example:  huahuo cluster status --data ./node-1")
def status(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every node: where it is, how far it is, its clients, and which one does the work."""
    from rich.console import Console

    from huahuo.app.loops import run
    from huahuo.cli.nodes import status as body

    run(body(settings(data, config_file), as_json=as_json, console=Console(highlight=False, emoji=False)))


@app.command(epilog="Example:  huahuo cluster remove web-3 --data ./node-1")
def remove(node: str, data: Data = None, config_file: ConfigFile = None) -> None:
    """Forget a node that will not come back. It is a member again if it does."""
    from huahuo.app.loops import run
    from huahuo.cli.nodes import remove as body

    run(body(settings(data, config_file), node))
