"""The dictionaries of a service: the shipped ones, those trained into its directory, and one set by name.

One is used for compressing. All are served, because a client may still hold frames or a page that name an
older one.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from huahuo.errors import ConfigError
from huahuo.eventstore.zstd.frames import DICTIONARY_BYTES_MAX, BadDictionary, Dictionary
from huahuo.transport.protocol.compression import dictionary_path
from huahuo.transport.server.site import CACHE_FOR_EVER, Asset

SHIPPED: Final = (55193, 48058)
"""Ids of the files next to this module, oldest first. The last is used. None may ever be removed."""
SUFFIX: Final = ".zdict"
FOLDER: Final = "dictionaries"
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


def find(data: Path, named: str = "") -> Dictionaries:
    """All dictionaries. `named` is the file to use instead of the shipped one.

    Raises:
        ConfigError: a file cannot be read, is not a dictionary, or has the id of another one.
    """
    shipped = [_shipped(number) for number in SHIPPED]
    known = {dictionary.id: dictionary for dictionary in shipped}
    paths = sorted((data / FOLDER).glob(f"*{SUFFIX}"))[-FILES_MAX:]
    used = shipped[-1]
    for path in (*paths, *([Path(named)] if named else [])):
        dictionary = read(path)
        if known.setdefault(dictionary.id, dictionary) != dictionary:
            raise ConfigError(f"{path}: another dictionary has the id {dictionary.id} already")
        if named and path == Path(named):
            used = dictionary
    return Dictionaries(used, known)


def read(path: Path) -> Dictionary:
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
