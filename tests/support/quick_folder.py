"""Where files that live for one run are quickest."""

from pathlib import Path


def quick_folder() -> str | None:
    """The folder of shared memory. None, for the ordinary temporary one, where there is none."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None
