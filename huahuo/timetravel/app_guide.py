"""The guide of an application's entities for `judge.py`: an application's own version under test.

The application is named by the environment, and comes from the module path, as all versions do. huahuo is the
running one. What is compared are states: commands of an application cannot be derived from its events.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from huahuo.actors.domain.fold import EntityFold, Held
from huahuo.actors.domain.storable import KIND, as_json
from huahuo.app.application import load
from huahuo.eventstore.model import StoredEvent

APP: Final = "HUAHUO_APP"
"""The variable that names the application, as MODULE:NAME."""
PACKAGE = ""
"""Part of the paths whose lines of code are named in reports: the application's. `domain` sets it."""
PLUMBING: Final = frozenset[str]()
STORING: Final = frozenset[str]()


def domain(path: Iterable[str]) -> Any:
    """The application of the version on the module path. Raises ConfigError: it cannot be imported."""
    global PACKAGE  # noqa: PLW0603  the judge reads it after this
    del path
    name = os.environ[APP]
    app = load(name)
    file = str(sys.modules[name.partition(":")[0]].__file__)
    module = name.partition(":")[0]
    PACKAGE = module.partition(".")[0] if "." in module else os.path.basename(file)  # noqa: PTH119  a text
    return SimpleNamespace(file=file, StoredEvent=StoredEvent, catalog=app.entities.catalog)


def deciders(classes: Any) -> Mapping[str, EntityFold]:
    """The folds by kind."""
    return {kind: EntityFold(entity) for kind, entity in classes.catalog.by_kind.items()}


def derive(_domain: Any, events: list[StoredEvent]) -> Any:
    """No command: its fields are not in the log."""
    return SimpleNamespace(count=len(events), command=None, wanted=0)


def folded(stream: str) -> bool:
    """Whether a stream of one of these kinds is an entity's."""
    kind, _, key = stream.partition("/")
    return bool(KIND.fullmatch(kind) and key)


def shown(state: Held, _event: StoredEvent) -> Any:
    """The state, field by field. Sets are sorted: each version runs in a process of its own."""
    return msgspec.Raw(as_json(state.state))
