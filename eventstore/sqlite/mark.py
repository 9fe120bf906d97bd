"""The last durable position of a log, noted outside SQLite's files: those must reach at least this far.

SQLite silently drops everything after the first frame of its write-ahead log that fails its checksum. So
after each commit, and before anybody is told of it, the writer notes the last position with its link of the
chain in `log.mark`. The note is not synced: after a power cut it may be old, torn or missing, but it is
never ahead of the log.

The writer alternates between two slots, so that a torn write leaves the other slot intact:

    magic (4) | log id (24) | position (8) | chain (32) | counters (8) | CRC-32 (4)

`counters` is the sum of the next numbers of all counters. Counters never go back, so a log whose sum is
lower has lost the newest state of one.
"""

import os
import struct
import zlib
from pathlib import Path

import msgspec
import structlog

MARK = "log.mark"
_MAGIC = b"hhm1"
_SLOT = struct.Struct("<4s24sq32sQI")
_PLACE = struct.Struct("<q32sQ")
"""The part of a slot with position, chain and counters."""
_CRC = struct.Struct("<I")
_SLOTS_AT = (0, 512)
_FILE_BYTES = 1024

_log = structlog.get_logger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """The log `log_id` reached at least `position`, whose link of the chain is `chain`.

    `counters` is the least sum of the next numbers of all counters, 0 if it was not noted.
    """

    log_id: str
    position: int
    chain: bytes
    counters: int = 0


class MarkFile:
    """The open mark of a log that this process writes."""

    def __init__(self, path: Path, mark: Mark) -> None:
        """Create or overwrite the file durably, with `mark` in both slots.

        Raises:
            OSError: it cannot be written.
        """
        self._path = path
        self._head = _head(mark.log_id)
        self._head_crc = zlib.crc32(self._head)
        self._turn = 0
        self._failed = False
        self._file = self._made(self._slot(mark.position, mark.chain, mark.counters))

    def _made(self, slot: bytes) -> int:
        """Create or overwrite the file with `slot`. Its descriptor."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The whole file at once, so that later writes need no more space on a full disk.
            half = slot.ljust(_SLOTS_AT[1], b"\0")
            os.pwrite(file, half + half, 0)
            os.ftruncate(file, _FILE_BYTES)
            os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        return file

    def make_again_if_gone(self, position: int, chain: bytes, counters: int) -> None:
        """Call it when the directory has changed: a note in a deleted file is not found after a crash."""
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            file = self._made(self._slot(position, chain, counters))
        except OSError as error:
            _log.warning("mark_not_written", reason=error.strerror, position=position)
            return
        os.close(self._file)
        self._file = file
        _log.warning("mark_made_again", path=str(self._path), position=position)

    def write(self, position: int, chain: bytes, counters: int) -> None:
        """Note what is durable. A failure is only logged, once: the earlier note is still true."""
        self._turn ^= 1
        try:
            os.pwrite(self._file, self._slot(position, chain, counters), _SLOTS_AT[self._turn])
        except OSError as error:
            if not self._failed:
                _log.warning("mark_not_written", reason=error.strerror, position=position)
            self._failed = True
        else:
            self._failed = False

    def _slot(self, position: int, chain: bytes, counters: int) -> bytes:
        place = _PLACE.pack(position, chain, counters)
        return self._head + place + _CRC.pack(zlib.crc32(place, self._head_crc))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_marks(directory: Path) -> list[Mark] | None:
    """The readable notes of a directory, the highest position first. None if there is no file."""
    try:
        data = (directory / MARK).read_bytes()[:_FILE_BYTES]
    except FileNotFoundError:
        return None
    except OSError:
        return []
    found = [mark for at in _SLOTS_AT if (mark := _decode(data[at:])) is not None]
    return sorted(found, key=lambda mark: mark.position, reverse=True)


def _head(log_id: str) -> bytes:
    return struct.pack("<4s24s", _MAGIC, log_id.encode())


def _decode(slot: bytes) -> Mark | None:
    if len(slot) < _SLOT.size:
        return None
    magic, log_id, position, chain, counters, crc = _SLOT.unpack_from(slot)
    if magic != _MAGIC or crc != zlib.crc32(slot[: _SLOT.size - _CRC.size]):
        return None
    return Mark(log_id.rstrip(b"\0").decode(errors="replace"), position, chain, counters)
