"""Writes `.msg` files: a compound file (MS-CFB, version 3) with the streams that a test names."""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime

_SECTOR, _MINI, _BELOW = 512, 64, 4096
_END, _FREE, _FAT, _NONE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD, 0xFFFFFFFF


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A file with these streams, by path."""
    tree: dict[str, list[str]] = {"": []}
    for path in streams:
        parts = path.split("/")
        for depth in range(len(parts)):
            here = "/".join(parts[: depth + 1])
            siblings = tree.setdefault("/".join(parts[:depth]), [])
            if here not in siblings:
                siblings.append(here)
    numbers = {"": 0} | {path: n for n, path in enumerate((p for s in tree.values() for p in s), start=1)}
    sectors: list[bytes] = []
    table: list[int] = []
    mini, mini_table = b"", list[int]()

    def put(data: bytes) -> int:
        """Store in sectors; gives the first one."""
        pieces = [data[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(data), _SECTOR)]
        first = len(sectors)
        table.extend([*range(first + 1, first + len(pieces)), _END])
        sectors.extend(pieces)
        return first

    starts: dict[str, int] = {}
    for path, data in streams.items():
        if len(data) >= _BELOW:
            starts[path] = put(data)
            continue
        count = -(-len(data) // _MINI)
        starts[path] = len(mini_table) if count else _END
        mini_table += [*range(len(mini_table) + 1, len(mini_table) + count), _END][: max(count, 0)]
        mini += data.ljust(count * _MINI, b"\0")
    root = put(mini) if mini else _END
    entries = b""
    for path, number in sorted(numbers.items(), key=lambda one: one[1]):
        name = (path.rpartition("/")[2] or "Root Entry").encode("utf-16-le") + b"\0\0"
        siblings = tree[path.rpartition("/")[0]] if path else []
        right = siblings[siblings.index(path) + 1 :][:1] if path else []
        child = tree.get(path, [])[:1]
        kind = 5 if not path else 2 if path in streams else 1
        start, size = (root, len(mini)) if not path else (starts.get(path, 0), len(streams.get(path, b"")))
        links = (_NONE, numbers[right[0]] if right else _NONE, numbers[child[0]] if child else _NONE)
        entries += struct.pack("<64sHBB3I36xIQ", name, len(name), kind, 1, *links, start, size)
        assert len(entries) == 128 * (number + 1)
    directory = put(entries)
    minis = put(struct.pack(f"<{len(mini_table)}I", *mini_table).ljust(_SECTOR, b"\xff")) if mini else _END
    fats = 1
    while fats * (_SECTOR // 4) < len(sectors) + fats:
        fats += 1
    places = range(len(sectors), len(sectors) + fats)
    table += [_FAT] * fats
    numbered = struct.pack(f"<{len(table)}I", *table).ljust(fats * _SECTOR, b"\xff")
    header = bytes.fromhex("d0cf11e0a1b11ae1").ljust(24, b"\0") + struct.pack("<5H6x", 62, 3, 0xFFFE, 9, 6)
    header += struct.pack("<9I", 0, fats, directory, 0, _BELOW, minis, int(bool(mini)), _END, 0)
    header += struct.pack("<109I", *places, *[_FREE] * (109 - fats))
    return header + b"".join(sectors) + numbered


def text(field: str, value: str) -> tuple[str, bytes]:
    """A field with a text."""
    return f"__substg1.0_{field}001F", value.encode("utf-16-le")


def sent(moment: datetime, *, attached: bool = False) -> bytes:
    """The stream of fixed values, with the time at which the mail was sent."""
    ticks = int((moment - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()) * 10_000_000
    return bytes(24 if attached else 32) + struct.pack("<IIQ", 0x00390040, 6, ticks)


FIXED = "__properties_version1.0"


def attachment(number: int, *fields: tuple[str, bytes]) -> dict[str, bytes]:
    """The streams of an attachment."""
    return {f"__attach_version1.0_#{number:08X}/{name}": data for name, data in fields}
