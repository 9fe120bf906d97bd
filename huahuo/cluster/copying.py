"""A copy of a replica for a node that joins, made in a process of its own so that no client waits for it.

python -m huahuo.cluster.copying DATABASE TARGET
"""

import os
import sys
from pathlib import Path

from huahuo.eventstore.care.backup import copy_file
from huahuo.eventstore.errors import EventStoreError

_NICE = 5


def main() -> None:
    """See the module."""
    source, target = map(Path, sys.argv[1:])
    os.nice(_NICE)
    try:
        copy_file(source, target)
    except (EventStoreError, OSError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
