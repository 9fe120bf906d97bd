"""An application (its entities, plug-ins and settings), and which one this process is about.

`Application` runs nothing. The commands of a process are about one application (`--app`), else about
mail, which nothing else in `huahuo` knows by name.
"""

import importlib
import inspect
import os
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.domain.structs import DefinitionError, place_of_user
from huahuo.actors.followers.spec import OwnCursor
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.credentials import NOBODY, Asked
from huahuo.errors import ConfigError
from huahuo.eventstore.port import Log

_ASKED: Final = {"authenticate": ("token",), "authorize": ("who", "stream", "right")}
"""What the functions of `Asked` are called with."""
_loading: Final[list[str]] = []
"""The application that is being imported by its name."""


class Application:
    """What an application is: its entities, its plug-ins and its settings. It runs nothing.

    `plugins`: exactly these, None: none.

    Raises:
        DefinitionError: the entities cannot work as they are written.
    """

    def __init__(
        self,
        *,
        entities: Sequence[Entity[Any]] = (),
        plugins: Iterable[Plugin] | None = None,
        data: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        asked: Asked = NOBODY,
    ) -> None:
        _check_asked(asked)
        self.asked = asked
        self.entities = Entities(entities)
        self._plugins = _checked(plugins or ())
        self.settings: dict[str, Any] = {**(settings or {})}
        folder: object = data
        if folder is not None:
            if not isinstance(folder, str | os.PathLike):
                why = f'{folder!r:.60} is no name of a folder: write data="my-data"'
                raise DefinitionError(f"{place_of_user()}: data: {why}")
            self.settings["data"] = Path(folder)

    def may_run(self) -> None:
        """Raises DefinitionError: this file is only being imported, so that somebody else runs it."""
        if _loading:
            raise DefinitionError(
                f"{place_of_user()}: it runs the service while it is imported: write"
                ' if __name__ == "__main__": above the call of run()'
            )

    def query[F: Callable[..., Any]](self, action: str, /) -> Callable[[F], F]:
        """A list that clients may ask for: `answer(who)` says which rows. Declare it before the start.

        Raises DefinitionError: the action is taken, or the function does not fit.
        """
        return self.entities.lists.query(action)

    def list[F: Callable[..., Any]](self, name: str, /) -> Callable[[F], F]:
        """A list that clients may follow: `answer(who, fields)` says which rows. Declare it before the start.

        Raises DefinitionError: the name is taken, or the function does not fit.
        """
        return self.entities.live.list(name)

    def follower[F: Callable[..., Awaitable[None]]](
        self,
        name: str,
        /,
        *,
        kinds: Iterable[str | Entity[Any]] = (),
        without_entity: Iterable[str] = (),
        batch: int = 100,
        retries: int = 10,
        backoff_s: float = 1.0,
        first: Literal["start", "head"] = "start",
        cursor: OwnCursor | None = None,
    ) -> Callable[[F], F]:
        """Call an async function with every event of these kinds, at least once and in the order of the log.

        It gets up to `batch` events at a time. One that fails after `retries` more attempts becomes a dead
        letter. `cursor` reads the one that the function keeps in its own database: docs/entities.md. Declare
        it before the start.

        Raises DefinitionError: the name is taken, or a value is not allowed.
        """
        return self.entities.following.follower(
            name,
            kinds=kinds,
            without_entity=without_entity,
            batch=batch,
            retries=retries,
            backoff_s=backoff_s,
            first=first,
            cursor=cursor,
        )

    def plugins(self) -> tuple[Plugin, ...]:
        """The plug-ins, and its entities as the last of them."""
        return (*self._plugins, self.entities)

    def runs_as(self, running: Any) -> None:
        """It is told which service (`App`) runs it from now on, None: none does."""


def load(name: str, named_by: str = "--app") -> Application:
    """The application called `MODULE:NAME`. The current directory comes first on the path.

    `named_by`: the option or file that names it.

    Raises:
        ConfigError: it cannot be imported, or is no application. The text is one line.
    """
    said = f"{named_by} {name}"
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ConfigError(f"{said}: write MODULE:NAME, for example shop:app")
    if "/" in module_name or module_name.endswith(".py"):
        stem = Path(module_name).name.removesuffix(".py")
        raise ConfigError(f"{said}: that is a file: write {stem}:{attribute}, in its folder")
    try:
        here = os.getcwd()  # noqa: PTH109  a text, as sys.path has them
    except OSError:
        raise ConfigError(f"{said}: this directory is gone: cd into that of the file") from None
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        _loading.append(name)
        try:
            module = importlib.import_module(module_name)
        finally:
            _loading.pop()
    except DefinitionError as error:
        raise ConfigError(f"{said}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0]:
            raise _failed(said, error) from error
        raise ConfigError(
            f"{said}: no module {error.name} is here or installed. Run it in the folder of that file"
        ) from None
    except (Exception, SystemExit) as error:
        raise _failed(said, error) from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{said}: {module_name} has no {attribute}: write {attribute} = Huahuo(…) in it")
    found = getattr(module, attribute)
    if not isinstance(found, Application):
        what = type(found).__name__
        raise ConfigError(f"{said}: {attribute} is of the type {what}: write {attribute} = Huahuo(…)")
    return found


def _checked(plugins: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """The plug-ins. Raises DefinitionError: one of them is none."""
    plugins = tuple(plugins)  # also of a generator, which can be walked once
    for plugin in plugins:
        if isinstance(getattr(plugin, "name", None), str) and not isinstance(plugin, type):
            continue
        name = getattr(plugin, "__name__", None)
        hint = f"write {name}()" if callable(plugin) and name else "write an object that derives from Plugin"
        raise DefinitionError(f"{place_of_user()}: plugins: {name or repr(plugin)} is no plug-in: {hint}")
    return plugins


def _check_asked(asked: Asked) -> None:
    """Raises DefinitionError: one of the application's functions cannot be called as it will be."""
    for name, takes in _ASKED.items():
        function = getattr(asked, name)
        if function is None:
            continue
        write = f"write def {name}({', '.join(takes)}) and {name}={name}"
        if not callable(function):
            raise DefinitionError(f"{place_of_user()}: {name}: {function!r:.60} is no function: {write}")
        try:
            inspect.signature(function).bind(*takes)
        except TypeError:
            many = f"{len(takes)} argument{'s' if len(takes) > 1 else ''}"
            raise DefinitionError(f"{place_of_user()}: {name}: it is called with {many}: {write}") from None
        except ValueError:
            continue  # one that is not written in Python


def _failed(said: str, error: Exception | SystemExit) -> ConfigError:
    """The application's own code raised `error` while it was imported."""
    return ConfigError(f"{said}: {_place(error)}{type(error).__name__}: {error}".replace("\n", " "))


def named_in(file: Path) -> str | None:
    """The application that a `huahuo.toml` names under `[app]`, None if it names none.

    Raises:
        ConfigError: the table is no `name = "MODULE:NAME"`.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("app")
    except (OSError, ValueError):
        return None  # reading the settings will report what is wrong with the file
    if table is None:
        return None
    name = table.get("name") if isinstance(table, dict) else None
    if not isinstance(name, str) or len(table) != 1:
        raise ConfigError(f'{file}: write name = "MODULE:NAME" under [app]')
    return name


def _place(error: BaseException) -> str:
    """The file and line outside of the import machinery where `error` was raised, with a colon."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and file != __file__ and "importlib" not in file:
            place = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return place


class _Chosen:
    """The application that the commands of this process are about (`--app`)."""

    app: Application | None = None
    name = ""


class Loaded(NamedTuple):
    """Where the application of this process comes from.

    `name` is MODULE:NAME, `root` the folder on the module path, `files` what the module may be below it.
    """

    name: str
    root: Path
    files: tuple[str, ...]


def choose(app: Application | None, name: str = "") -> None:
    """From now on, the commands of this process are about this application. `name`: MODULE:NAME."""
    _Chosen.app, _Chosen.name = app, name


def loaded() -> Loaded | None:
    """Where the application was loaded from, None if the command was not told of one."""
    module = _Chosen.name.partition(":")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return None
    parts = module.split(".")
    place = Path(file).resolve()
    up = len(parts) + (place.name == "__init__.py")
    path = "/".join(parts)
    return Loaded(_Chosen.name, place.parents[up - 1], (f"{path}.py", f"{path}/__init__.py"))


def chosen() -> Application:
    """The application of this process; mail if `--app` names none."""
    return _Chosen.app or Application(plugins=with_mail())


def standard() -> tuple[Plugin, ...]:
    """The plug-ins of `huahuo serve` and of the commands on its data directory."""
    return chosen().plugins()


def followers() -> tuple[str, ...] | None:
    """The names of the application's followers and of what plug-ins keep next to the log.

    None if the command was not told of an application.
    """
    if _Chosen.app is None:
        return None
    return (*_Chosen.app.entities.following.by_name, *projections())


def projections() -> dict[str, str]:
    """What plug-ins keep next to the log: names, with the file of each in the data directory."""
    return {name: file for plugin in standard() for name, file in plugin.projections.items()}


def settings() -> dict[str, Any]:
    """The settings that the application gives itself. A file, the environment and flags win over them."""
    return {} if _Chosen.app is None else dict(_Chosen.app.settings)


def unserved(log: Log, plugins: Iterable[Plugin]) -> str:
    """A warning about a log that has mailboxes, if none of the plug-ins is mail; else ""."""
    if any(plugin.name == "mail" for plugin in plugins) or not (count := len(log.streams("mailbox/"))):
        return ""
    return (
        f"the log holds mailboxes ({count}), and this application is without mail: they stay in the log,"
        " nobody reads or checks them, and erasing a user leaves them. To serve them, write plugins=[mail()]"
    )


def with_mail() -> tuple[Plugin, ...]:
    """Mail alone."""
    from huahuo.mailcheck import mail

    return (mail(),)
