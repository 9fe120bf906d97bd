"""Run pykka's own test-suite against `LoopActor`, from the source distribution of the installed pykka.

    python -m tests.support.drivers.pykka_suite [DIR]

DIR holds the unpacked source distribution (the folder with `tests/`); without it the distribution is
downloaded into a temporary folder. pykka's suite is parametrised over a record of a runtime: a copy of
it gets one more record. Needs pytest-mock. Not part of the normal suite, which uses no network.
"""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]

_RECORD = """

from huahuo.actors import LoopActor, LoopFuture
from huahuo.actors import Runtime as _LoopRuntime

LoopActor.runtime = _LoopRuntime()
LoopActor.log_exception_text = True
RUNTIMES["loop"] = pytest.param(
    Runtime(
        name="loop",
        actor_class=LoopActor,
        event_class=threading.Event,
        future_class=LoopFuture,
        sleep_func=time.sleep,
    ),
    id="loop",
)
"""

_ANCHOR = '@pytest.fixture(scope="session", params=RUNTIMES.values())'


class SuiteUnavailableError(Exception):
    """The suite cannot be installed or cannot run here; the message says why."""


def run(source: Path, *pytest_arguments: str) -> int:
    """Run the suite in `source`, an unpacked source distribution, and return pytest's exit status.

    Raises:
        SuiteUnavailableError: pytest-mock is missing, or the suite is not as this script knows it.
    """
    if importlib.util.find_spec("pytest_mock") is None:
        raise SuiteUnavailableError("pytest-mock is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        suite = Path(scratch) / "tests"
        shutil.copytree(source / "tests", suite)
        conftest = suite / "conftest.py"
        text = conftest.read_text(encoding="utf-8")
        if text.count(_ANCHOR) != 1:
            raise SuiteUnavailableError("the suite's conftest.py has no table of runtimes to add to")
        conftest.write_text(text.replace(_ANCHOR, f"{_RECORD}\n\n{_ANCHOR}"), encoding="utf-8")
        (Path(scratch) / "pytest.ini").write_text(f"[pytest]\npythonpath = . {_ROOT}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *pytest_arguments]
        return subprocess.run(command, cwd=scratch, check=False).returncode


def download(into: Path) -> Path:
    """Fetch and unpack the source distribution of the installed pykka.

    Raises:
        SuiteUnavailableError: it cannot be fetched.
    """
    wanted = f"pykka=={importlib.metadata.version('pykka')}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", wanted]
    if subprocess.run(command, cwd=into, check=False).returncode != 0:
        raise SuiteUnavailableError(f"the source distribution of {wanted} cannot be had")
    archive = next(into.glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(into, filter="data")
    return next(path.parent for path in into.glob("*/tests"))


def main(arguments: list[str]) -> int:
    """Run the suite; a suite that cannot be had is said loudly and is a failure of its own (status 3)."""
    try:
        if arguments:
            return run(Path(arguments[0]), *arguments[1:])
        with tempfile.TemporaryDirectory() as scratch:
            return run(download(Path(scratch)))
    except SuiteUnavailableError as why:
        print(f"PYKKA'S SUITE WAS NOT RUN: {why}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
