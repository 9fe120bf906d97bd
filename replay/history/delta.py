"""Differences of two states in their JSON form, and paths into one. Pure.

A path is written as `check.progress`, `emails.17.status` or `cursors["imap.example.org"].INBOX.uid`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

type Path = tuple[str, ...]

_NAME: Final = re.compile(r"[^.\[\]\"]+")
_PATH_CHARS_MAX: Final = 500


class Missing:
    """The type of `MISSING`, which marks an absent value, as opposed to null."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()


class Change(msgspec.Struct, frozen=True):
    """One difference. `before` or `after` is `MISSING` if the value is absent on that side."""

    path: Path
    before: Any
    after: Any

    def plain(self) -> dict[str, Any]:
        """As JSON, without a side that is missing."""
        sides = {"before": self.before, "after": self.after}
        return {"path": written(self.path)} | {k: v for k, v in sides.items() if v is not MISSING}


def differences(before: Any, after: Any, path: Path = ()) -> list[Change]:
    """The differences, leaf by leaf. Lists are compared index by index."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [*before, *(name for name in after if name not in before)]
        return [
            change
            for name in names
            for change in differences(before.get(name, MISSING), after.get(name, MISSING), (*path, str(name)))
        ]
    if isinstance(before, list) and isinstance(after, list):
        return differences(dict(enumerate(before)), dict(enumerate(after)), path)
    if type(before) is type(after) and before == after:
        return []
    return [Change(path, before, after)]


def parse_path(text: str) -> Path:
    """Parse a path.

    Raises:
        ValueError: `text` is not a path.
    """
    if len(text) > _PATH_CHARS_MAX:
        raise ValueError(f"a path has at most {_PATH_CHARS_MAX} characters")
    steps: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "[":
            end = text.find('"]', at + 2) if text[at : at + 2] == '["' else text.find("]", at)
            if end < 0:
                raise ValueError(f"no ] in {text[at:]!r}")
            quoted = text[at : at + 2] == '["'
            steps.append(text[at + 2 : end] if quoted else text[at + 1 : end])
            at = end + (2 if quoted else 1)
        else:
            if text[at] == "." and steps:
                at += 1
            match = _NAME.match(text, at)
            if match is None:
                raise ValueError(f"not a path: {text!r}")
            steps.append(match.group())
            at = match.end()
    if not steps:
        raise ValueError("an empty path")
    return tuple(steps)


def written(path: Path) -> str:
    """A path as text that `parse_path` reads."""
    text = ""
    for step in path:
        if _NAME.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def look(state: Any, path: Path) -> Any:
    """The value at `path`, `MISSING` if there is none."""
    for step in path:
        if isinstance(state, Mapping):
            state = state.get(step, MISSING)
        elif isinstance(state, list) and step.isdecimal() and int(step) < len(state):
            state = state[int(step)]
        else:
            return MISSING
    return state


def touches(change: Change, path: Path) -> bool:
    """Whether `change` is at `path`, above it or below it."""
    shared = min(len(change.path), len(path))
    return change.path[:shared] == path[:shared]
