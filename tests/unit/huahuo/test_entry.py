"""How the program ends: in one line, without a word, and with which exit code."""

import importlib
from collections.abc import Callable

import pytest

from huahuo.cli.entry import guarded, to_its_end
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.options import code_of_answer, code_of_failure


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


@pytest.mark.parametrize(
    ("error", "answer", "failure"),
    [
        (Damaged(7, "another body"), 1, 1),
        (LookupError("nothing ever happened to order/7"), 1, 1),
        (EventStoreError("no log"), 2, 1),
        (HuahuoError("no service"), 2, 1),
        (ConfigError("no such setting"), 2, 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_ends_a_question_and_an_order_with_these_codes(
    error: Exception, answer: int, failure: int
) -> None:
    assert (code_of_answer(error), code_of_failure(error)) == (answer, failure)
