"""Bytes of strangers give a value or an error of their own, soon: nothing else, from any reader."""

import sys
from itertools import islice

import pytest

from tests.support.fuzz.__main__ import fault_of, inputs, kept
from tests.support.fuzz.guided import functions_of, modules_of
from tests.support.fuzz.targets import TARGETS, Target
from tests.support.proofs import WHOLE

INPUTS = 20_000 if WHOLE else 250


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_a_value_or_a_typed_error(name: str) -> None:
    for data in islice(inputs(name, 1), INPUTS):
        assert not fault_of(TARGETS[name], data), data


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_failed_once_are_answered(name: str) -> None:
    for data in (b"", *TARGETS[name].seeds, *kept(name)):
        assert not fault_of(TARGETS[name], data), data


def test_a_fault_is_seen() -> None:
    def read(data: bytes) -> object:
        return data[3]

    assert "IndexError" in fault_of(Target(read, (ValueError,), ()), b"ab")
    assert not fault_of(Target(read, (IndexError,), ()), b"ab")


@pytest.mark.parametrize(("seconds", "fault"), [((0.1,), ""), ((9, 0.1), ""), ((9, 8, 7), "took 7.0 s")])
def test_a_reader_is_slow_if_it_is_slow_each_time(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], fault: str
) -> None:
    now_s, left = [0.0], list(seconds)
    monkeypatch.setattr("time.thread_time", lambda: now_s[0])

    def read(_data: bytes) -> None:
        now_s[0] += left.pop(0)

    assert fault_of(Target(read, (ValueError,), ()), b"") == fault
    assert not left


def test_fuzzing_that_is_guided_looks_only_at_what_reads_the_bytes() -> None:
    target = TARGETS["IMAP"]
    modules = modules_of(lambda data: bool(fault_of(target, data)), target.seeds)
    assert "huahuo.mailcheck.servers.imap_grammar" in modules
    assert not [name for name in modules if name.startswith(("huahuo.app", "huahuo.eventstore"))]
    names = {each.__qualname__ for each in functions_of(sys.modules["huahuo.mailcheck.servers.imap_grammar"])}
    assert any("." in name for name in names)
    assert any("." not in name for name in names)
