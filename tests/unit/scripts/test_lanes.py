"""A lane of tests: what its process tells, and how it ended."""

import os
import sys
from pathlib import Path

from scripts.lanes import PROGRESS, Lane, Work
from tests.support.patience import until

IN_PARTS = """
import sys, time
from pathlib import Path
progress, folder, *parts = sys.argv[1:]
with open(progress, "ab", buffering=0) as said:
    for number, part in enumerate(parts):
        while not Path(folder, str(number)).exists():
            time.sleep(0.01)
        said.write(bytes.fromhex(part))
        Path(folder, f"said {number}").touch()
"""
PARTS = (b"collected 1\nfai", b"led test_\xc3", b'\xa9\ndone\noutcomes {"failed"', b": 1}\n")


def test_a_line_that_comes_in_parts_is_read_once_it_is_whole(tmp_path: Path) -> None:
    command = (sys.executable, "-c", IN_PARTS, PROGRESS, str(tmp_path), *(part.hex() for part in PARTS))
    lane = Lane(Work("one", command, os.environ), tmp_path, tmp_path)
    failed: list[str] = []
    for number in range(len(PARTS)):
        (tmp_path / str(number)).touch()
        until((tmp_path / f"said {number}").exists)
        failed += lane.look()
    until(lambda: lane.look() == [] and lane.code is not None)
    lane.end()
    assert (failed, lane.count, lane.done, lane.code) == (["test_é"], 1, 1, 0)
    assert lane.outcomes == {"failed": 1}
