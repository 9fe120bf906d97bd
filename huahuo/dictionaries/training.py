"""Training a dictionary: from random events, or from the masked events of a log.

Samples are messages as on the wire: single events, as in live delivery, and some runs. With the same version
of zstd, the same samples give the same dictionary.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from huahuo.actors.plugins.plugin import Plugin
from huahuo.dictionaries.masking import Masker
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.eventstore.zstd.frames import BadDictionary, Dictionary
from huahuo.eventstore.zstd.training import TRIES, Samples, train
from huahuo.transport.protocol.frames import events_message

SIZE_BYTES: Final = 4096
"""A larger dictionary does not compress this service's events better: see `python -m bench wire`."""
_RUN = 16
MADE_UP_STREAMS: Final = 250
EVENTS_PER_STREAM: Final = 128
STREAMS_MAX: Final = 500
EVENTS_MAX: Final = 32_000
_STREAM_BYTES_MAX = 8 << 20
_EVENTS_MIN = 200
_PUBLIC_STREAMS = 40
_FOLLOWED = ("user/", "group/", "system")
"""Prefixes of the streams that clients follow and that are compressed."""


class Part(NamedTuple):
    """Some events of a stream. The first one has the number `first`."""

    stream: str
    first: int
    bodies: Sequence[bytes]


def made_up(
    plugins: Sequence[Plugin], seed: int, size_bytes: int = SIZE_BYTES, tries: int = TRIES
) -> Dictionary:
    """A dictionary trained on the random events of plug-ins."""
    return train(samples(mixed(plugins, seed)), size_bytes, tries)


async def from_log(
    plugins: Sequence[Plugin], directory: Path, seed: int, size_bytes: int = SIZE_BYTES, tries: int = TRIES
) -> Dictionary:
    """A dictionary for events like the newest ones of this log. Reads only; a service may run meanwhile.

    Raises:
        HuahuoError: there is no log, or too little in it.
    """
    try:
        view = await SqliteView.open(directory)
        try:
            parts = [part async for part in _newest(view)]
        finally:
            await view.close()
        if sum(len(part.bodies) for part in parts) < _EVENTS_MIN:
            raise HuahuoError(f"too few events to train from: at least {_EVENTS_MIN} are needed")
        return train(samples(_masked(plugins, parts, seed)), size_bytes, tries)
    except (EventStoreError, BadDictionary) as error:
        raise HuahuoError(str(error)) from error


def mixed(plugins: Sequence[Plugin], seed: int, streams: int = MADE_UP_STREAMS) -> Iterator[Part]:
    """Random streams, as many of each plug-in that has samples."""
    chance = FakeAmbient(seed).random
    able = [plugin for plugin in plugins if plugin.samples(seed) is not None]
    for number in range(streams if able else 0):
        mix = able[number % len(able)].samples(seed * 1_000_003 + number)
        first = 1 + int(chance() * 20_000)
        if mix is not None:
            yield Part(mix.stream, first, list(islice(mix.bodies(), EVENTS_PER_STREAM)))


def samples(parts: Iterable[Part]) -> Samples:
    """Messages of single events and of runs. The common ones are of the few types that make up half."""
    alone: list[tuple[str, bytes]] = []
    runs: list[bytes] = []
    for stream, first, bodies in parts:
        alone += [(_type(body), events_message(stream, first + at, [body])) for at, body in enumerate(bodies)]
        runs += [
            events_message(stream, first + at, bodies[at : at + _RUN])
            for at in range(0, len(bodies) - _RUN + 1, _RUN)
        ]
    common: set[str] = set()
    left = len(alone) / 2
    for kind, count in Counter(kind for kind, _message in alone).most_common():
        if left > 0:
            common.add(kind)
            left -= count
    return Samples(
        [message for kind, message in alone if kind in common], [message for _kind, message in alone], runs
    )


class _Typed(msgspec.Struct):
    type: str = ""


def _type(body: bytes) -> str:
    return msgspec.json.decode(body, type=_Typed).type


async def _newest(view: SqliteView) -> AsyncIterator[Part]:
    """The newest events of the longest streams."""
    names = [name for prefix in _FOLLOWED for name in view.streams(prefix)]
    names.sort(key=lambda name: (-view.head(name).seq, name))
    del names[STREAMS_MAX:]
    for name in names:
        count = EVENTS_MAX // len(names)
        after = max(0, view.head(name).seq - count)
        events = await view.read(name, after, events_max=count, bytes_max=_STREAM_BYTES_MAX)
        if events:
            yield Part(name, events[0].seq, [event.body for event in events])


def _masked(plugins: Sequence[Plugin], parts: Sequence[Part], seed: int) -> Iterator[Part]:
    """The parts with private data masked, also in names of streams.

    The masker sees random streams too, because the texts that they share are public.
    """
    ambient = FakeAmbient(seed)
    masker = Masker(ambient.random)
    for part in parts:
        for body in part.bodies:
            masker.saw(part.stream, body)
    for part in mixed(plugins, seed, _PUBLIC_STREAMS):
        for body in part.bodies:
            masker.saw(f"made up: {part.stream}", body)
    for part in parts:
        kind, slash, _name = part.stream.partition("/")
        number = 1 + int(ambient.random() * 5000)
        name = f"{kind}/{number}" if slash else kind
        yield Part(name, part.first, [masker.masked(body) for body in part.bodies])
