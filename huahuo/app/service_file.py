"""`DIR/service.json`: the address of the service that runs on a directory, for the other commands."""

import os
from pathlib import Path

import msgspec

FILE = "service.json"


class ServiceAddress(msgspec.Struct, frozen=True):
    """A running service: its URL and its process id."""

    url: str
    pid: int


def write(directory: Path, url: str) -> None:
    """Write the address of this process (mode 0600, replaced atomically)."""
    temporary = directory / (FILE + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(ServiceAddress(url, os.getpid())) + b"\n")
    temporary.replace(directory / FILE)


def read(directory: Path) -> ServiceAddress | None:
    """The content of the file, None if there is none. It is stale if the service was killed."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServiceAddress) if path.is_file() else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remove(directory: Path) -> None:
    """Remove the file at a regular stop."""
    (directory / FILE).unlink(missing_ok=True)
