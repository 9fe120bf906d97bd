"""The frames of SQLite's write-ahead log, read from its file alone.

SQLite uses the frames up to the last commit before the first bad frame: one whose salts are not the header's,
or whose checksum does not continue the previous one. Each checksum is computed from the previous *stored*
one, so frames after a damaged one still prove that they follow it.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGICS = {0x377F0682: "<", 0x377F0683: ">"}
_WORD = 0xFFFFFFFF
_PAGE_BYTES_MAX = 65_536

type _Sums = tuple[int, int]


class Frames(msgspec.Struct, frozen=True):
    """The state of the run of frames that the file's header began.

    SQLite reads `committed` frames. `bad` is the number, from 1, of the first bad frame of the run (0: none),
    and `behind` how many frames of the run follow it. `cut` says that a whole commit is among those. A power
    cut or a failed write may leave that; otherwise the file was damaged.
    """

    committed: int = 0
    bad: int = 0
    behind: int = 0
    cut: bool = False
    header_bad: bool = False


def read_frames(path: Path) -> Frames:
    """Read the write-ahead log `path`; an absent or empty one holds no frames.

    Raises:
        OSError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return Frames()
    with file:
        return _read(file)


def _read(file: BinaryIO) -> Frames:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return Frames()
    magic, _version, page_bytes, _sequence, salt_1, salt_2, sum_1, sum_2 = _HEADER.unpack(header)
    order = _MAGICS.get(magic, "<")
    sums = _checksum(order, header[:24], (0, 0))
    header_bad = magic not in _MAGICS or sums != (sum_1, sum_2)
    if header_bad and not any(header):
        return Frames()  # room made ahead of the first frame
    if not 512 <= page_bytes <= _PAGE_BYTES_MAX:  # noqa: PLR2004  SQLite's smallest page
        page_bytes = 8192
    salts = None if header_bad else (salt_1, salt_2)
    number = committed = behind = 0
    bad = 1 if header_bad else 0
    is_torn = cut = False
    while len(frame := file.read(_FRAME.size + page_bytes)) == _FRAME.size + page_bytes:
        number += 1
        page, pages, *found_salts, sum_1, sum_2 = _FRAME.unpack_from(frame)
        if salts is None and page:
            salts = (found_salts[0], found_salts[1])  # the header is damaged: the first frame names them
        is_ours = page > 0 and tuple(found_salts) == salts
        if not bad:
            sums = _frame_sums(order, frame, sums)
            if is_ours and sums == (sum_1, sum_2):
                if pages:
                    committed = number
                continue
            bad, is_torn = number, is_ours
        elif is_ours:
            behind += 1
            if pages and not cut and _frame_sums(order, frame, sums) == (sum_1, sum_2):
                cut = True
        sums = (sum_1, sum_2)
    if not (cut or is_torn):
        bad = behind = 0  # the run ended there: zeros, or frames of an earlier run
    return Frames(committed, bad, behind, cut, header_bad and cut)


def _frame_sums(order: str, frame: bytes, sums: _Sums) -> _Sums:
    return _checksum(order, frame[_FRAME.size :], _checksum(order, frame[:8], sums))


def _checksum(order: str, data: bytes, sums: _Sums) -> _Sums:
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & _WORD
        two = (two + words[at + 1] + one) & _WORD
    return one, two
