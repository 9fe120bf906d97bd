"""A fault at a system call: acknowledged appends are there after a kill, and one failed call stops nothing.

`make proof` strikes at every call of 500 appends; here at some of the calls of a short run.
"""

import shutil
from pathlib import Path

import pytest

from tests.support.drivers.call_walker import fate
from tests.support.models.call_faults import FAULTS, FINE, calls_of, walk
from tests.support.proofs import WHOLE
from tests.support.quick_folder import folder_for_programs

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="there is no C compiler: apt-get install gcc libc6-dev"
)

APPENDS = 500 if WHOLE else 48
TIMES = 60 if WHOLE else 4
"""How often each fault strikes."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> int:
    return calls_of(tmp_path_factory.mktemp("calls"), APPENDS)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_acknowledged_is_lost_wherever_a_call_does_not_happen(
    fault: str, calls: int, tmp_path: Path
) -> None:
    step = max(1, calls // TIMES)
    found = walk(tmp_path, fault, step, step, appends=APPENDS)
    del found["calls"]
    assert found.keys() <= FINE
    assert found["killed" if fault == "kill" else "went on"] >= TIMES // 2


def test_what_is_missing_or_there_twice_is_told() -> None:
    events = ["c0", "c0", "c1", "c1"]
    assert fate(events, {"c0": 2, "c1": 0}) == ""
    assert fate(events, {"c2": 0}) == "lost", "it was answered as a duplicate, so it must be there"
    assert fate(events, {"c1": 2}) == "lost"
    assert fate([*events, "c0", "c0"], {"c1": 4}) == "doubled"


def test_the_library_is_built_where_programs_may_be_run(tmp_path: Path) -> None:
    """Some containers mount the shared memory so that none may."""
    assert folder_for_programs("/proc", str(tmp_path)) == str(tmp_path)
    with pytest.raises(OSError, match="set TMPDIR"):
        folder_for_programs("/proc")
