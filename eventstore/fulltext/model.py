"""What goes into an index of texts, and what comes out. Pure data."""

from collections.abc import Mapping

import msgspec

from huahuo.eventstore.fulltext.asking import Words


class Entry(msgspec.Struct, frozen=True):
    """What is to be found. `keys`: small letters and digits, of which one must name the owner.

    `part`: what a caller sifts matches by. `texts` are by field. `variant` tells apart what the texts were,
    if they change: see `TextIndex.variants`.
    """

    item: int
    part: int
    at_ms: int
    keys: tuple[str, ...]
    texts: Mapping[str, str]
    variant: int = 0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question. All of `keys` must match, none of `without`, and one of `one_of`, if there are any.

    `since_ms` is included, `until_ms` is not. `after`: the number of the last entry before.
    """

    words: Words
    keys: tuple[str, ...]
    without: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    after: int | None = None
    oldest_first: bool = False
    limit: int = 50


class Found(msgspec.Struct, frozen=True):
    """An entry that matches: its number here, by which pages are turned, and what the caller gave."""

    number: int
    item: int
    part: int
    at_ms: int


class Place(msgspec.Struct, frozen=True):
    """Up to where of which log everything is in the index."""

    log_id: str
    position: int
