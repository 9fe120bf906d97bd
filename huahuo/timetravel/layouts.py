"""Where versions of this project keep the modules that run on recorded events: in rooms, or flat as before.

`versions.py` chooses folders with it. `judge.py`, which runs with any version, finds classes with it, so it
must not import other modules of the project.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

LINK = "huahuo/mailcheck"
"""In a repository with rooms, this is a link to the domain's folder. In a wheel it is the folder itself."""
FOLDERS = ("huahuo", "eventstore", "replay", "actors", "transport", "mailcheck")
FOLDERS_BEFORE = ("eventstore", "replay", "actors", "mailcheck")

_ROSTER = ("AddEmail", "UpdateEmail", "DeleteEmails", "CheckEmails", "CancelCheck")
_MAILBOX = ("Begin", "Progress", "MailsFound", "Finish")

ROOMS: Mapping[str, str] = {
    "": "huahuo.mailcheck",
    "Context": "huahuo.actors.entities.decider",
    "StoredEvent": "huahuo.eventstore.model",
    "Secret": "huahuo.eventstore.model",
    "MailboxDecider": "huahuo.mailcheck.mailbox.decider",
    "RosterDecider": "huahuo.mailcheck.roster.decider",
    "UidCursor": "huahuo.mailcheck.fetched",
    "FetchedMail": "huahuo.mailcheck.fetched",
    **dict.fromkeys(_ROSTER, "huahuo.mailcheck.roster.commands"),
    **dict.fromkeys(_MAILBOX, "huahuo.mailcheck.mailbox.commands"),
}
BEFORE: Mapping[str, str] = {
    "": "mailcheck",
    "Context": "actors.decider",
    "StoredEvent": "eventstore.model",
    "Secret": "eventstore.model",
    "MailboxDecider": "mailcheck.decider",
    "RosterDecider": "mailcheck.roster",
    "UidCursor": "mailcheck.check_api",
    "FetchedMail": "mailcheck.check_api",
    **dict.fromkeys((*_ROSTER, *_MAILBOX), "mailcheck.commands"),
}


def layout_of(root: Path) -> Mapping[str, str] | None:
    """The layout of the version at `root`, None if there is no version."""
    if (root / LINK / "mailbox" / "decider.py").is_file():
        return ROOMS
    if (root / "mailcheck" / "decider.py").is_file():
        return BEFORE
    return None


class Domain:
    """The classes of one version by name. Each is imported at its first use."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = homes

    def __getattr__(self, name: str) -> Any:
        home = self._homes.get(name)
        if home is None:
            raise AttributeError(name)
        return getattr(import_module(home), name)

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
