"""The plug-ins of this process: the application's, else mail. Nothing else in `huahuo` knows it by name."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.application import Application
from huahuo.eventstore.port import Log


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


def unserved(log: Log, plugins: Iterable[Plugin]) -> tuple[Literal["warning"], str] | None:
    """A warning about a log that has mailboxes, if none of the plug-ins is mail."""
    if any(plugin.name == "mail" for plugin in plugins) or not (count := len(log.streams("mailbox/"))):
        return None
    text = (
        f"the log holds mailboxes ({count}), and this application is without mail: they stay in the log,"
        " nobody reads or checks them, and erasing a user leaves them. To serve them, write plugins=[mail()]"
    )
    return "warning", text


def with_mail() -> tuple[Plugin, ...]:
    """Mail alone."""
    from huahuo.mailcheck import mail

    return (mail(),)
