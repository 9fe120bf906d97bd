"""The program ends with one line where a package is missing, and without a word after Ctrl-C."""

import importlib
from collections.abc import Callable

import pytest

from huahuo.cli.entry import guarded, to_its_end


def bring(module: str) -> Callable[[], None]:
    def run() -> None:
        importlib.import_module(module)

    return run


def test_a_missing_package_is_named_with_what_to_run() -> None:
    with pytest.raises(SystemExit, match=r"no_such_package is not installed.*make setup.*pip install"):
        guarded(bring("no_such_package.inner"))


def test_a_module_of_our_own_that_is_missing_is_a_fault_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError):
        guarded(bring("huahuo.no_such_module"))


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(2), 2)])
def test_ctrl_c_ends_it_without_a_word_also_before_a_command_runs(error: BaseException, code: int) -> None:
    def run() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        to_its_end(run)
    assert ended.value.code == code


def test_a_connection_that_breaks_is_no_closed_pipe() -> None:
    def run() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        to_its_end(run)
