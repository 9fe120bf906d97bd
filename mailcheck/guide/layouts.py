"""Where versions of this project keep the modules that run on recorded events: in rooms, or flat as before.

It is loaded with any version on the module path, so it imports no other modules of the project.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

_LINK = "huahuo/mailcheck"
"""In a repository with rooms, this is a link to the domain's folder. In a wheel it is the folder itself."""

ROOMS: Mapping[str, str] = {
    "": "huahuo.mailcheck",
    "Context": "huahuo.actors.entities.decider",
    "StoredEvent": "huahuo.eventstore.model",
    "Secret": "huahuo.eventstore.model",
    "MailboxDecider": "huahuo.mailcheck.mailbox.decider",
    "RosterDecider": "huahuo.mailcheck.roster.decider",
    "UidCursor": "huahuo.mailcheck.fetched",
    "FetchedMail": "huahuo.mailcheck.fetched",
}
_COMMANDS = ("huahuo.mailcheck.roster.commands", "huahuo.mailcheck.mailbox.commands")
BEFORE: Mapping[str, str] = {
    "": "mailcheck",
    "Context": "actors.decider",
    "StoredEvent": "eventstore.model",
    "Secret": "eventstore.model",
    "MailboxDecider": "mailcheck.decider",
    "RosterDecider": "mailcheck.roster",
    "UidCursor": "mailcheck.check_api",
    "FetchedMail": "mailcheck.check_api",
}
_COMMANDS_BEFORE = ("mailcheck.commands",)


def layout_of(root: Path) -> Mapping[str, str] | None:
    """The layout of the version at `root`, None if there is no version."""
    if (root / _LINK / "mailbox" / "decider.py").is_file():
        return ROOMS
    if (root / "mailcheck" / "decider.py").is_file():
        return BEFORE
    return None


class Domain:
    """The classes of one version by name. Each is imported at its first use.

    A name without a home of its own is a command.
    """

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = homes
        self._commands = _COMMANDS if homes is ROOMS else _COMMANDS_BEFORE

    def __getattr__(self, name: str) -> Any:
        home = self._homes.get(name)
        for module in self._commands if home is None else (home,):
            found = getattr(import_module(module), name, None)
            if found is not None:
                return found
        raise AttributeError(name)

    @property
    def file(self) -> str:
        """The file from which the domain was loaded."""
        return sys.modules[self._homes[""]].__file__ or ""


def domain(path: Iterable[str]) -> Domain:
    """The first version on a path such as `sys.path`.

    Raises:
        ModuleNotFoundError: there is no version on the path.
    """
    for entry in path:
        homes = layout_of(Path(entry))
        if homes is not None:
            return Domain(homes)
    raise ModuleNotFoundError("no version of this project is on the path")
