"""docs/replay.md: the worked case runs as it is written there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from huahuo.timetravel.commands import app
from tests.support.worlds.recorded import Recorded, environ, recording

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).resolve().parents[2] / "docs" / "replay.md"
COMMANDS = re.findall(r"```sh\nhuahuo replay (.+?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with recording(tmp_path_factory.mktemp("case")) as done:
        yield done


def test_a_mailbox_in_error_is_found_and_explained_in_five_commands(recorded: Recorded) -> None:
    assert recorded.broken == 2, "the page speaks of mailbox/2"
    printed = []
    for command in COMMANDS:
        arguments = [str(recorded.data) if a == "./data" else a for a in shlex.split(command)]
        done = CliRunner().invoke(app, arguments, env=environ())
        assert done.exit_code == 0, f"{command}: {done.output}"
        printed.append(done.stdout)
    assert len(printed) == 5
    state, when, blame, effects, log = printed
    assert 'status = "error"' in state
    assert 'status="error"' in when
    assert "because of" in blame
    assert "check_requested by user/42" in blame
    assert 'status="error"' in effects
    assert 'status: "processing" → "need_reauth"' in log
    assert log.index("need_reauth") < log.index('→ "error"')


def test_every_command_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert f"`{name}" in page, name
