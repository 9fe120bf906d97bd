"""What the commands share: options, exit codes, the style of help and errors, and a console of rich.

Help must come at once, so what only a command's body needs is imported there. The import of rich costs
0.05 s of processor time: only a command that prints pays it.
"""

from __future__ import annotations

import inspect
import os
import sys
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup, TyperOption

from huahuo.errors import ConfigError, HuahuoError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import ModuleType
    from typing import Concatenate

    from rich.console import Console

    from huahuo.actors.plugins.past import Past, Reader
    from huahuo.app.config import Settings, Table

HERE = Path("huahuo.toml")
"""Read where it is and --config names no other file."""

# The table of docs/operating.md, "Exit codes".
EXIT_OK = 0
"""Done; found, intact or the same."""
EXIT_NOTHING = 1
"""Nothing found, damaged or different. Of a command that answers no question: it failed."""
EXIT_UNUSABLE = 2
"""The command cannot be executed as given: no such directory, key, place or setting."""


MISUSE = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])
"""typer's error for a command line that does not fit: an unknown flag, a missing argument."""


def said_of(error: typer.BadParameter) -> tuple[str, str | None]:
    """What to print about it, in one line, and the command whose `--help` tells more.

    None instead of a command: it is the help itself, for a group that was given no command.
    """
    text = error.format_message()
    if error.ctx is None or "\n" in text:
        return text, None
    return text[:1].lower() + text[1:].removesuffix("."), error.ctx.command_path


def code_of_failure(error: Exception) -> int:
    """The exit code of a command that does something, such as `serve` or `tail`."""
    return EXIT_UNUSABLE if isinstance(error, ConfigError) else EXIT_NOTHING


def code_of_answer(error: Exception) -> int:
    """The exit code of a command that looks at a log or cares for it, such as `replay state` or `backup`."""
    from huahuo.eventstore.errors import Damaged

    return EXIT_NOTHING if isinstance(error, Damaged | LookupError) else EXIT_UNUSABLE


Data = Annotated[
    Path | None, typer.Option(help="Directory of the log and its keys.", show_default="huahuo-data")
]
Look = Annotated[
    Path | None, typer.Option("--data", help="Data directory, live or a copy.", show_default="huahuo-data")
]
Fresh = Annotated[
    Path | None,
    typer.Option(
        "--data", help="A directory without a log; it may have the keys.", show_default="huahuo-data"
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="TOML file with settings; see `huahuo config`.", show_default="huahuo.toml, if here"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def token_option(help_text: str, unless: str = "data") -> Any:
    """`--token`, else `HUAHUO_TOKEN`: unless the command line itself names the option `unless`."""

    def chosen(ctx: typer.Context, token: str | None) -> str | None:
        source = ctx.get_parameter_source("token")
        given = source is not None and source.name == "COMMANDLINE"
        # What the command line has is in `params` before what comes from the environment.
        return token if given or ctx.params.get(unless) is None else None

    return typer.Option(envvar="HUAHUO_TOKEN", help=help_text, callback=chosen)


_EXACT_MAX = 2**53 - 1
"""The largest integer that a browser reads from JSON as it is."""
_HELP_CHARS_MAX = 200
"""Of a command's first sentence, in the list of commands."""


class _WithApp(TyperGroup):
    """A group that adds the option `--app` to each of its commands."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See `click.Group`."""
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None and not isinstance(command, TyperGroup) and not _has_app(command):
            command.params.append(_app_option())
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See `click.Group`. A text that is longer than its line goes on below it; click would cut it."""
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        texts = [
            (name, command.get_short_help_str(_HELP_CHARS_MAX))
            for name, command in named
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(texts)


class _Later(_WithApp):
    """A group whose commands are in `home`, which is imported when one is looked for."""

    home = ""
    """MODULE:NAME."""

    @cached_property
    def _loaded(self) -> Any:
        module, _, name = self.home.partition(":")
        return typer.main.get_command(getattr(import_module(module), name))

    def list_commands(self, ctx: Any) -> list[str]:
        """See `click.Group`."""
        names: list[str] = self._loaded.list_commands(ctx)
        return names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See `click.Group`."""
        return self._loaded.get_command(ctx, cmd_name)


def _has_app(command: Any) -> bool:
    return any("--app" in param.opts for param in command.params)


def _use_app(name: str | None) -> None:
    """Load the application of a command: that of the option, of HUAHUO_APP, or of a huahuo.toml here."""
    if name is None and not HERE.exists():
        return
    from huahuo.app import application

    named_by = "--app" if name else f"{HERE}: [app]"
    name = name or application.named_in(HERE)
    if name is not None:
        application.choose(application.load(name, named_by), name)


def _app_option() -> Any:
    return TyperOption(
        param_decls=["--app"],
        metavar="MODULE:NAME",
        help="Your application, for example shop:app; without it, mail.",
        envvar="HUAHUO_APP",
        show_envvar=True,
        expose_value=False,
        is_eager=True,
        callback=lambda _context, _option, name: _use_app(name),
    )


def later(name: str, text: str, home: str) -> typer.Typer:
    """A group whose commands are those of `home` (MODULE:NAME), imported when they are needed."""
    return program(name, text, type("Later", (_Later,), {"home": home}))


def program(name: str, text: str, group: type[TyperGroup] = _WithApp) -> typer.Typer:
    """A group of commands. Boxes and colours are for terminals, and pipes get plain lines."""
    plain = not (sys.stdout.isatty() and sys.stderr.isatty())
    return typer.Typer(
        name=name,
        cls=group,
        no_args_is_help=True,
        rich_markup_mode=None if plain else "rich",
        pretty_exceptions_enable=False,
        help=text,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command[**P](
    group: typer.Typer, example: str, name: str | None = None, *, data: Any = Data
) -> Callable[[Callable[Concatenate[Settings, P], None]], Callable[..., None]]:
    """Add a command to `group` that gets the settings first: those of `--data` and `--config`."""

    def add(body: Callable[Concatenate[Settings, P], None]) -> Callable[..., None]:
        def called(*, data: Path | None, config_file: Path | None, **given: Any) -> None:
            body(settings(data, config_file), **given)  # type: ignore[call-arg]

        own = [*inspect.signature(body).parameters.values()][1:]
        more = {"data": data, "config_file": ConfigFile}
        kind = inspect.Parameter.KEYWORD_ONLY
        both = [*own, *(inspect.Parameter(one, kind, default=None, annotation=more[one]) for one in more)]
        called.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in both}
        called.__name__, called.__doc__ = body.__name__, body.__doc__
        return group.command(name, epilog=f"Example:  {example}")(called)

    return add


def settings(data: Path | None, config_file: Path | None, **flags: Any) -> Settings:
    """The effective settings of a command; their file is `--config`, or else a huahuo.toml here.

    From now on log lines go to standard error: standard output is for what the command answers.
    Raises ConfigError.
    """
    from huahuo.app import application, logs

    logs.configure_unless_done("warning", as_json=False)
    given = {"data": data, **flags}
    file = config_file or (HERE if HERE.exists() else None)
    return table().load(environ=os.environ, file=file, flags=given, base=application.settings())


def assigned(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=VALUE` or `NAME:=JSON`; the name is "" if it is neither.

    Without the colon a value is JSON only if nothing is lost by that: objects, arrays, `true`, `false`,
    `null`, texts in quotes, and integers as they are written. `1.10` and `007` are texts.

    Raises:
        ValueError: what is behind `:=` is no JSON.
    """
    import msgspec

    name, equals, value = text.partition("=")
    if not equals:
        return "", None
    try:
        found = msgspec.json.decode(value)
    except msgspec.DecodeError:
        if name.endswith(":"):
            raise ValueError(
                f'{text!r}: what is behind := is no JSON, for example {name}=[1.5] or {name}="a"'
            ) from None
        return name, value
    if name.endswith(":"):
        return name[:-1], found
    lost = isinstance(found, float) or (
        type(found) is int and (str(found) != value or abs(found) > _EXACT_MAX)
    )
    return name, value if lost else found


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Do the work of a command on a loop of its own. Raises HuahuoError for errors of the log."""
    from huahuo.app import process
    from huahuo.eventstore.errors import EventStoreError

    try:
        return process.run(work)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error


def finish(work: Coroutine[Any, Any, int | None]) -> None:
    """Do the work of a command that looks at a log or cares for it, and exit with the code that it returns.

    An unusable input ends as one line on stderr.
    """
    from huahuo.app import process
    from huahuo.eventstore.errors import EventStoreError
    from huahuo.replay.history.subject import NotFolded
    from huahuo.terminal import printable

    errors = console(stderr=True)
    try:
        code = process.run(work) or EXIT_OK
    except LookupError as error:
        errors.print(printable(str(error.args[0] if error.args else error)), markup=False, soft_wrap=True)
        code = code_of_answer(error)
    except (HuahuoError, EventStoreError, NotFolded) as error:
        errors.print(f"huahuo: {printable(str(error))}", markup=False, soft_wrap=True)
        code = code_of_answer(error)
    except BrokenPipeError:  # the reader closed the pipe, e.g. `head`
        code = EXIT_OK
    raise typer.Exit(code)


def known() -> Past:
    """What commands know of the kinds of entities in a log."""
    from huahuo.actors.plugins.past import together
    from huahuo.app.application import standard

    return together([plugin.past for plugin in standard()])


def reader() -> Reader:
    """Says the texts of events in the language of this terminal."""
    from huahuo.actors.plugins.past import Reader
    from huahuo.terminal import language_in

    return Reader(known(), language_in(os.environ))


def table() -> Table:
    """The settings that commands know."""
    from huahuo.app.application import standard
    from huahuo.app.config import Table

    return Table(standard())


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: without colours of its own choice, without emoji."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)


def import_structlog_without_rich() -> None:
    """Hide rich from structlog, which would import rich's tracebacks and pygments: 0.03 s of each start.

    Our log lines have tracebacks as plain text. Where an application imports huahuo, structlog is as usual.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: not to be found
    modules["rich"] = None
    try:
        import structlog  # noqa: F401
    finally:
        del modules["rich"]
