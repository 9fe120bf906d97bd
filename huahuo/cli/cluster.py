"""`huahuo cluster`: several nodes over one log."""

import typer

from huahuo.options import ConfigFile, Data, program, settings

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
