"""What a power cut may leave: disk images rebuilt from the system calls of a real process.

`strace` records every write, truncation and sync of a child together with the lines it said, in one
order. From that this module rebuilds the files as they may lie on the disk after any of these calls:
what was synced is there; of the rest nothing, everything, or any part, a write torn at a sector.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CALLS = "pwrite64,write,ftruncate,fsync,fdatasync,unlink"
STRACE = ("strace", "-f", "-y", "-qq", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o")
SECTOR_BYTES = 512

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>")
_END = re.compile(r"(\) += .*| <unfinished \.\.\.>)$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^(\d+)<([^>]*)>")


class Op(NamedTuple):
    """One thing that happened: `write`, `truncate`, `sync` or `unlink` of a file, or `said` a line."""

    kind: str
    file: str = ""
    offset: int = 0
    data: bytes = b""


def read_trace(trace: Path, directory: Path) -> Iterator[Op]:
    """The traced process's calls on the files of `directory`, and its output.

    Where calls of two threads overlap, a write counts from its beginning and a sync from its end:
    both to the disadvantage of the process.
    """
    syncing: dict[str, Op] = {}
    for line in trace.read_text().splitlines():
        if resumed := _RESUMED.match(line):
            if sync := syncing.pop(resumed.group(1), None):
                yield sync
        elif match := _CALL.match(line):
            thread, call, rest = match.groups()
            op = _op(call, _END.sub("", rest), directory)
            if op is not None and op.kind == "sync" and rest.endswith("<unfinished ...>"):
                syncing[thread] = op
            elif op is not None:
                yield op


def _op(call: str, arguments: str, directory: Path) -> Op | None:
    """A call as an `Op`, None if it is about something else."""
    if call == "unlink":
        path = Path(bytes.fromhex(_hex(arguments)).decode())
        return Op("unlink", path.name) if path.parent == directory else None
    where = _FILE.match(arguments)
    if where is None:
        return None
    if where.group(1) == "1" and call == "write":
        return Op("said", data=bytes.fromhex(_hex(arguments)))
    path = Path(_plain(where.group(2)))
    if path.parent != directory or path.name.endswith("-shm"):
        return None
    last = arguments.rpartition(",")[2]
    match call:
        case "pwrite64":
            return Op("write", path.name, int(last), bytes.fromhex(_hex(arguments)))
        case "ftruncate":
            return Op("truncate", path.name, int(last))
        case "fsync" | "fdatasync":
            return Op("sync", path.name)
        case _:
            raise ValueError(f"{call} on {path}")


class PowerDisk:
    """The files of a directory: what is safe, and what waits in the caches."""

    def __init__(self) -> None:
        self.safe: dict[str, bytearray] = {}
        self.waiting: dict[str, list[Op]] = {}

    def apply(self, op: Op) -> None:
        match op.kind:
            case "write" | "truncate":
                self.safe.setdefault(op.file, bytearray())
                self.waiting.setdefault(op.file, []).append(op)
            case "sync":
                for waiting in self.waiting.pop(op.file, []):
                    _do(self.safe[op.file], waiting)
            case "unlink":
                self.safe.pop(op.file, None)
                self.waiting.pop(op.file, None)

    def image(self, directory: Path, rng: random.Random, kept: float) -> None:
        """Write the files as a power cut may leave them; each waiting write survives with chance `kept`."""
        directory.mkdir()
        for file, safe in self.safe.items():
            content = bytearray(safe)
            for op in self.waiting.get(file, []):
                if rng.random() < kept:
                    torn = op
                    if 0 < kept < 1 and op.kind == "write":
                        sectors = rng.randrange(len(op.data) // SECTOR_BYTES + 1) * SECTOR_BYTES
                        torn = op._replace(data=op.data[:sectors] if rng.random() < 0.5 else op.data)
                    _do(content, torn)
            (directory / file).write_bytes(content)


def _do(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    content.extend(bytes(max(0, op.offset - len(content))))
    content[op.offset : op.offset + len(op.data)] = op.data


def _hex(rest: str) -> str:
    found = _TEXT.search(rest)
    return found.group(1).replace("\\x", "") if found else ""


def _plain(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path
