"""Labels of a mailbox: tags, a note and the group it belongs to. Pure; a violation is a `Refusal`.

A user writes them, and they are events: they stay in the log after the mailbox is gone, so no label should
hold a secret.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import UNSET

from huahuo.actors.plugins.calls import Refusal
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.words import zh

TAGS_MAX: Final = 20
"""Of one mailbox."""
TAG_CHARS_MAX: Final = 32
GROUP_CHARS_MAX: Final = 64
NOTE_CHARS_MAX: Final = 1_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class Labels(msgspec.Struct, frozen=True):
    """A change of labels. None: unchanged; an empty note or group takes it off."""

    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    note: str | None = None
    group: str | None = None


def tidied(labels: Labels) -> Labels:
    """The same without white space at the ends, and each tag once."""
    return Labels(
        _tidied(labels.add_tags),
        _tidied(labels.remove_tags),
        None if labels.note is None else labels.note.strip(),
        None if labels.group is None else labels.group.strip(),
    )


def refuse_labels(labels: Labels) -> Refusal | None:
    """The refusal of tidied labels, None if they are acceptable."""
    for name, tags in (("add_tags", labels.add_tags), ("remove_tags", labels.remove_tags)):
        if any(not 0 < len(tag) <= TAG_CHARS_MAX or _CONTROL.search(tag) for tag in tags):
            return Refusal("invalid_field", zh.TAG_CHARS.format(TAG_CHARS_MAX), name)
    if labels.group is not None and (len(labels.group) > GROUP_CHARS_MAX or _CONTROL.search(labels.group)):
        return Refusal("invalid_field", zh.GROUP_CHARS.format(GROUP_CHARS_MAX), "group")
    note = labels.note or ""
    if len(note) > NOTE_CHARS_MAX or _CONTROL_BUT_LINES.search(note):
        return Refusal("invalid_field", zh.NOTE_CHARS.format(NOTE_CHARS_MAX), "note")
    if labels == Labels():
        return Refusal("invalid_field", zh.NO_LABELS, "add_tags")
    return None


def refuse_group(group: str) -> Refusal | None:
    """The refusal of a group that must have a name, None if it is acceptable."""
    if not 0 < len(group) <= GROUP_CHARS_MAX or _CONTROL.search(group):
        return Refusal("invalid_field", zh.GROUP_NAME.format(GROUP_CHARS_MAX), "group")
    return None


def changes_of(row: Row, labels: Labels) -> dict[str, tuple[str, ...] | str]:
    """What tidied labels change about a row, by the names of its fields. Empty: nothing."""
    tags, note, group = _plain(row)
    removed = {tag.casefold() for tag in labels.remove_tags}
    there = {tag.casefold() for tag in tags}
    after = tuple(tag for tag in tags if tag.casefold() not in removed) + tuple(
        tag for tag in labels.add_tags if tag.casefold() not in there and tag.casefold() not in removed
    )
    changed: dict[str, tuple[str, ...] | str] = {}
    if after != tags:
        changed["tags"] = after
    if labels.note is not None and labels.note != note:
        changed["note"] = labels.note
    if labels.group is not None and labels.group != group:
        changed["group"] = labels.group
    return changed


def too_many(changed: dict[str, tuple[str, ...] | str]) -> bool:
    """Whether a mailbox would have more tags than it may."""
    return len(changed.get("tags", ())) > TAGS_MAX


def _plain(row: Row) -> tuple[tuple[str, ...], str, str]:
    return (
        () if row.tags is UNSET else row.tags,
        "" if row.note is UNSET else row.note,
        "" if row.group is UNSET else row.group,
    )


def _tidied(tags: Iterable[str]) -> tuple[str, ...]:
    by_key = {tag.strip().casefold(): tag.strip() for tag in reversed(tuple(tags))}
    return tuple(reversed(by_key.values()))
