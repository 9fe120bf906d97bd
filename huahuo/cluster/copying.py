"""A copy of a replica for a node that joins, made in a process of its own so that no client waits for it.

    python -m huahuo.cluster.copying DATABASE TARGET

It prints one JSON object: what the tables of the copy sum up to.
"""

import os
import sys
from pathlib import Path

import msgspec

from huahuo.eventstore.care.backup import copy_file, row_sums
from huahuo.eventstore.errors import EventStoreError

_NICE = 5


def main() -> None:
    """See the module."""
    source, target = map(Path, sys.argv[1:])
    os.nice(_NICE)
    try:
        copy_file(source, target)
        sums = row_sums(target)
    except (EventStoreError, OSError) as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(msgspec.json.encode(sums).decode())


if __name__ == "__main__":
    main()
