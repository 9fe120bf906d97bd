"""Whose token a command signs in with: what the command line says comes before `HUAHUO_TOKEN`."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from huahuo.cli.main import main
from huahuo.errors import ConfigError
from huahuo.transport.client.client import Client

ENVIRON, GIVEN, OF_DIRECTORY = "of-the-environment", "as-given", "the directory's key"
AT = "http://127.0.0.1:9"
COMMANDS = [
    f"tail {AT} group/ops",
    f"publish group/ops seen --url {AT}",
    f"cluster status --url {AT}",
    f"cluster drain web-2 --url {AT}",
    f"cluster remove web-2 --url {AT}",
    f"cluster trim --url {AT}",
    f"cluster finalize --url {AT}",
]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command with `HUAHUO_TOKEN`; it ends when it asks for a token, and says which one it has."""

    def source(token: str | None, *_: object) -> None:
        raise ConfigError(token or OF_DIRECTORY)

    def of_directory(*_: object) -> None:
        raise ConfigError(OF_DIRECTORY)

    for place in ("app.credentials", "cli.publish", "audit.audited_log"):
        monkeypatch.setattr(f"huahuo.{place}.token_source", source)
    monkeypatch.setattr("huahuo.cli.tail.of_directory", of_directory)
    monkeypatch.setattr(Client, "__init__", lambda _self, _url, token="", **_: source(token))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUAHUO_TOKEN", ENVIRON)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["huahuo", *words])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().err.removeprefix("huahuo: ").strip()

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_on_the_command_line_comes_before_the_token_of_the_environment(
    command: str, run: Callable[..., str]
) -> None:
    assert run(*command.split(), "--data", "a") == OF_DIRECTORY
    assert run(*command.split()) == ENVIRON
    assert run(*command.split(), "--data", "a", "--token", GIVEN) == GIVEN
    assert run(*command.split(), "--token", GIVEN, "--data", "a") == GIVEN


def test_a_user_on_the_command_line_comes_before_the_token_of_the_environment(
    run: Callable[..., str],
) -> None:
    signin = ("mailbox", "signin", "a@b.example", "--url", AT)
    assert run(*signin, "--user-id", "7") == OF_DIRECTORY
    assert run(*signin) == ENVIRON
    assert run(*signin, "--data", "a") == ENVIRON
    assert run(*signin, "--user-id", "7", "--token", GIVEN) == GIVEN
