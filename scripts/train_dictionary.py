"""Trains the dictionary that huahuo ships, from made-up events and a fixed seed: no user's data.

Run `python scripts/train_dictionary.py`; it writes `huahuo/dictionaries/ID.zdict`. If ID is new, add it
at the end of `SHIPPED` in `huahuo/dictionaries/zstd_dictionaries.py`, and leave the older files.
"""

import sys
from pathlib import Path

from huahuo.app.application import standard
from huahuo.dictionaries.zstd_dictionaries import SIZE_BYTES, mixed, samples
from huahuo.eventstore.zstd_frames import Dictionary
from huahuo.eventstore.zstd_training import TRIES, train

SEED = 20261124


def made_up(seed: int, size_bytes: int = SIZE_BYTES, tries: int = TRIES) -> Dictionary:
    """A dictionary trained on the random events of plug-ins."""
    return train(samples(mixed(standard(), seed)), size_bytes, tries)


if __name__ == "__main__":
    dictionary = made_up(SEED)
    folder = Path(__file__).resolve().parent.parent / "huahuo" / "dictionaries"
    path = folder / f"{dictionary.id}.zdict"
    path.write_bytes(dictionary.data)
    sys.stdout.write(f"{path.relative_to(folder.parent.parent)}: {len(dictionary.data)} bytes\n")
