"""The body of `huahuo import-firemail`: a progress bar on terminals, and the report."""

from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from huahuo.app import keys, logs
from huahuo.app.config import Settings
from huahuo.app.plugins import standard
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.migrating.firemail import FireMail
from huahuo.migrating.importing import import_firemail as body


async def import_firemail(settings: Settings, file: Path) -> None:
    """Import, and print the report. Raises HuahuoError; ConfigError: no such database, or no mail."""
    plugins = standard()
    if all(plugin.name != "mail" for plugin in plugins):
        raise ConfigError("the application has no mail to import into: write plugins=[mail()] in it")
    logs.configure("warning", as_json=settings.log_json)
    try:
        with FireMail(file) as database:
            total = database.count()
    except EventStoreError as error:
        raise ConfigError(str(error)) from error
    keys.ensure(settings, SystemAmbient())  # only now: a wrong name of the file makes no directory
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("importing", total=total)
        report = await body(settings, plugins, file, lambda rows: progress.advance(task, rows))
    for line in report.lines():
        typer.echo(line)
