"""What is secret in `--log` does not stay among the arguments of the process."""

import os
import sys
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from huahuo.cli.main import app

SECRET_URLS = [
    "postgres://user:s3cret@127.0.0.1/db",
    "nats://s3cret@127.0.0.1",  # a token
    "nats://a,b?monitor=http://user:s3cret@a:8222",
]


class BegunAnew(Exception):  # noqa: N818  no error
    """The process was replaced."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """The arguments and the variable of each process that was begun in place of this one."""
    made: list[tuple[list[str], str]] = []

    def begin(_program: str, words: Sequence[str], environ: dict[str, str]) -> None:
        made.append((list(words), environ["HUAHUO_LOG"]))
        raise BegunAnew

    monkeypatch.setattr(os, "execve", begin)
    return made


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("command", [["serve"], ["cluster", "adopt"]], ids=["serve", "adopt"])
@pytest.mark.parametrize("in_one_word", [True, False])
def test_an_address_with_a_secret_leaves_the_arguments(
    monkeypatch: pytest.MonkeyPatch,
    begun: list[tuple[list[str], str]],
    command: list[str],
    url: str,
    in_one_word: bool,
) -> None:
    given = [*command, *([f"--log={url}"] if in_one_word else ["--log", url]), "--data", "there"]
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "huahuo", *given])
    found = CliRunner().invoke(app, given)
    assert isinstance(found.exception, BegunAnew)
    assert begun == [(["python", "-m", "huahuo", *command, "--data", "there"], url)]
