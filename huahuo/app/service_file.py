"""`DIR/service.json`: where the service over a directory listens, for the other commands."""

import os
from pathlib import Path

import msgspec

FILE = "service.json"


class ServiceAddress(msgspec.Struct, frozen=True):
    """A running service: its URL and its process."""

    url: str
    pid: int


def write(directory: Path, url: str) -> None:
    """Say where this process listens (mode 0600, replaced in one step)."""
    temporary = directory / (FILE + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(ServiceAddress(url, os.getpid())) + b"\n")
    temporary.replace(directory / FILE)


def read(directory: Path) -> ServiceAddress | None:
    """What the file says, None if there is none. A killed service leaves it: the address may be dead."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=ServiceAddress)
    except (OSError, msgspec.MsgspecError):
        return None


def remove(directory: Path) -> None:
    """Forget the address at a proper stop."""
    (directory / FILE).unlink(missing_ok=True)
