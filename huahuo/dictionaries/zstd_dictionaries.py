"""Dictionaries for the compressed protocol: the shipped ones, trained ones, and the training.

One is used for compressing. All are served, because a client may still hold frames or a page that name an
older one. A dictionary is public, served without sign-in, so it must not contain text that one user
wrote. `Masker` (pure) keeps a text, a value or a member's name compared without regard to its digits,
only if it occurs in the events of at least `STREAMS_MIN` streams; any other is replaced by as many random
letters, and every digit by a random one.

Samples for training are messages as on the wire: single events, as in live delivery, and some runs. With
the same version of zstd, the same samples give the same dictionary.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from huahuo.actors.plugins.plugin import Plugin
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.eventstore.zstd_frames import DICTIONARY_BYTES_MAX, BadDictionary, Dictionary
from huahuo.eventstore.zstd_training import TRIES, Samples, train
from huahuo.transport.http.site import CACHE_FOR_EVER, Asset
from huahuo.transport.protocol.dialects import dictionary_path
from huahuo.transport.protocol.frames import events_message

SHIPPED: Final = (55193, 48058)
"""Ids of the files next to this module, oldest first. The last is used. None may ever be removed."""
SUFFIX: Final = ".zdict"
DICTIONARY_FOLDER: Final = "dictionaries"
"""Folder in the data directory to which `huahuo dictionary train` writes."""
FILES_MAX: Final = 64


class Dictionaries(msgspec.Struct, frozen=True):
    """The dictionary `used` for compressing, and all of them by id."""

    used: Dictionary
    known: dict[int, Dictionary]

    def assets(self) -> dict[str, Asset]:
        """Path on the server -> file. They are public: pages of other origins may read them."""
        return {
            dictionary_path(number): Asset.of(
                "application/octet-stream", dictionary.data, CACHE_FOR_EVER, any_origin=True
            )
            for number, dictionary in self.known.items()
        }


def find_dictionaries(data: Path, named: str = "") -> Dictionaries:
    """All dictionaries. `named` is the file to use instead of the shipped one.

    Raises:
        ConfigError: a file cannot be read, is not a dictionary, or has the id of another one.
    """
    shipped = [_shipped(number) for number in SHIPPED]
    known = {dictionary.id: dictionary for dictionary in shipped}
    paths = sorted((data / DICTIONARY_FOLDER).glob(f"*{SUFFIX}"))[-FILES_MAX:]
    used = shipped[-1]
    for path in (*paths, *([Path(named)] if named else [])):
        dictionary = read_dictionary(path)
        if known.setdefault(dictionary.id, dictionary) != dictionary:
            raise ConfigError(f"{path}: another dictionary has the id {dictionary.id} already")
        if named and path == Path(named):
            used = dictionary
    return Dictionaries(used, known)


def read_dictionary(path: Path) -> Dictionary:
    """A dictionary from a file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return Dictionary.of(file.read(DICTIONARY_BYTES_MAX + 1))
    except OSError as error:
        raise ConfigError(f"cannot read the dictionary {path}: {error.strerror}") from None
    except BadDictionary as error:
        raise ConfigError(f"{path}: {error}") from None


def _shipped(number: int) -> Dictionary:
    return Dictionary.of((files(__package__) / f"{number}{SUFFIX}").read_bytes())


STREAMS_MIN: Final = 5
TEXTS_MAX: Final = 200_000
"""Distinct texts that are remembered. Texts seen after that are masked."""
_TEXT_CHARS_MAX = 120
_DIGIT = re.compile(r"[0-9]")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Masker:
    """Call `saw` for all events, then `masked` for each. `chance` gives random numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._streams_of: dict[str, set[str]] = {}

    def saw(self, stream: str, body: bytes) -> None:
        """Count the texts in an event of `stream`."""
        for text in _texts(msgspec.json.decode(body)):
            if len(text) > _TEXT_CHARS_MAX:
                continue
            shape = _DIGIT.sub("0", text)
            streams = self._streams_of.get(shape)
            if streams is None:
                if len(self._streams_of) >= TEXTS_MAX:
                    continue
                streams = self._streams_of[shape] = set()
            if len(streams) < STREAMS_MIN:
                streams.add(stream)

    def masked(self, body: bytes) -> bytes:
        """The event with random characters in place of private data."""
        return msgspec.json.encode(self._value(msgspec.json.decode(body)))

    def _value(self, value: Any) -> Any:
        match value:
            case bool() | None:
                return value
            case str():
                return self._text(value)
            case int():
                return self._number(len(str(abs(value)))) * (-1 if value < 0 else 1)
            case float():
                return round(100 * self._chance(), 2)
            case list():
                return [self._value(item) for item in value]
            case _:
                return {self._text(name): self._value(item) for name, item in value.items()}

    def _text(self, text: str) -> str:
        if _MOMENT.fullmatch(text):
            return self._moment(int(text[:4]))
        known = self._streams_of.get(_DIGIT.sub("0", text), ())
        if len(known) >= STREAMS_MIN:
            return _DIGIT.sub(lambda _: str(self._below(10)), text)
        return "".join(_LETTERS[self._below(len(_LETTERS))] for _ in text)

    def _moment(self, year: int) -> str:
        """A random time in that year."""
        month, day, hour = 1 + self._below(12), 1 + self._below(28), self._below(24)
        minute, second, milli = self._below(60), self._below(60), self._below(1000)
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"

    def _number(self, digits: int) -> int:
        least = 10 ** (digits - 1) if digits > 1 else 0
        return least + self._below(10**digits - least)

    def _below(self, limit: int) -> int:
        return int(self._chance() * limit)


def _texts(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)


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
